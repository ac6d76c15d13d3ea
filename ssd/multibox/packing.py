"""The detections of a batch as one tensor, so that they leave a device in one copy."""

from jaxtyping import Bool, Float
from torch import Tensor, cat, split

from ssd.structures import BatchDetections, Predictions

_EXTRA = 3  # columns after the detections: their number, damaged, unfinished


def pack(found: BatchDetections, predictions: Predictions, unfinished: Bool[Tensor, "B"]) -> Float[Tensor, "B columns"]:
    """A row of float32 for each image: boxes, scores, labels, their number, whether damaged, whether unfinished.

    An image is damaged if its predictions are not finite: one sum tells, since NaN and infinity survive it. Labels and
    numbers below 2^24 are exact in float32.
    """
    sums = predictions.logits.sum(dim=(1, 2)) + predictions.offsets.sum(dim=(1, 2))
    columns = [
        found.boxes.flatten(1),
        found.scores,
        found.labels,
        found.counts[:, None],
        ~sums.isfinite()[:, None],
        unfinished[:, None],
    ]
    return cat([column.float() for column in columns], dim=1)


def unpack(packed: Float[Tensor, "B columns"]) -> tuple[BatchDetections, Bool[Tensor, "B"], Bool[Tensor, "B"]]:
    """The detections, and which images are damaged and which unfinished."""
    count = (packed.shape[1] - _EXTRA) // 6
    boxes, scores, labels, extra = split(packed, [4 * count, count, count, _EXTRA], dim=1)
    counts, damaged, unfinished = extra.unbind(dim=1)
    found = BatchDetections(boxes.reshape(len(packed), count, 4), scores, labels.long(), counts.long())
    return found, damaged > 0, unfinished > 0
