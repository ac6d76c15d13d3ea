"""The box around a COCO mask in run-length form, as lists of numbers or as the compressed text of pycocotools."""

from itertools import accumulate
from typing import TypeGuard


def box_of_mask(segmentation: object) -> list[float] | None:
    """Left, top, width and height in pixels of the mask's ones; None if there are none, or it is no mask.

    `counts` are the lengths of runs of zeros and ones in turn, down one column after another of an image of
    `size` [height, width]. Only the runs are looked at, so a large `size` takes no memory.
    """
    if not isinstance(segmentation, dict):
        return None
    size, counts = segmentation.get("size"), segmentation.get("counts")
    runs = _decompressed(counts) if isinstance(counts, str) else counts
    if not _are_counts(size) or len(size) != 2 or not _are_counts(runs):
        return None
    height, width = size
    ends = list(accumulate(runs))
    spans = [(start, end - 1) for start, end in zip(ends[0::2], ends[1::2], strict=False) if end > start]
    if not spans or not height or ends[-1] > height * width:
        return None
    left, right = spans[0][0] // height, spans[-1][1] // height
    # A run that reaches the next column covers the bottom of one and the top of the other.
    across = any(start // height != end // height for start, end in spans)
    top = 0 if across else min(start % height for start, _ in spans)
    bottom = height - 1 if across else max(end % height for _, end in spans)
    return [float(left), float(top), float(right - left + 1), float(bottom - top + 1)]


def _are_counts(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**53 for value in values)


def _decompressed(text: str) -> list[int] | None:
    """The counts of a compressed mask: five bits a character; from the fourth on, added to the last but one."""
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, shift = 0, 0
    return None if shift else counts
