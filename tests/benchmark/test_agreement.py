import pytest
import torch

from ssd.benchmark.agreement import EXACT, LOW_PRECISION, Answer, same_detections, same_numbers
from ssd.benchmark.timing import DisagreementError


def answer(*rows):
    """Detections from (box, score, label)."""
    boxes, scores, labels = zip(*rows, strict=True)
    return Answer(torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores), torch.tensor(labels))


def test_numbers_agree_within_a_share_of_their_spread():
    theirs = torch.tensor([0.0, 1.0, 2.0])  # standard deviation 1
    assert "0.1" in same_numbers(theirs + 0.1, theirs, 0.2, "logits")
    with pytest.raises(DisagreementError, match=r"logits differ by 0\.3"):
        same_numbers(theirs + 0.3, theirs, 0.2, "logits")
    with pytest.raises(DisagreementError, match="nan"):
        same_numbers(theirs * torch.nan, theirs, 0.2, "logits")
    with pytest.raises(DisagreementError, match="shapes"):
        same_numbers(theirs[:2], theirs, 0.2, "logits")


TWO = answer(((0, 0, 10, 10), 0.9, 1), ((20, 20, 40, 40), 0.5, 2))


@pytest.mark.parametrize(
    "other",
    [
        answer(((0, 0, 10, 10), 0.9, 2), ((20, 20, 40, 40), 0.5, 2)),  # another label
        answer(((0, 0, 10, 10), 0.8, 1), ((20, 20, 40, 40), 0.5, 2)),  # another score
        answer(((0, 0, 10, 9), 0.9, 1), ((20, 20, 40, 40), 0.5, 2)),  # another box
        answer(((20, 20, 40, 40), 0.5, 2)),  # one is missing
        answer(((0, 0, 10, 10), 0.9, 1), ((0, 0, 5, 5), 0.9, 1), ((20, 20, 40, 40), 0.5, 2)),  # one too many
    ],
)
def test_detections_that_differ_disagree_from_either_side(other):
    assert same_detections([TWO], [TWO], EXACT).startswith("2 of 2")
    for pair in ((TWO, other), (other, TWO)):
        with pytest.raises(DisagreementError, match="have a twin"):
            same_detections([pair[0]], [pair[1]], EXACT)


def test_low_precision_may_move_scores_and_boxes_a_little():
    moved = answer(((0, 0, 10, 9.5), 0.8, 1), ((20, 20, 40, 40), 0.5, 2))
    assert same_detections([TWO], [moved], LOW_PRECISION).startswith("2 of 2")


def test_nothing_detected_proves_nothing():
    nothing = Answer(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    with pytest.raises(DisagreementError, match="nothing was detected"):
        same_detections([nothing], [nothing], EXACT)
