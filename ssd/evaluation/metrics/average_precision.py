"""Average precision of one class from its ranked detections."""

import numpy as np
from jaxtyping import Bool, Float


def area(hits: Bool[np.ndarray, "D"], positives: int) -> float:
    """Area under the precision-recall curve, precision made monotone from the right (VOC 2010 and later).

    `hits` is true for each detection, best score first, that found an object; `positives` is the number of objects.
    Recall rises by one step at every hit, so the area is the sum of the precisions there.
    """
    envelope = np.maximum.accumulate(_precision(hits)[::-1])[::-1]
    return float(envelope[hits].sum() / positives)


def eleven_point(hits: Bool[np.ndarray, "D"], positives: int) -> float:
    """Mean over recalls 0, 0.1, ... 1 of the greatest precision at that recall or beyond (VOC 2007).

    Recall is compared in whole numbers, so that 3 of 10 reaches 0.3; in floats 0.3 < 3 * 0.1.
    """
    precision, found = _precision(hits), np.cumsum(hits)
    heights = [precision[10 * found >= tenth * positives].max(initial=0.0) for tenth in range(11)]
    return float(np.mean(heights))


def _precision(hits: Bool[np.ndarray, "D"]) -> Float[np.ndarray, "D"]:
    precision: np.ndarray = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return precision
