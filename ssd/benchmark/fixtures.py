"""The inputs of all stages: one image, equal weights for both models, synthetic objects and predictions."""

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ssd.benchmark import torchvision_baseline
from ssd.boxes import iou
from ssd.errors import ImageError
from ssd.images.decode import decode
from ssd.inference.detector import Detector
from ssd.inference.load import load
from ssd.multibox.default_boxes import default_boxes
from ssd.settings import Settings
from ssd.structures import Targets
from ssd.system.device import choose_device
from ssd.weights.resolve import read_weights


@dataclass(frozen=True)
class Sizes:
    """Sizes of the inputs; tests use smaller ones."""

    columns: int = 91  # classes with background
    batch: int = 8
    loss_batch: int = 32
    objects: int = 7  # in an image, on average
    eval_images: int = 5000


@dataclass(frozen=True)
class Fixtures:
    """The device, the image and the weights, and the models built from them on first use."""

    device: torch.device
    jpeg: bytes
    weights: Path  # a state dict of torchvision's SSD300
    sizes: Sizes = Sizes()
    compiled: bool = False  # whether this package's training step goes through torch.compile

    @functools.cached_property
    def torchvision_model(self) -> Any:
        """torchvision's model, in evaluation mode."""
        return torchvision_baseline.load_model(self.weights).to(self.device)

    @functools.cached_property
    def settings(self) -> Settings:
        """This package's settings for these weights."""
        return read_weights(self.weights)[1]

    @functools.cached_property
    def default_boxes(self) -> Float[Tensor, "K 4"]:
        """This package's default boxes, as fractions of the image, on the device."""
        return default_boxes(self.settings.boxes).to(self.device)

    @functools.cached_property
    def torchvision_default_boxes(self) -> Float[Tensor, "K 4"]:
        """torchvision's default boxes, in pixels, on the device."""
        boxes = self.settings.boxes
        return torchvision_baseline.default_boxes(self.torchvision_model, boxes.grids, boxes.input_size, self.device)

    def detector(self, precision: str = "auto", backend: str = "auto") -> Detector:
        """This package's detector with the same weights."""
        if precision == "int8":
            from ssd.benchmark.quantised import int8_detector

            return int8_detector(self.weights, self.jpeg)
        return load(self.weights, device=str(self.device), precision=precision, backend=backend)

    def inputs(self, count: int) -> UInt8[Tensor, "B 3 S S"]:
        """Images of the network's size, all different, in the memory layout that data workers deliver."""
        side = self.settings.network.input_size
        image = cv2.resize(decode(self.jpeg), (side, side), interpolation=cv2.INTER_AREA)
        shifted = np.stack([np.roll(image, 17 * index, axis=(0, 1)) for index in range(count)])
        return torch.from_numpy(shifted).permute(0, 3, 1, 2)

    def targets(self, images: int) -> Targets:
        """Objects of many sizes.

        Each has a unique best default box: otherwise the result would depend on rounding, or on a deliberate difference
        between the two matchers.
        """
        generator = torch.Generator().manual_seed(1)
        objects = [self._objects(generator) for _ in range(images)]
        boxes = pad_sequence([boxes for boxes, _ in objects], batch_first=True)
        labels = pad_sequence([labels for _, labels in objects], batch_first=True, padding_value=-1)
        valid = labels >= 0
        return Targets(boxes, labels.clamp(min=0), torch.zeros_like(valid), valid).to(self.device)

    def _objects(self, generator: torch.Generator) -> tuple[Float[Tensor, "N 4"], Int[Tensor, "N"]]:
        while True:
            count = int(torch.randint(1, 2 * self.sizes.objects, (), generator=generator))
            sides = 0.05 + 0.55 * torch.rand(count, 2, generator=generator) ** 2
            corner = torch.rand(count, 2, generator=generator) * (1 - sides)
            boxes = torch.cat([corner, corner + sides], dim=1)
            labels = torch.randint(0, self.sizes.columns - 1, (count,), generator=generator)
            best = iou(boxes, self.default_boxes.cpu()).topk(2)
            clear = best.values[:, 0] > best.values[:, 1] + 1e-4
            if clear.all() and len(set(best.indices[:, 0].tolist())) == count:
                return boxes, labels


@contextlib.contextmanager
def prepared(
    device: str = "auto", image: Path | None = None, sizes: Sizes | None = None, *, compiled: bool = False
) -> Iterator[Fixtures]:
    """Make the weights in a temporary folder.

    Raises:
        ImageError: `image` is no JPEG, or a damaged one.
    """
    sizes, where = sizes or Sizes(), choose_device(device)
    jpeg = draw_jpeg() if image is None else _read_jpeg(image)
    with tempfile.TemporaryDirectory(prefix="ssd-benchmark-") as folder, torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision_baseline.new_model(sizes.columns).eval()
        torchvision_baseline.make_plausible_(model, torchvision_baseline.as_float(torchvision_baseline.decode(jpeg)))
        weights = Path(folder) / "weights.pth"
        torch.save(model.state_dict(), weights)
        del model
        yield Fixtures(where, jpeg, weights, sizes, compiled)


def draw_jpeg(width: int = 640, height: int = 480) -> bytes:
    """Encode an image with edges and texture at all scales, with about the bytes of a photograph of its size."""
    generator = np.random.default_rng(0)
    image = np.full((height, width, 3), 110, np.float32)
    for cell in (4, 16, 64, 256):
        coarse = generator.normal(0, 22, (-(-height // cell), -(-width // cell), 3)).astype(np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(24):
        x, y = (int(generator.integers(0, side)) for side in (width, height))
        colour = [float(value) for value in generator.integers(0, 256, 3)]
        cv2.ellipse(image, (x, y), (width // 12, height // 16), float(generator.uniform(0, 180)), 0, 360, colour, -1)
    encoded, data = cv2.imencode(".jpg", image.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert encoded
    return bytes(data.tobytes())


def _read_jpeg(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror})", place=path) from None
    if not data.startswith(b"\xff\xd8"):
        raise ImageError("is not a JPEG", place=path, remedy="torchvision's decoder is asked for JPEGs here.")
    decode(data, str(path))
    return data
