"""The state of a run that a checkpoint restores."""

import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ssd.errors import CheckpointError
from ssd.experiment.start import Initialised
from ssd.model.factory import from_settings
from ssd.settings import Settings
from ssd.training.optim import AveragedNetwork

log = logging.getLogger(__name__)

_OF_THE_NETWORK = ("mode", "model.", "preprocessing.", "loss.auxiliary_weight", "data.tiles")  # keys that decide it
_NOT_OF_THE_NETWORK = {"model.box_voting", "model.freeze_stages"}  # the second decides what is trained of it
_HARMLESS = ("name", "output", "data.folder", "data.workers")  # keys without an effect on the result

# Settings of inference, without an effect on training.
_USED_AFTER_TRAINING = ("postprocessing.", "preprocessing.resize")


def saved_start(config: dict[str, Any], saved: dict[str, Any], class_names: tuple[str, ...]) -> Initialised | None:
    """The network of a saved state before its numbers are restored, without the weights that the run started from.

    None where a key that decides the network has changed since, or an older version saved the state.
    """
    changed = {name for name, *_ in _changes(saved["config"], config)}
    if "fresh" not in saved or any(name.startswith(_OF_THE_NETWORK) for name in changed - _NOT_OF_THE_NETWORK):
        return None
    settings = dataclasses.replace(Settings.from_dict(saved["settings"], "the state"), class_names=class_names)
    if "model.box_voting" in changed:
        rules = dataclasses.replace(settings.postprocessing, box_voting=config["model"]["box_voting"])
        settings = dataclasses.replace(settings, postprocessing=rules)
    network = from_settings(settings, auxiliary=config["loss"]["auxiliary_weight"] > 0)
    return Initialised(network, settings, tuple(saved["fresh"]), frozenset(saved["pretrained"]))


@dataclass
class TrainState:
    """Everything a checkpoint restores. Sample order and augmentation depend on seed, epoch and index alone."""

    network: nn.Module
    average: AveragedNetwork
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    config: dict[str, Any]  # in plain types; compared when a run resumes
    settings: Settings
    data: str = ""  # `ssd.data.fingerprint` of the training images
    steps_per_epoch: int = 0  # 0 if unknown
    step: int = 0  # batches done
    best: float | None = None
    evaluated: int = 0  # the step of the last evaluation
    since_best: int = 0  # evaluations since `best`
    missed_best_box: int = 0  # objects so far that were not matched to their best default box
    fresh: tuple[str, ...] = ()  # as `Initialised` has them, so that a resumed run reads no weights to start from
    pretrained: frozenset[str] = frozenset()
    unlogged: list[list[float]] = field(default_factory=list)  # `LossMonitor.unlogged` where a signal stopped the run

    def out_of_patience(self, patience: int | None) -> bool:
        """Whether that many evaluations brought no better AP."""
        return patience is not None and self.since_best >= patience

    def to_dict(self) -> dict[str, Any]:
        """Plain types and tensors only, so that loading executes nothing."""
        saved = {
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict() if self.average.decay else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "config": self.config,
            "settings": self.settings.to_dict(),
            "data": self.data,
            "steps_per_epoch": self.steps_per_epoch,
            "step": self.step,
            "best": self.best,
            "evaluated": self.evaluated,
            "since_best": self.since_best,
            "missed_best_box": self.missed_best_box,
            "fresh": list(self.fresh),
            "pretrained": sorted(self.pretrained),
            "unlogged": self.unlogged,
            "torch_rng": torch.get_rng_state(),
        }
        if self._device.type == "cuda":
            saved["cuda_rng"] = torch.cuda.get_rng_state(self._device)  # dropout draws from it
        return saved

    def restore(self, saved: dict[str, Any], place: object) -> None:
        """Restore a saved state.

        Raises:
            CheckpointError: it was trained on other classes or images, with another network, other default boxes,
                other trainable layers or another number of steps in an epoch, or by an older version.
        """
        self._check_same(saved, place)
        try:
            self.network.load_state_dict(saved["network"])
        except RuntimeError as error:
            detail = str(error).splitlines()[-1].strip()
            raise CheckpointError(
                f"belongs to another network ({detail})",
                place=place,
                remedy="Resume with the config the run was started with.",
            ) from None
        if self.average.decay:
            self.average.network.load_state_dict(saved["average"] or saved["network"])
        self._restore_optimizer(saved["optimizer"], place)
        if saved["scaler"]:  # empty unless the run was trained in fp16
            self.scaler.load_state_dict(saved["scaler"])
        self.step, self.evaluated = saved["step"], saved["evaluated"]
        self.best, self.since_best = saved["best"], saved["since_best"]
        self.missed_best_box, self.unlogged = saved["missed_best_box"], saved.get("unlogged", [])
        torch.set_rng_state(saved["torch_rng"])
        if self._device.type == "cuda" and "cuda_rng" in saved:
            torch.cuda.set_rng_state(saved["cuda_rng"], self._device)

    def _restore_optimizer(self, saved: dict[str, Any], place: object) -> None:
        """Restore the momentum of every weight; the options of the groups stay those of this config."""
        options = [{key: group[key] for key in group if key != "params"} for group in self.optimizer.param_groups]
        try:
            self.optimizer.load_state_dict(saved)
        except ValueError:
            raise CheckpointError(
                "trained other layers, or groups of them",
                place=place,
                remedy="Resume with its model.freeze_stages and optim.backbone_lr_factor; "
                "or start a new run from its weights: model.weights=FILE without --resume.",
            ) from None
        for group, own in zip(self.optimizer.param_groups, options, strict=True):
            group.update(own)

    def _check_same(self, saved: dict[str, Any], place: object) -> None:
        """Refuse a state of other classes, images or settings, and log the keys of the config that have changed."""
        if "settings" not in saved:
            remedy = "Start another run from its weights: model.weights=FILE, without --resume."
            raise CheckpointError("was written by an older version of this package", place=place, remedy=remedy)
        names = tuple(saved["settings"]["class_names"])
        if names != self.settings.class_names:
            raise CheckpointError(
                f"was trained on {', '.join(names)}; the data has {', '.join(self.settings.class_names)}",
                place=place,
                remedy="To start from its weights with other classes, use model.weights=FILE without --resume.",
            )
        if self.data and saved.get("data", self.data) != self.data:
            raise CheckpointError(
                f"was trained on other images or objects ({_folders(saved['config']['data'])})",
                place=place,
                remedy="Resume with that data; to go on with other data, use model.weights=FILE without --resume.",
            )
        started = Settings.from_dict(saved["settings"], str(place))  # adds keys that older versions lack
        for key, before, now in _changes(dataclasses.asdict(started), dataclasses.asdict(self.settings)):
            if key.startswith(_USED_AFTER_TRAINING):
                log.warning("changed since the run was started: %s was %s, is %s", key, before, now)
                continue
            raise CheckpointError(
                f"was trained with {key} {before}, not {now}",
                place=place,
                remedy="Resume with the config the run was started with, and with the same weights to start from.",
            )
        steps = saved.get("steps_per_epoch", self.steps_per_epoch)
        if self.steps_per_epoch and steps != self.steps_per_epoch:
            raise CheckpointError(
                f"was trained with {steps} steps in an epoch, not {self.steps_per_epoch}",
                place=place,
                remedy="Resume with its train.batch_size, data.balance and data.tiles; "
                "or start a new run from its weights: model.weights=FILE without --resume.",
            )
        for key, before, now in _changes(saved["config"], self.config):
            log.warning("changed since the run was started: %s was %s, is %s", key, before, now)

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device


def _folders(data: dict[str, Any]) -> str:
    return ", ".join(given["path"] for given in data.get("folders") or ()) or str(data["folder"])


def _changes(before: dict[str, Any], now: dict[str, Any], group: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield changed keys with their old and new values, except those without an effect on the result."""
    for key in now:
        name = f"{group}{key}"
        if isinstance(now[key], dict) and not group:  # inside a group a dict is a value, such as loss.class_weights
            yield from _changes(before.get(key, {}), now[key], f"{name}.")
        elif name not in _HARMLESS and key in before and before[key] != now[key]:
            yield name, before[key], now[key]
