import torch

from ssd.multibox.class_thresholds import keep_by_class
from ssd.structures import BatchDetections


def test_each_class_has_its_own_threshold_and_rows_move_up_in_their_order() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.6, 0.4, 0.0], [0.7, 0.3, 0.0, 0.0, 0.0]])
    labels = torch.tensor([[0, 1, 0, 1, 0], [1, 0, 0, 0, 0]])
    boxes = torch.arange(10.0).reshape(2, 5, 1).expand(2, 5, 4) / 10
    kept = keep_by_class(BatchDetections(boxes, scores, labels, torch.tensor([4, 2])), (0.7, 0.3))
    assert kept.counts.tolist() == [3, 1]
    torch.testing.assert_close(kept.scores, torch.tensor([[0.9, 0.8, 0.4, 0, 0], [0.7, 0, 0, 0, 0]]))
    assert kept.labels[0, :3].tolist() == [0, 1, 1]
    torch.testing.assert_close(kept.boxes[0, :, 0], torch.tensor([0.0, 0.1, 0.3, 0, 0]))


def test_a_score_equal_to_the_threshold_is_not_above_it_and_padding_is_nothing() -> None:
    found = BatchDetections(
        torch.zeros(1, 2, 4), torch.tensor([[0.5, 0.0]]), torch.zeros(1, 2).long(), torch.ones(1).long()
    )
    assert keep_by_class(found, (0.5,)).counts.tolist() == [0]
    assert keep_by_class(found, (0.0,)).counts.tolist() == [1]


def test_what_is_not_kept_is_zero_in_every_column() -> None:
    found = BatchDetections(torch.ones(1, 2, 4), torch.tensor([[0.9, 0.4]]), torch.tensor([[0, 1]]), torch.tensor([2]))
    kept = keep_by_class(found, (0.5, 0.5))
    assert (kept.scores[0, 1], kept.labels[0, 1], kept.boxes[0, 1].any()) == (0, 0, False)


def test_no_images_are_no_detections() -> None:
    none = BatchDetections(torch.zeros(0, 3, 4), torch.zeros(0, 3), torch.zeros(0, 3).long(), torch.zeros(0).long())
    assert keep_by_class(none, (0.5,)).scores.shape == (0, 3)
