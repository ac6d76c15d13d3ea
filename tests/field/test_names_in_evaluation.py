"""Classes that are spelt differently in the detector and the data: said with the nearest name (row B20)."""

import logging

import pytest

from ssd.errors import EvaluationError
from ssd.evaluation.class_map import match_classes


@pytest.mark.parametrize(
    ("known", "written"), [("cat", "Cat"), ("traffic light", "traffic_light"), ("motorcycle", "motorcycles")]
)
def test_a_renamed_class_is_said_to_have_no_ap_and_the_nearest_name_is_given(known, written, caplog):
    with caplog.at_level(logging.WARNING):
        classes = match_classes(("dog", known), ("dog", written))
    assert classes.missing == (written,)
    assert classes.to_data.tolist() == [0, -1]
    assert f"does not know {written}: their AP is 0." in caplog.text
    assert f"did you mean {known!r} for {written!r}?" in caplog.text


def test_names_that_are_all_renamed_are_paired_in_the_error():
    with pytest.raises(EvaluationError, match=r"did you mean 'cat' for 'CAT', 'dog' for 'Dog'\?"):
        match_classes(("cat", "dog", "bird"), ("CAT", "Dog"))


def test_a_name_that_is_like_none_gets_no_advice(caplog):
    with caplog.at_level(logging.WARNING):
        match_classes(("cat", "dog"), ("dog", "unicorn"))
    assert "does not know unicorn: their AP is 0" in caplog.text
    assert "did you mean" not in caplog.text


def test_a_name_that_both_have_is_never_offered(caplog):
    with caplog.at_level(logging.WARNING):
        match_classes(("cat", "dog"), ("cat", "Cat"))
    assert "did you mean" not in caplog.text
