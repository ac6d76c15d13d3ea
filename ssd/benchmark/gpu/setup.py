"""The inputs of all sections: the device, sizes, networks with random weights, synthetic targets and images."""

import contextlib
import functools
import io
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ssd.benchmark.timing import seconds
from ssd.data.shapes.dataset import draw, shapes
from ssd.inference.device_steps import DeviceSteps
from ssd.inference.runtime.open import open_runtime
from ssd.model.factory import from_settings, settings_for
from ssd.model.ssd import SSD
from ssd.multibox.default_boxes import default_boxes
from ssd.settings import LossRules, Settings
from ssd.structures import Predictions, Targets
from ssd.system.device import choose_dtype
from ssd.training.optim import AveragedNetwork, new_sgd, parameter_groups, set_lr
from ssd.training.step import TrainStep


@dataclass(frozen=True)
class Setup:
    """The device and the sizes; `tiny` is for tests of the check on a CPU."""

    device: torch.device
    tiny: bool = False

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes that are timed."""
        return (1, 2) if self.tiny else (1, 8, 32, 128)

    @property
    def calls(self) -> int:
        """Number of calls for a median."""
        return 2 if self.tiny else 20

    @property
    def dtype(self) -> torch.dtype:
        """That of a training with `train.precision=auto`; on a CPU always bf16."""
        return choose_dtype("auto" if self.device.type == "cuda" else "bf16", self.device)

    @functools.cached_property
    def settings(self) -> Settings:
        """SSD300 with 90 classes; tiny: a narrow network of 3."""
        names = tuple(f"class {number}" for number in range(3 if self.tiny else 90))
        if self.tiny:
            return settings_for(names, input_size=80, backbone="vgg11", width=0.05)
        return settings_for(names, input_size=300, table="coco")

    @functools.cached_property
    def network(self) -> SSD:
        """A network with random weights, on the CPU."""
        torch.manual_seed(0)
        return from_settings(self.settings).eval()

    @functools.cached_property
    def default_boxes(self) -> Float[Tensor, "K 4"]:
        """The default boxes, on the CPU."""
        return default_boxes(self.settings.boxes)

    def generator(self, seed: int) -> torch.Generator:
        """A random generator with the same numbers on every machine."""
        return torch.Generator().manual_seed(seed)

    def targets(self, images: int, seed: int = 0) -> Targets:
        """Targets with seven objects per image."""
        generator = self.generator(seed)
        corners = torch.rand(images, 7, 2, 2, generator=generator)
        boxes = torch.cat([corners.amin(2), corners.amax(2) + 0.02], dim=-1).clamp(max=1)
        labels = torch.randint(0, self.settings.num_classes, (images, 7), generator=generator)
        flags = torch.zeros(images, 7, dtype=torch.bool)
        return Targets(boxes, labels, flags, ~flags)

    def pixels(self, images: int, seed: int = 0) -> UInt8[Tensor, "B 3 S S"]:
        """Images of noise in blocks; zeros would need less power, and so less time."""
        side = self.settings.network.input_size
        small = torch.randint(0, 256, (images, 3, side // 4, side // 4), generator=self.generator(seed))
        return small.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., :side, :side].to(torch.uint8)

    def predictions(self, images: int, *, worst: bool, seed: int = 0) -> Predictions:
        """Predictions of an untrained network (`worst`), or of a trained one: mostly background."""
        generator, count = self.generator(seed), len(self.default_boxes)
        logits = torch.randn(images, count, self.settings.num_classes + 1, generator=generator)
        if not worst:
            logits[..., 0] += 9
            for image in logits:
                places = torch.randint(0, count, (60,), generator=generator)
                image[places, torch.randint(1, image.shape[1], (60,), generator=generator)] += 11
        return Predictions(torch.randn(images, count, 4, generator=generator) * 0.3, logits)

    def jpegs(self, count: int) -> list[bytes]:
        """Synthetic images of 640 x 480 pixels as JPEG bytes; tiny: 160 x 160."""
        side = 160 if self.tiny else 640
        data, files = shapes("val", count, side), []
        for record in data.records:
            pixels = draw(record, split="val", seed=0)[: side if self.tiny else 480]
            buffer = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=90)
            files.append(buffer.getvalue())
        return files

    def train_step(self, device: torch.device, dtype: torch.dtype, *, lr: float = 1e-3, frozen: int = 0) -> TrainStep:
        """A training step with its own copy of the same weights."""
        torch.manual_seed(0)
        network = from_settings(self.settings).to(device).to(memory_format=torch.channels_last)
        for name, parameter in network.named_parameters():
            if name.startswith(tuple(f"backbone.conv{stage}_" for stage in range(1, frozen + 1))):
                parameter.requires_grad_(False)
        optimizer = new_sgd(parameter_groups(network, weight_decay=5e-4))
        set_lr(optimizer, lr)
        step = TrainStep(
            network,
            AveragedNetwork(network, 0.998),
            optimizer,
            torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
            default_boxes=self.default_boxes.to(device),
            preprocessing=self.settings.preprocessing,
            rules=LossRules(),
            variances=self.settings.boxes.variances,
            dtype=dtype,
            clip_norm=10.0,
        )
        step.train()
        return step

    def steps(self, precision: str = "auto", *, graphs: bool) -> DeviceSteps:
        """The steps of detection on the device, also where that is the CPU, with or without CUDA graphs."""
        runtime = open_runtime(self.network, device=str(self.device), precision=precision, backend="torch")
        steps = DeviceSteps(runtime, self.settings)
        steps.graphs.enabled = graphs and self.device.type == "cuda"
        return steps

    def inputs(self, images: int, seed: int = 0) -> UInt8[Tensor, "B 3 S S"]:
        """`pixels` as `DeviceSteps.preprocess` gives them: channels last, in pinned memory where there is a GPU."""
        pixels = self.pixels(images, seed).contiguous(memory_format=torch.channels_last)
        return pixels.pin_memory() if self.device.type == "cuda" else pixels

    def milliseconds(self, call: Callable[[], object]) -> float:
        """Median duration by the device's clock, from idle to the last kernel; on the CPU by the wall clock."""
        call()
        return 1000 * statistics.median_high(seconds(call, 1, self.device) for _ in range(self.calls))


@contextlib.contextmanager
def no_hidden_wait(device: torch.device) -> Iterator[None]:
    """Raise an error for every operation that makes the host wait for a CUDA device."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def one_step(step: TrainStep, pixels: Tensor, targets: Targets, updates: int) -> Tensor:
    """Forward, match, loss, backward, update; returns the loss, on the device."""
    images, objects = step.to_device(pixels, targets)
    losses = step.loss(step.forward(images), objects, step.match(objects))
    step.backward(losses)
    step.update(updates)
    return losses.total.detach()
