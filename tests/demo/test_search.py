import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import ssd
from ssd.demo.search import Search
from ssd.errors import ArgumentError, ImageDecodeError
from ssd.weights.native import load_weights, save_weights
from tests.commands.small_detector import save_small_weights, write_image


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return save_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


def searching(*choices: object) -> Search:
    return Search([str(choice) for choice in choices], device="cpu", precision="fp32", backend="torch")


def test_an_answer_says_what_detect_says_and_shows_a_small_copy(weights, tmp_path):
    photo = write_image(tmp_path / "large.png", 1000, 2000)
    answer = searching(weights).find(photo, str(weights))
    expected = ssd.load(weights, device="cpu", precision="fp32", backend="torch").detect(photo)
    assert (answer.found.boxes == expected.boxes).all()
    assert answer.shown.shape == (800, 1600, 3)
    best = expected.filter(min_score=float(expected.scores[4]))
    assert json.loads(answer.json(float(expected.scores[4])))["detections"] == best.to_dict()["detections"]
    assert json.loads(answer.json(0.0))["path"] == "large.png"
    drawn = answer.drawn(float(expected.scores[0]))
    changed = (drawn != answer.shown).any(axis=2)
    x1, _, x2, y2 = np.rint(expected.boxes[0] * 0.8).astype(int)
    assert changed[min(y2, 800) - 1, (x1 + x2) // 2]  # the lower edge of the best box, at the size of the page
    assert answer.summary(1.0).startswith("**0 objects** in 2000 x 1000 pixels. Reading ")
    assert len(expected) == len(answer.above(0.0))


def test_without_a_threshold_the_weights_own_ones_hold(weights, tmp_path):
    state, settings, _ = load_weights(weights)
    rules = dataclasses.replace(settings.postprocessing, own_thresholds=(0.2, 0.02))
    own = tmp_path / "own.safetensors"
    save_weights(own, state, dataclasses.replace(settings, postprocessing=rules))
    photo = write_image(tmp_path / "photo.png")
    plain, answer = (searching(path).find(photo, str(path)) for path in (weights, own))
    expected = ssd.load(own, device="cpu", precision="fp32", backend="torch").detect(photo, score_threshold="own")
    assert (plain.has_own, answer.has_own) == (False, True)
    assert json.loads(answer.json(None))["detections"] == expected.to_dict()["detections"]
    assert answer.summary(None).startswith(f"**{len(expected)} object")
    assert len(plain.above(None)) == len(plain.above(0.5))
    assert (answer.drawn(None) != answer.shown).any()


def test_only_what_the_page_offers_is_loaded(weights, tmp_path):
    search = searching(weights)
    with pytest.raises(ArgumentError, match="is not one of the choices"):
        search.load("/etc/passwd")
    assert search.load(str(weights)) is search.load(str(weights))


def test_what_is_no_image_is_named_without_the_folder_of_uploads(weights, tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    with pytest.raises(ImageDecodeError, match=r"^notes\.png: is not an image"):
        searching(weights).find(tmp_path / "notes.png", str(weights))


def test_an_image_that_was_deleted_is_asked_for_again(weights, tmp_path):
    with pytest.raises(ImageDecodeError, match=r"photo\.png: was deleted some minutes after it came\. Drop it again"):
        searching(weights).find(tmp_path / "photo.png", str(weights))
