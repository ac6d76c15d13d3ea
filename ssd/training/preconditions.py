"""Checks before a run for mistakes that would stop it later."""

import hashlib
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssd.data.dataset import Dataset
from ssd.data.index import paths_of
from ssd.errors import CheckpointError, ConfigError, DatasetError, counted
from ssd.experiment.config import Config, TrainConfig
from ssd.experiment.start import freeze
from ssd.experiment.starting_settings import starting_settings
from ssd.model.factory import from_settings
from ssd.system import distributed
from ssd.system.device import choose_dtype
from ssd.training.run_folder import has_states

_BACKBONE_WEIGHTS = ("auto", "imagenet", "imagenet_features", "none")


def check_text(values: Mapping[str, Any]) -> None:
    """Refuse text that cannot be written as UTF-8, such as half a surrogate pair.

    Raises:
        ConfigError: names the key and shows the text.
    """
    for key, text in _texts(values, ""):
        try:
            text.encode()
        except UnicodeEncodeError:
            remedy = "Rename it; for a folder, a link with another name will do (ln -s FOLDER LINK)."
            raise ConfigError(f"{text!a} is not valid Unicode", place=key, remedy=remedy) from None


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, key)


def check_network(config: Config, device: torch.device) -> None:
    """Refuse a network that cannot be built or trained, before any data is read or weights are fetched.

    Raises:
        SSDError: it cannot, or `model.weights` cannot be read.
    """
    choose_dtype(config.train.precision, device)
    start = config.model.backbone_weights
    if config.model.weights is None and start not in _BACKBONE_WEIGHTS and not Path(start).is_file():
        remedy = f"Use {', '.join(_BACKBONE_WEIGHTS)}, or the path of a file."
        raise ConfigError(f"there is no file {start!r}", place="model.backbone_weights", remedy=remedy)
    settings = starting_settings(config, ("object",))
    with torch.device("meta"):  # computes nothing
        network = from_settings(settings, auxiliary=config.loss.auxiliary_weight > 0).to("meta")
    freeze(network, config.model.freeze_stages)
    if config.train.batch_size <= distributed.world_size():
        _check_batch_norm(network, settings.network.input_size)


def _check_batch_norm(network: nn.Module, input_size: int) -> None:
    """Refuse to train with one image per process where BatchNorm would get a single value of a channel.

    Raises:
        ConfigError: a BatchNorm would.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            network.train()(torch.zeros(1, 3, input_size, input_size, device="meta"))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            "BatchNorm cannot be trained with one image per process, where a level is one cell",
            place="train.batch_size",
            remedy="Use train.batch_size=2 (of each process), or model.extras_norm=group.",
        ) from None


def check_batch_size(config: Config, images: int, steps: int) -> None:
    """Refuse more images in a batch, or batches in an update, than an epoch has.

    A batch of the default size is filled up with images for a second time.

    Raises:
        ConfigError: there are more.
    """
    largest = max(images, TrainConfig.batch_size)
    if config.train.batch_size > largest:
        problem = f"{config.train.batch_size} is more than the {counted(images, 'image')} of an epoch"
        raise ConfigError(problem, place="train.batch_size", remedy=f"Use {largest} or less.")
    if config.optim.accumulate > steps:
        problem = f"{config.optim.accumulate} is more than the {counted(steps, 'batch', 'batches')} of an epoch"
        raise ConfigError(problem, place="optim.accumulate", remedy=f"Use {steps} or less.")


def check_states(folder: Path) -> None:
    """Check that a run does not start afresh while another machine has its states.

    Raises:
        CheckpointError: it does.
    """
    hosts = distributed.gather_objects(socket.gethostname() if has_states(folder) else None)
    for number, host in enumerate(hosts):
        if host is not None:
            problem = f"rank {number} ({host}) has states of this run, but rank 0 has none"
            remedy = "Keep the first machine first (torchrun --node-rank), or use a folder that all of them share."
            raise CheckpointError(problem, place=folder, remedy=remedy)


def check_agreement(config: Config, data: Dataset) -> None:
    """Check that every rank trains on the same data with the same config.

    Raises:
        DatasetError: they differ.
    """
    if distributed.world_size() == 1:
        return
    facts = repr((config, data.class_names, list(paths_of(data.records))))
    digest = hashlib.sha256(facts.encode()).hexdigest()
    if len(set(distributed.gather_objects(digest))) > 1:
        raise DatasetError("the processes disagree on the config or the data", remedy="Start all with the same.")
