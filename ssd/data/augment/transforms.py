"""The training augmentation of section 2.2, as one albumentations pipeline seeded per sample.

albumentations 2.0.8 repeats its draws in every worker and epoch unless it is seeded for every sample; with such seeds
the result does not depend on the number of workers. Only training imports this module, which takes about a second.
"""

import dataclasses
import os
import random
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks the package index for a newer version

import albumentations as A

from ssd.data.augment.crops import PAPER_CROP, PAPER_EXPANSION, Switches, draw_geometry, visible
from ssd.data.augment.photometric import Colours, distort, draw_colours
from ssd.data.augment.warp import Colour, Geometry, by_steps, in_one_warp, move_boxes
from ssd.structures import Sample

Order = Literal["paper", "warp"]


# A JPEG below a megapixel is decoded in a millisecond or two; decoding it at a reduced size saves little.
_WORTH_SHRINKING = 1_000_000


@dataclasses.dataclass(frozen=True)
class Plan:
    """One draw of all random numbers of a sample, made before its image is decoded."""

    colours: Colours
    geometry: Geometry
    shrink: int  # how many times smaller the image may be decoded: 1, 2, 4 or 8


class TrainTransform:
    """Distort, expand, crop, resize and mirror a sample into a `size` x `size` one.

    `order="paper"` applies every step to the full-size image, `order="warp"` resamples once and then changes colours;
    draws and boxes are the same. `fill` is the colour around an expanded image, the network's mean. `extra` are further
    albumentations transforms, applied last. The other switches are those of `AugmentConfig`.
    """

    def __init__(
        self,
        size: int,
        *,
        fill: Colour,
        order: Order = "warp",
        photometric: bool = True,
        expand: float = PAPER_EXPANSION,
        crop: float = PAPER_CROP,
        mirror: bool = True,
        flip_vertical: bool = False,
        extra: Sequence[A.BasicTransform] = (),
    ) -> None:
        self._size, self._order, self._photometric = size, order, photometric
        self._switches = Switches(expand, crop, mirror, flip_vertical)
        # Crops keep boxes by SSD's rules, not by albumentations': labels, difficult and crowd follow by row number.
        boxes = A.BboxParams(
            "pascal_voc", label_fields=["rows", "crowd"], clip=True, min_width=1 - 1e-3, min_height=1 - 1e-3
        )
        steps = [_Augment(size, fill, order), *extra]
        self._pipeline = A.Compose(steps, bbox_params=boxes, seed=0)

    def plan(
        self,
        shape: tuple[int, int],
        boxes: Float[np.ndarray, "N 4"],
        crowd: Bool[np.ndarray, "N"],
        seed: Sequence[int],
    ) -> Plan:
        """Draw for an image of `shape` (height, width) with these objects; the draws depend on `seed` alone."""
        generator = np.random.default_rng(list(seed))
        height, width = shape
        inside = boxes.astype(np.float64).clip(0, [width, height, width, height])
        # Colours are drawn first in both orders.
        colours = draw_colours(generator) if self._photometric else Colours()
        geometry = draw_geometry(generator, shape, inside, crowd, size=self._size, switches=self._switches)
        worth_it = self._order == "warp" and height * width >= _WORTH_SHRINKING
        return Plan(colours, geometry, geometry.spare if worth_it else 1)

    def __call__(self, sample: Sample, seed: Sequence[int], plan: Plan | None = None) -> Sample:
        """Augment a sample by `plan`, or by a new draw that depends on `seed` alone, such as (seed, epoch, index).

        Boxes of the result are pixels of the new image. A sample that was decoded at a reduced size needs its plan.
        """
        if plan is None:
            assert sample.shrink == 1, "the size of the whole image is not known"
            plan = self.plan(sample.image.shape[:2], sample.boxes, sample.crowd, seed)
        # Other transforms have a random stream of their own, which does not repeat the draws made here.
        generator = np.random.default_rng([*seed, 1])
        self._pipeline.set_random_state(generator, random.Random(repr(tuple(seed))))
        rows = np.arange(len(sample.boxes))
        result = self._pipeline(
            image=sample.image,
            bboxes=sample.boxes / sample.shrink,
            rows=rows,
            crowd=sample.crowd.astype(np.int64),
            plan=plan,
            shrink=sample.shrink,
        )
        kept = np.asarray(result["rows"], np.int64)
        return dataclasses.replace(
            sample,
            image=result["image"],
            boxes=np.asarray(result["bboxes"], np.float32).reshape(-1, 4),
            labels=sample.labels[kept],
            difficult=sample.difficult[kept],
            crowd=sample.crowd[kept],
            shrink=1,
        )


class _Augment(A.DualTransform):  # type: ignore[misc]
    """SSD's colours and geometry, which albumentations lacks. Boxes carry their row and whether they are a crowd."""

    def __init__(self, size: int, fill: Colour, order: Order) -> None:
        super().__init__(p=1.0)
        self.size, self.fill = size, fill
        self.render = {"paper": by_steps, "warp": in_one_warp}[order]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Pass on the plan."""
        return {"colours": data["plan"].colours, "geometry": data["plan"].geometry, "shrink": data["shrink"]}

    def apply(self, img: np.ndarray, colours: Colours, geometry: Geometry, shrink: int, **params: Any) -> np.ndarray:
        """Apply colours and geometry to the image."""
        return self.render(img, geometry, self.fill, lambda image: distort(image, colours), shrink)

    def apply_to_bboxes(
        self, bboxes: Float[np.ndarray, "N F"], geometry: Geometry, shrink: int, **params: Any
    ) -> np.ndarray:
        """Move the boxes that the crop keeps, as fractions of the new image."""
        if len(bboxes) == 0:
            return bboxes  # without the columns for row and crowd
        height, width = (shrink * side for side in params["shape"][:2])
        boxes = bboxes[:, :4].astype(np.float64) * [width, height, width, height]
        # What the plan keeps is kept here too, where the boxes went through fractions in 32 bits.
        slack = 1e-6 * max(height, width)
        kept = visible(boxes, np.array([geometry.crop]), self.size, bboxes[:, 5] > 0, slack=slack)[0]
        moved = move_boxes(boxes[kept], geometry) / self.size
        return np.concatenate([moved, bboxes[kept, 4:]], axis=1).astype(np.float32)
