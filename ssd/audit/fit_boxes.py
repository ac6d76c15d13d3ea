"""Fits the sizes and aspect ratios of the default boxes of every level to a data set.

Levels, cells and the number of boxes in a cell stay, so the network keeps its shape and its speed. As in the paper, the
larger square of a level depends on the next level's size. The search starts from the better of the two tables and from
the quantiles of the object sizes, and changes one number at a time as long as that reaches the training objects better.
Objects have their annotated sizes; training also crops and shrinks images, so a small gain is not worth a fit.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import torch
from jaxtyping import Float
from torch import Tensor

from ssd.multibox.best_overlaps import REACHED, best_overlaps
from ssd.settings import BoxSettings

_FACTORS = (0.7, 0.85, 0.93, 1.07, 1.18, 1.4)
_RATIOS = (1.5, 2.0, 2.5, 3.0, 4.0)
_SMALLEST, _LARGEST = 0.02, 1.05  # fractions of the image
_ROUNDS = 6
_ENOUGH = 1e-3  # a step that gains less is noise
_SAMPLE = 3000  # objects


@dataclass(frozen=True)
class Shapes:
    """The fitted numbers: one size more than there are levels, as fractions of the image, and each level's ratios."""

    sizes: tuple[float, ...]
    ratios: tuple[tuple[float, ...], ...]

    def settings(self, base: BoxSettings) -> BoxSettings:
        """The settings `base` with these boxes."""
        pixels = [size * base.input_size for size in self.sizes]
        return dataclasses.replace(
            base, min_sizes=tuple(pixels[:-1]), max_sizes=tuple(pixels[1:]), aspect_ratios=self.ratios
        )

    def config(self) -> dict[str, list[float] | list[list[float]]]:
        """The equivalent keys of `model` in a config."""
        return {
            "min_sizes": list(self.sizes[:-1]),
            "max_sizes": list(self.sizes[1:]),
            "aspect_ratios": [list(ratios) for ratios in self.ratios],
        }


def fit(boxes: Float[Tensor, "N 4"], *starts: BoxSettings) -> Shapes:
    """Find sizes and ratios that reach these boxes (fractions of the image, one at least) best.

    `starts` are default boxes of the same levels; the search also starts from the sizes of the objects themselves.
    Nothing is drawn at random.
    """
    sample = boxes[:: max(1, len(boxes) // _SAMPLE)]
    score = _scorer(sample, starts[0])
    begin = [_as_shapes(start) for start in starts]
    begin.append(dataclasses.replace(begin[0], sizes=_quantiles(sample, len(begin[0].sizes))))
    best = max(begin, key=score)
    reached = score(best)
    changes = _changes(best)
    for _ in range(_ROUNDS):
        before = reached
        for change in changes:
            other = max(change(best), key=score, default=best)
            if score(other) > reached + _ENOUGH:
                reached, best = score(other), other
        if reached == before:
            break
    return best


def _scorer(boxes: Float[Tensor, "N 4"], base: BoxSettings) -> Callable[[Shapes], float]:
    """Share of boxes with a best IoU of 0.5 or more, plus the mean best IoU, which changes where the share does not."""

    @cache  # a step changes one level or two
    def overlaps(level: int, small: float, large: float, ratios: tuple[float, ...]) -> Tensor:
        alone = dataclasses.replace(
            base,
            grids=base.grids[level : level + 1],
            steps=base.steps[level : level + 1],
            min_sizes=(small * base.input_size,),
            max_sizes=(large * base.input_size,),
            aspect_ratios=(ratios,),
        )
        return best_overlaps(boxes, alone)

    @cache
    def score(shapes: Shapes) -> float:
        levels = zip(shapes.sizes[:-1], shapes.sizes[1:], shapes.ratios, strict=True)
        best = torch.stack([overlaps(level, *numbers) for level, numbers in enumerate(levels)]).amax(dim=0)
        return float((best >= REACHED).float().mean() + best.mean())

    return score


def _as_shapes(settings: BoxSettings) -> Shapes:
    pixels = (*settings.min_sizes, settings.max_sizes[-1])
    return Shapes(tuple(round(size / settings.input_size, 3) for size in pixels), settings.aspect_ratios)


def _quantiles(boxes: Float[Tensor, "N 4"], count: int) -> tuple[float, ...]:
    """Sizes evenly spaced among those of the objects, made to grow."""
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()
    spaced = torch.quantile(sides, torch.linspace(0.05, 0.98, count)).clamp(_SMALLEST, _LARGEST).tolist()
    sizes: list[float] = []
    for size in spaced:
        sizes.append(round(max(size, 1.1 * sizes[-1]) if sizes else size, 3))
    return tuple(sizes)


def _changes(shapes: Shapes) -> list[Callable[[Shapes], Iterator[Shapes]]]:
    """The changes of one round, one number at a time: the sizes from fine to coarse, then the ratios."""
    ratios = [(level, place) for level, own in enumerate(shapes.ratios) for place in range(len(own))]
    return [
        *(partial(_resized, place=place) for place in range(len(shapes.sizes))),
        *(partial(_reshaped, level=level, place=place) for level, place in ratios),
    ]


def _resized(shapes: Shapes, *, place: int) -> Iterator[Shapes]:
    """The shapes with another size at one place, still between its neighbours."""
    sizes = shapes.sizes
    low = sizes[place - 1] if place else _SMALLEST
    high = sizes[place + 1] if place + 1 < len(sizes) else max(_LARGEST, sizes[-1])
    for factor in _FACTORS:
        size = round(sizes[place] * factor, 3)
        if low < size < high:
            yield dataclasses.replace(shapes, sizes=(*sizes[:place], size, *sizes[place + 1 :]))


def _reshaped(shapes: Shapes, *, level: int, place: int) -> Iterator[Shapes]:
    """The shapes with another aspect ratio at one place, none twice in a level."""
    own = shapes.ratios[level]
    for ratio in _RATIOS:
        if ratio not in own:
            changed = tuple(sorted((*own[:place], ratio, *own[place + 1 :])))
            yield dataclasses.replace(shapes, ratios=(*shapes.ratios[:level], changed, *shapes.ratios[level + 1 :]))
