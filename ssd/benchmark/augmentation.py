"""The augmentation stage: from a JPEG and its boxes to the network's input, on one core."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torchvision import tv_tensors

from ssd.benchmark import torchvision_baseline
from ssd.benchmark.fixtures import Fixtures
from ssd.benchmark.timing import Comparison, DisagreementError
from ssd.data.augment.transforms import TrainTransform
from ssd.images.decode import decode, decode_shrunk
from ssd.images.preprocess import mean_colour, normalise
from ssd.structures import Sample

_DRAWS = 20  # checked first, then timed together, since one may take ten times as long as another
_PATCHES = 30  # along each side of the image

Prepared = tuple[Float[Tensor, "3 S S"], Float[Tensor, "N 4"]]


def augmentation(fixtures: Fixtures) -> Comparison:
    """Decode, augment, resize, normalise. Random draws differ, so only common properties are checked."""
    ours, theirs = _Ours(fixtures), _Theirs(fixtures)

    def check() -> str:
        for name, side in (("ours", ours), ("theirs", theirs)):
            for _ in range(_DRAWS):
                _check_one(name, side(), fixtures.settings.network.input_size)
        return f"{_DRAWS} draws of each are whole; {_same_without_draws(ours, theirs)}"

    return Comparison(ours, theirs, check, one_core=True, repeats=_DRAWS)


class _Ours:
    """The default transform of `ssd.data`, planned and seeded for every sample as in a data worker."""

    def __init__(self, fixtures: Fixtures) -> None:
        self.jpeg, self.preprocessing, self.index = fixtures.jpeg, fixtures.settings.preprocessing, 0
        side, fill = fixtures.settings.network.input_size, mean_colour(self.preprocessing)
        self.transform = TrainTransform(side, fill=fill)
        self.plain = TrainTransform(side, fill=fill, photometric=False, expand=1.0, crop=1.0, mirror=False)
        fractions, self.labels = _objects(fixtures)
        self.shape = height, width = decode(fixtures.jpeg).shape[:2]
        self.boxes = fractions.numpy() * np.array([width, height, width, height], np.float32)

    def __call__(self, *, plain: bool = False) -> Prepared:
        self.index += 1
        transform, seed = self.plain if plain else self.transform, (0, 0, self.index)
        nothing = np.zeros(len(self.boxes), bool)
        plan = transform.plan(self.shape, self.boxes, nothing, seed)
        image, shrink = decode_shrunk(self.jpeg, plan.shrink)
        sample = Sample(image, self.boxes, self.labels.numpy(), nothing, nothing, "benchmark", 0, shrink)
        sample = transform(sample, seed, plan)
        pixels = torch.from_numpy(sample.image).permute(2, 0, 1)
        return normalise(pixels[None], self.preprocessing)[0], torch.from_numpy(sample.boxes)


class _Theirs:
    """The pipeline of torchvision's references on tensors, then the resize, which is part of its model."""

    def __init__(self, fixtures: Fixtures) -> None:
        self.jpeg, self.to_network = fixtures.jpeg, fixtures.torchvision_model.transform
        red, green, blue = mean_colour(fixtures.settings.preprocessing)
        self.transform = torchvision_baseline.augmentation((float(red), float(green), float(blue)))
        self.fractions, self.labels = _objects(fixtures)

    def __call__(self, *, plain: bool = False) -> Prepared:
        image = torchvision_baseline.decode(self.jpeg)
        if plain:
            image, target = torchvision_baseline.as_float(image), self._target(image)
        else:
            image, target = self.transform(tv_tensors.Image(image), self._target(image))
        images, targets = self.to_network([image], [target])
        return images.tensors[0], targets[0]["boxes"]

    def _target(self, image: Tensor) -> dict[str, Tensor]:
        height, width = image.shape[1:]
        boxes = self.fractions * torch.tensor([width, height, width, height])
        return {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),
            "labels": self.labels + 1,
        }


def _objects(fixtures: Fixtures) -> tuple[Tensor, Tensor]:
    """Boxes as fractions and labels of the synthetic image with a number of objects nearest to the mean."""
    targets = fixtures.targets(fixtures.sizes.batch)
    counts = targets.valid.sum(dim=1)
    row = int((counts - fixtures.sizes.objects).abs().argmin())
    valid = targets.valid[row]
    return targets.boxes[row, valid].cpu(), targets.labels[row, valid].cpu()


def _check_one(name: str, prepared: Prepared, side: int) -> None:
    image, boxes = prepared
    if image.shape != (3, side, side) or not torch.isfinite(image).all():
        raise DisagreementError(f"{name} made an image of shape {tuple(image.shape)}, or one that is not finite")
    inside = (boxes >= -1e-3).all() and (boxes <= side + 1e-3).all()
    if not inside or not (boxes[:, 2:] > boxes[:, :2]).all():
        raise DisagreementError(f"{name} made boxes that are empty or outside: {boxes.tolist()}")


def _same_without_draws(ours: _Ours, theirs: _Theirs) -> str:
    """Compare the results without any augmentation: a resize of 8-bit pixels here, of floats in torchvision.

    This package filters where it shrinks, torchvision picks single pixels: patches are compared, not pixels.
    """
    (image, boxes), (other, other_boxes) = ours(plain=True), theirs(plain=True)
    levels = float((F.adaptive_avg_pool2d(image, _PATCHES) - F.adaptive_avg_pool2d(other, _PATCHES)).abs().mean())
    pixels = float((boxes - other_boxes).abs().max())
    if not (levels < 2 and pixels < 0.01):
        raise DisagreementError(
            f"without draws images differ by {levels:.2g} grey levels, boxes by {pixels:.2g} pixels"
        )
    return f"without draws {levels:.1g} grey levels and {pixels:.0g} pixels apart"
