import contextlib
import io
import json
import logging
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ssd.errors import ArgumentError, EvaluationError, MissingExtraError
from ssd.evaluation.metrics.coco import MAX_DETECTIONS, CocoMetric, recall_name, to_xywh
from ssd.structures import Record
from tests.evaluation.metrics.made import found, hand_in, random_case, record

A, B = (10, 10, 50, 50), (60, 60, 160, 160)
NAMES = ["a", "b", "c"]
SUMMARY = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


@pytest.mark.parametrize("seed", range(10))
def test_equals_pycocotools_on_the_files_people_would_write(seed: int, tmp_path: Path) -> None:
    records, detections = random_case(seed, special=False)
    metric = hand_in(CocoMetric(records, NAMES, [1, 3, 90]), detections)
    metric.write_results(tmp_path / "detections.json")
    stats = _pycocotools(_annotations(records, [1, 3, 90]), json.loads((tmp_path / "detections.json").read_text()))
    figures = metric.compute()
    for name, expected in zip(SUMMARY, stats, strict=True):
        assert figures[name] == (None if expected == -1 else pytest.approx(expected, abs=1e-12)), name


def test_crowd_regions_equal_pycocotools(tmp_path: Path) -> None:
    records, detections = random_case(5, images=30)
    records = [_without_difficult(item) for item in records]
    assert any(item.crowd.any() for item in records)
    metric = hand_in(CocoMetric(records, NAMES), detections)
    metric.write_results(tmp_path / "detections.json")
    stats = _pycocotools(_annotations(records, [1, 2, 3]), json.loads((tmp_path / "detections.json").read_text()))
    assert [metric.compute()[name] for name in SUMMARY] == pytest.approx([None if s == -1 else s for s in stats])


def test_equal_scores_are_ranked_by_the_ids_of_the_images_as_pycocotools_does(tmp_path: Path) -> None:
    records = [record(9, [A], [0]), record(3, [A, B], [0, 0]), record(5)]
    detections = {9: found((A, 1.0, 0)), 3: found(((0, 90, 20, 120), 1.0, 0)), 5: found()}
    metric = hand_in(CocoMetric(records, ["a"], keep_matches=True), detections)
    metric.write_results(tmp_path / "results.json")
    stats = _pycocotools(_annotations(records, [1]), json.loads((tmp_path / "results.json").read_text()))
    assert metric.compute()["AP"] == pytest.approx(stats[0], abs=1e-12)
    matches = metric.matches().tables[0][0]
    assert matches.objects.tolist() == [1, 2, 0], "of the records in their order"
    assert matches.images.tolist() == [1, 0], "ranked by the ids"


def test_a_difficult_object_may_be_found_once() -> None:
    records = [record(1, [A, B], [0, 0], difficult=[True, False])]
    once = {1: found((A, 0.9, 0), (B, 0.8, 0))}
    twice = {1: found((A, 0.9, 0), (A, 0.9, 0), (B, 0.8, 0))}
    never = {1: found((B, 0.8, 0))}
    aps = [hand_in(CocoMetric(records, ["cat"]), case).compute()["AP"] for case in (once, twice, never)]
    assert aps == pytest.approx([1.0, 0.5, 1.0])


def test_perfect_detections_score_one_whatever_the_ids() -> None:
    # Annotation and image id 0 make pycocotools answer 0.5 if passed on as they are.
    records = [record(0, [A], [0]), record("b", [B], [1])]
    detections = {0: found((A, 0.9, 0)), "b": found((B, 0.9, 1))}
    assert hand_in(CocoMetric(records, ["x", "y"], [0, 90]), detections).compute()["AP"] == pytest.approx(1.0)


def test_nothing_found_is_zero_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        figures = hand_in(CocoMetric([record(1, [A], [0])], ["cat", "dog"]), {1: found()}).compute()
    assert (figures["AP"], figures["AP50"], figures["AR100"]) == (0.0, 0.0, 0.0)
    assert figures["per_class"]["dog"] == {
        **dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl")),
        "objects": 0,
    }
    assert "nothing was detected" in caplog.text


def test_no_objects_have_no_figures() -> None:
    figures = hand_in(CocoMetric([record(1)], ["cat"]), {1: found((A, 0.9, 0))}).compute()
    assert {figures[name] for name in SUMMARY} == {None}


def test_nothing_at_all_is_printed_and_figures_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    records, detections = random_case(1)
    figures = hand_in(CocoMetric(records, NAMES), detections).compute()
    assert capsys.readouterr().out == ""
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_results_file_has_the_ids_of_the_data(tmp_path: Path) -> None:
    metric = hand_in(CocoMetric([record(139, [A], [1])], ["x", "y"], [1, 90]), {139: found((A, 0.5, 1))})
    metric.write_results(tmp_path / "results.json")
    rows = json.loads((tmp_path / "results.json").read_text())
    assert rows == [{"image_id": 139, "category_id": 90, "bbox": [10.0, 10.0, 40.0, 40.0], "score": 0.5}]


def test_corners_become_corner_and_sides() -> None:
    assert to_xywh(np.array([[1, 2, 4, 8]], dtype=np.float32)) == [[1.0, 2.0, 3.0, 6.0]]


def test_a_hundred_detections_are_among_the_limits() -> None:
    assert MAX_DETECTIONS == (1, 10, 100)


@pytest.mark.parametrize("backend", ["pycocotools", "fast"])
def test_more_detections_than_a_hundred_count_where_they_are_asked_for(backend: str) -> None:
    """150 objects of one class, all found: a hundred detections reach two thirds of them."""
    if backend == "fast":
        pytest.importorskip("faster_coco_eval", reason="needs the extra fast-eval")
    boxes = [(x * 12, y * 12, x * 12 + 10, y * 12 + 10) for x in range(15) for y in range(10)]
    case = [record(1, boxes, [0] * 150)], {1: found(*((box, 0.9 - 0.001 * i, 0) for i, box in enumerate(boxes)))}
    usual, more = (
        hand_in(CocoMetric(case[0], ["cell"], backend=backend, max_detections=limit), case[1]).compute()
        for limit in (100, 500)
    )
    assert usual["AR100"] == pytest.approx(2 / 3)
    assert usual["AP50"] == pytest.approx(67 / 101)
    assert more["AR500"] == more["AP50"] == pytest.approx(1.0)
    assert "AR100" not in more
    assert (more["AR1"], recall_name(more), recall_name(usual)) == (usual["AR1"], "AR500", "AR100")


def test_the_limit_is_more_than_the_second_recalls() -> None:
    with pytest.raises(ArgumentError, match="max_detections: 10 is too small"):
        CocoMetric([], [], max_detections=10)


def test_every_class_needs_an_id() -> None:
    with pytest.raises(EvaluationError, match="1 category ids for 2 classes"):
        CocoMetric([], ["a", "b"], [1])


def test_the_fast_evaluator_is_silent(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("faster_coco_eval", reason="needs the extra fast-eval")
    box = (0, 0, 10, 10)
    with caplog.at_level(logging.INFO):
        hand_in(CocoMetric([record(1, [box], [0])], ["cell"], backend="fast"), {1: found((box, 0.9, 0))}).compute()
    assert (caplog.text, *capsys.readouterr()) == ("", "", "")


@pytest.mark.parametrize("seed", range(4))
def test_the_fast_evaluator_gives_the_same_figures(seed: int) -> None:
    pytest.importorskip("faster_coco_eval", reason="needs the extra fast-eval")
    records, detections = random_case(seed, images=50)
    assert any(item.difficult.any() for item in records)
    assert any(item.crowd.any() for item in records)
    fast, expected = (hand_in(CocoMetric(records, NAMES, backend=name), detections) for name in ("fast", "pycocotools"))
    assert _flat(fast.compute()) == pytest.approx(_flat(expected.compute()), abs=1e-9)


@pytest.mark.parametrize("objects", [True, False])
def test_the_fast_evaluator_agrees_on_nothing_found_and_nothing_to_find(objects: bool) -> None:
    pytest.importorskip("faster_coco_eval", reason="needs the extra fast-eval")
    records = [record(1, [A] if objects else [], [0] if objects else []), record(2)]
    for detections in ({1: found(), 2: found()}, {1: found((A, 0.5, 0)), 2: found((A, 0.9, 0))}):
        fast, expected = (
            hand_in(CocoMetric(records, NAMES, backend=name), detections) for name in ("fast", "pycocotools")
        )
        assert _flat(fast.compute()) == _flat(expected.compute())


def test_without_the_fast_evaluator_it_says_at_once_what_to_install() -> None:
    with mock.patch.dict(sys.modules, {"faster_coco_eval": None}), pytest.raises(MissingExtraError, match="fast-eval"):
        CocoMetric([record(1)], ["cat"], backend="fast")


def _flat(figures: dict[str, object]) -> dict[str, float]:
    """Every figure under one name, classes included; -1 for None."""
    per_class = figures["per_class"]
    assert isinstance(per_class, dict)
    rows = [("", figures), *per_class.items()]
    return {
        f"{group} {name}": -1.0 if value is None else float(value)  # type: ignore[arg-type]
        for group, row in rows
        for name, value in row.items()
        if name != "per_class"
    }


def _without_difficult(item: Record) -> Record:
    return record(item.image_id, item.boxes.tolist(), item.labels.tolist(), crowd=item.crowd.tolist())


def _annotations(records: list[Record], category_ids: list[int]) -> dict[str, object]:
    """Ground truth as a COCO file has it, written down here independently."""
    rows = []
    for item in records:
        for (x1, y1, x2, y2), label, crowd in zip(item.boxes.tolist(), item.labels, item.crowd, strict=True):
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": int(crowd)}
            row = {"id": len(rows) + 1, "image_id": item.image_id, "category_id": category_ids[label]}
            rows.append({**row, **box})
    return {
        "images": [{"id": item.image_id} for item in records],
        "categories": [{"id": number} for number in category_ids],
        "annotations": rows,
    }


def _pycocotools(annotations: dict[str, object], results: list[dict[str, object]]) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = annotations
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [float(value) for value in evaluator.stats]
