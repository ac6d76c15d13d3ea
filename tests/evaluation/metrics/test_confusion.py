import numpy as np

from ssd.evaluation.metrics.confusion import confusion_matrix
from ssd.structures import Record
from tests.evaluation.metrics.made import found, record

A, B, FAR = (0, 0, 100, 100), (100, 100, 200, 200), (0, 150, 40, 190)
CAT, DOG, NOTHING = 0, 1, 2


def table(record_: Record, *rows: tuple[tuple[int, ...], float, int], threshold: float = 0.5) -> list[list[int]]:
    return confusion_matrix([(record_, found(*rows))], 2, threshold).tolist()


def test_worked_example() -> None:
    # A cat found, a dog taken for a cat, a cat nobody saw, and a dog where there is nothing.
    truth = record(1, [A, B, (100, 0, 180, 80)], [CAT, DOG, CAT])
    assert table(truth, (A, 0.9, CAT), (B, 0.8, CAT), (FAR, 0.7, DOG)) == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]


def test_the_best_score_takes_the_object_whatever_its_class() -> None:
    truth = record(1, [A], [CAT])
    assert table(truth, (A, 0.6, CAT), (A, 0.9, DOG)) == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_below_the_threshold_nothing_was_said() -> None:
    assert table(record(1, [A], [CAT]), (A, 0.4, CAT), (FAR, 0.3, DOG)) == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_difficult_objects_and_crowds_do_not_count() -> None:
    truth = record(1, [A, B], [CAT, DOG], difficult=[True, False], crowd=[False, True])
    assert np.sum(table(truth, (A, 0.9, CAT), (B, 0.8, DOG))) == 0


def test_nothing_found_and_nothing_there() -> None:
    assert np.sum(table(record(1))) == 0
    assert table(record(1), (A, 0.9, CAT)) == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert table(record(1, [A], [DOG])) == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
