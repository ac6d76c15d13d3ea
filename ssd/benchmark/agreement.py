"""Whether this package and torchvision give equal numbers or detections."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from ssd.benchmark.timing import DisagreementError
from ssd.boxes import iou


@dataclass(frozen=True)
class Answer:
    """Detections of one image: boxes in any unit, labels from 0."""

    boxes: Float[Tensor, "D 4"]
    scores: Float[Tensor, "D"]
    labels: Int[Tensor, "D"]


@dataclass(frozen=True)
class Tolerance:
    """The largest differences between corresponding detections."""

    score: float  # relative
    iou: float
    share: float  # of the detections that must have a counterpart


# In equal precision only rounding differs, which changes about one decision between two boxes in a thousand. bf16 has
# three digits; with untrained weights it moves scores by several percent, and so changes the order of close ones.
EXACT = Tolerance(score=1e-3, iou=0.999, share=0.995)
LOW_PRECISION = Tolerance(score=0.25, iou=0.8, share=0.85)
EIGHT_BITS = Tolerance(score=0.5, iou=0.5, share=0.85)


def same_numbers(ours: Tensor, theirs: Tensor, tolerance: float, what: str) -> str:
    """Compare by the greatest difference, as a share of the spread of `theirs`."""
    if ours.shape != theirs.shape:
        raise DisagreementError(f"{what}: shapes {tuple(ours.shape)} and {tuple(theirs.shape)}")
    theirs = theirs.float()
    difference = float((ours.float() - theirs).abs().max() / theirs.std())
    if not difference <= tolerance:
        raise DisagreementError(f"{what} differ by {difference:.2g} of their spread, at most {tolerance:g} expected")
    return f"{what} within {difference:.1g} of their spread"


def same_detections(ours: list[Answer], theirs: list[Answer], tolerance: Tolerance) -> str:
    """Find for every detection a counterpart with the same label and nearly the same box and score."""
    if len(ours) != len(theirs):
        raise DisagreementError(f"{len(ours)} and {len(theirs)} images")
    twins = total = 0
    for mine, other in zip(ours, theirs, strict=True):
        for some, all_ in ((mine, other), (other, mine)):
            wanted = _safe(some, all_, tolerance)
            total += len(wanted.scores)
            twins += int(_has_twin(wanted, all_, tolerance).sum())
    if total == 0:
        raise DisagreementError("nothing was detected, so nothing can be compared")
    text = f"{twins} of {total} detections have a twin"
    if twins < tolerance.share * total:
        raise DisagreementError(f"{text}, at least {tolerance.share:.1%} expected")
    return text


def _safe(some: Answer, others: Answer, tolerance: Tolerance) -> Answer:
    """Leave out detections that the other side may have cut off: those with about its lowest score or less."""
    least = float(others.scores.min()) * (1 + 2 * tolerance.score) if len(others.scores) else 0.0
    kept = some.scores > least
    return Answer(some.boxes[kept], some.scores[kept], some.labels[kept])


def _has_twin(some: Answer, others: Answer, tolerance: Tolerance) -> Tensor:
    near = (some.scores[:, None] - others.scores).abs() <= tolerance.score * some.scores[:, None]
    same = some.labels[:, None] == others.labels
    overlap = iou(some.boxes.double(), others.boxes.double()) >= tolerance.iou
    return (near & same & overlap).any(dim=1)
