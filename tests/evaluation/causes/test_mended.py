"""AP50 with causes mended, of one image whose missed objects share a detection."""

import numpy as np
import pytest

from ssd.evaluation.causes.explain import Cause, Confidence, MissedObject
from ssd.evaluation.causes.mended import Mending
from ssd.evaluation.metrics.details import Details
from tests.evaluation.metrics.made import found, hand_in, record

BESIDE = [(20, 20, 100, 100), (100, 20, 180, 100)], (21, 15, 180, 105)  # both have an IoU of 0.44 with the last
NEAR = [(20, 20, 100, 100), (22, 22, 104, 104)], (20, 20, 101, 101)
CAT, DOG = 0, 1


@pytest.mark.parametrize(
    ("cause", "place", "label"), [(Cause.LOCATION, BESIDE, CAT), (Cause.CLASS, NEAR, DOG), (Cause.LABEL, NEAR, DOG)]
)
def test_two_objects_that_one_detection_missed_are_both_mended(cause: Cause, place: tuple, label: int) -> None:
    cats, box = place
    details = hand_in(Details([record(1, cats, [CAT, CAT])], ["cat", "dog"]), {1: found((box, 0.9, label))})
    mending = Mending(details, [], Confidence(*np.full((4, 2), 0.9)), np.full(2, 0.5))
    missed = [MissedObject(0, row, "1.jpg", (0.0, 0.0, 1.0, 1.0), "cat", cause, "", 0.2, detection=0) for row in (0, 1)]
    assert mending.ap50() == 0
    assert mending.ap50(missed) == pytest.approx(1)
