"""The records of several folders one after another, with the labels of all of them."""

import bisect
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from jaxtyping import Bool, Int

from ssd.data.lazy import LazySequence
from ssd.structures import Record


@dataclass(frozen=True)
class CompleteClasses:
    """The classes of which every object is annotated, for each folder of a joined set; images follow by folder."""

    ends: tuple[int, ...]  # the folder f has the images from ends[f - 1] up to, and without, ends[f]
    classes: Bool[np.ndarray, "F n"]

    def of(self, index: int) -> Bool[np.ndarray, "n"]:
        """Those of one image."""
        return np.asarray(self.classes[bisect.bisect_right(self.ends, index)])


class JoinedRecords(LazySequence[Record]):
    """Records of several splits; each keeps its own arrays, which data workers may share.

    `labels[f]` has the new label for each of split f's; objects whose new label is -1 are left out. An image's id
    becomes `f/id`, with f from 1, since ids of different folders may be equal.
    """

    def __init__(self, parts: Sequence[Sequence[Record]], labels: Sequence[Int[np.ndarray, "_"]]) -> None:
        self._parts, self._labels = tuple(parts), tuple(labels)
        self.ends = tuple(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def item(self, row: int) -> Record:
        """The record of a row."""
        number = bisect.bisect_right(self.ends, row)
        return self._joined(number, self._parts[number][row - (self.ends[number - 1] if number else 0)])

    def _joined(self, number: int, record: Record) -> Record:
        labels = self._labels[number][record.labels]
        kept = labels >= 0
        return dataclasses.replace(
            record,
            image_id=f"{number + 1}/{record.image_id}",
            boxes=record.boxes[kept],
            labels=labels[kept],
            difficult=record.difficult[kept],
            crowd=record.crowd[kept],
            areas=record.areas[kept],
        )
