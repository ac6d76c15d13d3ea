"""A program: the training loop on a pretended device, whose tensors have no numbers; prints its waits as JSON.

PyTorch cannot go backward through pretended CUDA tensors on a machine without a GPU. It can on a device registered
from Python, which lasts until the process ends; hence a program. Nothing in the package asks for CUDA by name between
the batch and the update, except the automatic casts, which `test_no_waiting.py` covers for the forward pass.
"""

import json
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils import backend_registration
from tqdm import tqdm

from ssd.model import factory
from ssd.multibox.default_boxes import default_boxes
from ssd.settings import LossRules, Settings
from ssd.structures import Batch, Targets
from ssd.training.optim import AveragedNetwork, Schedule, parameter_groups
from ssd.training.parts import RunParts
from ssd.training.plan import Plan
from ssd.training.signals import StopRequest
from ssd.training.step import TrainStep
from ssd.training.trainer import Trainer
from tests.waits import Waits

DEVICE = "pretended"
SIZE, IMAGES, OBJECTS = 64, 2, 3
PLAN = Plan(epochs=1, steps_per_epoch=4, batch_size=IMAGES, accumulate=2, log_every=4, eval_every=1, patience=None)


class PretendedTensors(FakeTensorMode):
    """A mode whose tensors can be copied with their network, as the average of the weights is made."""

    def __deepcopy__(self, memo: object) -> "PretendedTensors":
        return self


class _Device(backend_registration._DummyBackendModule):
    def is_available(self) -> bool:
        return False  # then FakeTensorMode never tries to initialise it

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float32, torch.float16, torch.bfloat16]


def register() -> None:
    """Make the device known to PyTorch, for the rest of this process."""
    backend_registration._setup_privateuseone_for_python_backend(DEVICE, backend_module=_Device())


def moved(network: nn.Module, device: str) -> nn.Module:
    """The network on a pretended device, in channels-last memory; `Module.to` refuses such a device."""
    for module in network.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                weights = parameter.detach().to(device)
                if weights.dim() == 4:
                    weights = weights.to(memory_format=torch.channels_last)
                module._parameters[name] = nn.Parameter(weights, parameter.requires_grad)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = buffer.to(device)
    return network


def pretended_step(mode: FakeTensorMode, settings: Settings, device: str, **options: Any) -> TrainStep:
    """A training step with all that a run has: groups, fused SGD, clipping, the average of the weights."""
    with unset_fake_temporarily():
        boxes = mode.from_tensor(default_boxes(settings.boxes))
    network = moved(factory.from_settings(settings), device)
    optimizer = torch.optim.SGD(parameter_groups(network, weight_decay=5e-4), lr=1e-3, momentum=0.9, fused=True)
    scaled = options.pop("scaled", False)
    return TrainStep(
        network,
        AveragedNetwork(network, 0.9),
        optimizer,
        torch.amp.GradScaler(device, enabled=scaled),
        default_boxes=boxes.to(device),
        preprocessing=settings.preprocessing,
        rules=LossRules(label_smoothing=0.1, negative_iou=0.4),
        variances=settings.boxes.variances,
        clip_norm=10.0,
        **options,
    )


def pretended_batch(*, masked: bool = False) -> Batch:
    """A batch on the host, as a data worker hands it over; `masked` as from folders with other classes."""
    targets = Targets(
        boxes=torch.empty(IMAGES, OBJECTS, 4),
        labels=torch.empty(IMAGES, OBJECTS, dtype=torch.long),
        crowd=torch.empty(IMAGES, OBJECTS, dtype=torch.bool),
        valid=torch.empty(IMAGES, OBJECTS, dtype=torch.bool),
        complete=torch.empty(IMAGES, 3, dtype=torch.bool) if masked else None,
    )
    images = torch.empty(IMAGES, SIZE, SIZE, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    return Batch(images, targets, ids=(1, 2), paths=("a.jpg", "b.jpg"))


def waits_of_an_epoch(*, backbone: str, scaled: bool, masked: bool) -> list[list[str]]:
    """Train one epoch with the loop of the package; the waits of each step."""
    settings = factory.settings_for(("a", "b"), input_size=SIZE, width=0.05, backbone=backbone)
    rows: list[dict[str, Any]] = []
    with PretendedTensors() as mode, Waits(DEVICE) as waits:
        step = pretended_step(mode, settings, DEVICE, accumulate=PLAN.accumulate, scaled=scaled)
        state = SimpleNamespace(
            step=PLAN.steps_per_epoch,  # the first step of a run reads its loss, to warn about a hopeless start
            network=step.network,
            optimizer=step.optimizer,
            missed_best_box=0,
            unlogged=[],
        )
        before: list[int] = []

        def epoch(number: int, start: int) -> Iterator[Batch]:
            for _ in range(start, PLAN.steps_per_epoch):
                before.append(len(waits.found))
                yield pretended_batch(masked=masked)

        parts = SimpleNamespace(
            plan=PLAN,
            settings=settings,
            state=state,
            step=step,
            schedule=Schedule(1e-3, PLAN.updates),
            watched=tuple(name for name, _ in step.network.named_modules() if "conv8" in name or "conv9" in name),
            loader=SimpleNamespace(epoch=epoch, workers=2),
            logs=SimpleNamespace(train=SimpleNamespace(write=rows.append)),
        )
        trainer = Trainer(cast(RunParts, parts), StopRequest(), progress=False)
        assert trainer._train_epoch(1, 0, tqdm(disable=True))
    assert ["dead_units" in row for row in rows] == [True]
    ends = [*before[1:], len(waits.found)]
    return [waits.found[start:end] for start, end in zip(before, ends, strict=True)]


if __name__ == "__main__":
    register()
    cases: list[dict[str, Any]] = [
        {"backbone": "vgg11", "scaled": False, "masked": False},
        {"backbone": "vgg11_bn", "scaled": True, "masked": True},
    ]
    json.dump([waits_of_an_epoch(**case) for case in cases], sys.stdout)
