"""Trains torchvision's SSD300 by its references' recipe: its network, loss and augmentation, on this package's data."""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.models import VGG16_Weights
from torchvision.models.detection import ssd300_vgg16

from ssd.benchmark.torchvision_baseline import augmentation
from ssd.data.dataset import Dataset
from ssd.errors import CheckpointError, SSDError
from ssd.system.device import choose_dtype
from ssd.training.checkpoints import load_state, save_state
from ssd.training.convolutions import fast_convolutions_of_vgg, memory_format_of_vgg
from ssd.weights.files.tensors import read_tensors

IMAGENET, RANDOM = "imagenet", "none"
_FILL = (123.0, 117.0, 104.0)  # mean colour of the references, around a zoomed-out image
_WARM_UP, _MOST_WARM_UP = 0.1, 200  # share of the steps, steps
_DECAYS = (2 / 3, 8 / 9)  # of the steps, after each of which the learning rate is a tenth
_FIRST_OF_EXTRA = 23  # index in VGG16's `features`: from the fourth pooling on, layers are in the SSD's `extra.0`

_TENSORS = 26  # weights and biases of VGG16's 13 convolutions


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of torchvision's reference: SGD with warm-up and two decays."""

    steps: int
    batch_size: int = 8
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_grad_norm: float = 10.0
    autocast: bool = False  # bfloat16
    workers: int = 0
    seed: int = 0

    def lr_factor(self, step: int) -> float:
        """The share of `lr` at a step, from 0."""
        warm_up = min(_MOST_WARM_UP, int(self.steps * _WARM_UP))
        if step < warm_up:
            return (step + 1) / warm_up
        return float(0.1 ** sum(step >= self.steps * decay for decay in _DECAYS))


def new_model(num_classes: int, backbone: str = IMAGENET) -> nn.Module:
    """torchvision's `ssd300_vgg16`, every layer trainable.

    `backbone`: "imagenet" (torchvision's weights, fetched once), "none", or a file with VGG16's `features.*`.

    Raises:
        CheckpointError: the file is not one of VGG16's convolutions.
    """
    weights = VGG16_Weights.IMAGENET1K_FEATURES if backbone == IMAGENET else None
    model: nn.Module = ssd300_vgg16(
        weights=None,
        weights_backbone=weights,
        num_classes=num_classes + 1,
        trainable_backbone_layers=5 if weights is not None else None,  # without weights nothing is frozen anyway
    )
    if backbone not in (IMAGENET, RANDOM):
        state = {
            _in_ssd(name): value.float()
            for name, value in read_tensors(Path(backbone)).items()
            if name.startswith("features.")
        }
        if len(state) != _TENSORS or model.load_state_dict(state, strict=False).unexpected_keys:
            raise CheckpointError("does not hold VGG16's features.*", place=backbone, remedy="Name another file.")
    return model


def trains_in_bf16(device: torch.device) -> bool:
    """Whether both sides train in bfloat16 on this device; without instructions for it, it is slower than fp32."""
    return choose_dtype("auto", device) == torch.bfloat16


def _in_ssd(name: str) -> str:
    """The name in torchvision's SSD of a tensor of VGG16, such as `features.24.weight`."""
    _, place, kind = name.split(".")
    number = int(place)
    if number < _FIRST_OF_EXTRA:
        return f"backbone.features.{number}.{kind}"
    return f"backbone.extra.0.{number - _FIRST_OF_EXTRA}.{kind}"


def train(
    model: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    device: torch.device,
    log: Callable[[int, float], object],
    state: Path | None = None,
) -> float:
    """Train the model, and return the seconds it took; `log` gets the step, from 1, and its loss.

    Images without objects are left out, as torchvision's references do. `state` names a file that the training is
    saved to after each pass over the images and goes on from; without workers it ends bit for bit like one that was
    not interrupted. The seconds are then those of all calls, without what was lost.
    """
    torch.manual_seed(recipe.seed)
    dtype = torch.bfloat16 if recipe.autocast else torch.float32
    model.to(device).to(memory_format=memory_format_of_vgg(device, dtype)).train()
    convolutions = fast_convolutions_of_vgg(device, dtype)  # as in our training, so that times can be compared
    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.lr_factor)
    loader = _loader(dataset, recipe)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    done, seconds = _restore(state, parts)
    while done < recipe.steps:
        start = time.perf_counter()
        for images, targets in itertools.islice(loader, recipe.steps - done):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.autocast), convolutions:
                losses = model(
                    [image.to(device) for image in images],
                    [{key: value.to(device) for key, value in target.items()} for target in targets],
                )
            loss = sum(losses.values(), torch.zeros((), device=device))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_grad_norm)
            optimizer.step()
            schedule.step()
            done += 1
            log(done, float(loss.detach()))
        seconds += time.perf_counter() - start
        if state is not None:
            _save(state, parts, done, seconds)
    return seconds


def _save(path: Path, parts: Mapping[str, Any], step: int, seconds: float) -> None:
    """Save the training between two passes, with the generator that shuffles and augments."""
    saved = {name: part.state_dict() for name, part in parts.items()}
    saved["schedule"].pop("lr_lambdas", None)
    save_state(path, {**saved, "step": step, "seconds": seconds, "generator": torch.get_rng_state()})


def _restore(path: Path | None, parts: Mapping[str, Any]) -> tuple[int, float]:
    """Load a saved training where there is one, and return its step and its seconds."""
    if path is None or not path.exists():
        return 0, 0.0
    saved = load_state(path)
    saved["schedule"]["lr_lambdas"] = [None]
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    torch.set_rng_state(saved["generator"])
    return saved["step"], saved["seconds"]


def _loader(dataset: Dataset, recipe: Recipe) -> DataLoader[Any]:
    """Shuffled batches of the annotated images."""
    annotated = [index for index, record in enumerate(dataset.records) if (~record.crowd).any()]
    if len(annotated) < recipe.batch_size:
        problem = f"{len(annotated)} images with objects are fewer than a batch of {recipe.batch_size}"
        raise SSDError(problem, place=dataset.name, remedy="Use a smaller --batch-size.")
    return DataLoader(
        _Augmented(dataset, annotated),
        recipe.batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=_collate,
        num_workers=recipe.workers,
    )


class _Augmented(torch.utils.data.Dataset[Any]):
    """Annotated images through torchvision's SSD augmentation."""

    def __init__(self, dataset: Dataset, places: list[int]) -> None:
        self.dataset, self.places = dataset, places
        self.transform = augmentation(_FILL)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> Any:
        sample = self.dataset.load(self.places[row])
        image = tv_tensors.Image(torch.from_numpy(sample.image).permute(2, 0, 1))
        kept = ~sample.crowd
        boxes = tv_tensors.BoundingBoxes(
            torch.from_numpy(sample.boxes[kept]), format="XYXY", canvas_size=sample.image.shape[:2]
        )
        return self.transform(image, {"boxes": boxes, "labels": torch.from_numpy(sample.labels[kept]) + 1})


def _collate(samples: list[Any]) -> tuple[Any, ...]:
    return tuple(zip(*samples, strict=True))
