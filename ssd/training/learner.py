"""What a run trains, and with what: the network on its device, its optimizer, schedule and step, by the config."""

import logging
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ssd.data.loading.loader import TrainLoader
from ssd.errors import ConfigError
from ssd.experiment import config_file as configs
from ssd.experiment.config import Config
from ssd.experiment.start import Initialised, freeze
from ssd.model.initialise import fit_to_data_
from ssd.model.ssd import SSD
from ssd.multibox.default_boxes import default_boxes
from ssd.system.device import choose_dtype
from ssd.training.convolutions import memory_format
from ssd.training.optim import AveragedNetwork, Schedule, new_sgd, parameter_groups
from ssd.training.plan import Plan
from ssd.training.state import TrainState
from ssd.training.step import TrainStep, network_input

log = logging.getLogger(__name__)

_FIT_IMAGES = 16  # number of images on which new layers are scaled


def ready_network(config: Config, start: Initialised, loader: TrainLoader, device: torch.device, *, fresh: bool) -> SSD:
    """Move the network to its device; in a `fresh` run, scale its new layers on the first images."""
    network = start.network.to(device)
    dtype = choose_dtype(config.train.precision, device)
    network.to(memory_format=memory_format(network, device, dtype))
    if fresh and config.mode_rules.scale_new_layers:
        log.info("scaling the new layers on the first images")
        images = network_input(loader.first_images(_FIT_IMAGES), device, start.settings.preprocessing)
        fit_to_data_(network, images, start.fresh)
    freeze(network, config.model.freeze_stages, start.pretrained)
    return network


def new_state(
    config: Config, network: SSD, start: Initialised, data: str, steps_per_epoch: int, device: torch.device
) -> TrainState:
    """The network with its average, optimizer and scaler, before the first step; `data` is a fingerprint."""
    optim = config.optim
    groups = parameter_groups(
        network,
        weight_decay=optim.weight_decay,
        bias_lr_factor=config.mode_rules.bias_lr_factor,
        decay_l2_scale=config.mode_rules.decay_l2_scale,
        pretrained=start.pretrained,
        pretrained_lr_factor=optim.backbone_lr_factor,
    )
    optimizer = new_sgd(groups)
    dtype = choose_dtype(config.train.precision, device)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    average = AveragedNetwork(network, optim.ema)
    return TrainState(
        network,
        average,
        optimizer,
        scaler,
        configs.to_dict(config),
        start.settings,
        data,
        steps_per_epoch,
        fresh=start.fresh,
        pretrained=start.pretrained,
    )


def new_schedule(config: Config, plan: Plan) -> Schedule:
    """The learning rate of every update."""
    optim = config.optim
    assert optim.lr is not None, "resolve the config first"
    return Schedule(optim.lr, plan.updates, optim.warmup, optim.schedule)


def new_step(
    config: Config, state: TrainState, class_weights: Float[Tensor, "C"] | None, device: torch.device
) -> TrainStep:
    """The training step, which changes the state."""
    boxes = state.settings.boxes
    return TrainStep(
        state.network,
        state.average,
        state.optimizer,
        state.scaler,
        default_boxes=default_boxes(boxes).to(device),
        preprocessing=state.settings.preprocessing,
        rules=config.loss,
        variances=boxes.variances,
        class_weights=class_weights,
        dtype=choose_dtype(config.train.precision, device),
        clip_norm=config.optim.clip_norm,
        accumulate=config.optim.accumulate,
        compiled=config.train.compile,
    )


def class_weights_of(config: Config, names: Sequence[str], device: torch.device) -> Float[Tensor, "C"] | None:
    """The weights of background and the classes; None where all are 1.

    Raises:
        ConfigError: a weight is given to a class that the data does not have.
    """
    given = config.loss.class_weights
    unknown = [name for name in given if name not in names]
    if unknown:
        remedy = f"There is: {', '.join(names)}."
        raise ConfigError(f"{unknown[0]!r} is no class", place="loss.class_weights", remedy=remedy)
    if not given:
        return None
    return torch.tensor([1.0, *(given.get(name, 1.0) for name in names)], device=device)
