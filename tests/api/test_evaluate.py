import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import ssd
from ssd.data.shapes.dataset import shapes
from ssd.errors import ArgumentError, DatasetError, EvaluationError
from ssd.evaluation.metrics.intervals import intervals
from tests.commands.test_eval import SHAPES, make_run
from tests.evaluation.metrics.made import record

NAMES = ("circle", "square", "triangle")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "small", NAMES, SHAPES)


def test_a_run_is_evaluated_on_its_own_validation_set_and_nothing_is_written(run: Path) -> None:
    before = sorted(run.iterdir())
    result = ssd.evaluate(run)
    assert (result.dataset.split, result.evaluation.images) == ("val", 6)
    assert set(result.metrics["per_class"]) == {*NAMES, "star"}  # the detector does not know stars
    assert repr(result).startswith(f"<EvaluationResult: AP {result.metrics['AP']:.3f}  AP50 ")
    assert repr(result).endswith("6 images)>")
    assert sorted(run.iterdir()) == before


def test_a_detector_in_memory_meets_an_opened_data_set(run: Path) -> None:
    detector, data = ssd.load(run), shapes("val", count=6, size=64)
    by_path = ssd.evaluate(run, metric=("voc", "coco"))
    in_memory = ssd.evaluate(detector, data, metric=("voc", "coco"))
    assert in_memory.metrics == by_path.metrics == by_path.by_metric["voc"]
    assert in_memory.by_metric["coco"]["AP"] == by_path.by_metric["coco"]["AP"]


def test_a_threshold_holds_for_one_evaluation_only(run: Path) -> None:
    detector, data = ssd.load(run), shapes("val", count=6, size=64)
    assert ssd.evaluate(detector, data, score_threshold=1.0).metrics["detections"] == 0
    assert ssd.evaluate(detector, data).metrics["detections"] > 0


def test_windows_are_searched_and_merged_as_detection_does(run: Path, tmp_path: Path) -> None:
    detector, data = ssd.load(run), shapes("val", count=2, size=100)
    detector.pipeline.settings = dataclasses.replace(detector.settings, tiles=2)
    for tiles in (None, (1, 3)):
        details = tmp_path / f"{tiles}.json"
        result = ssd.evaluate(detector, data, tiles=tiles, results=details, batch_size=4, score_threshold=0.2)
        assert result.tiles == (2 if tiles is None else tiles)
        found = [(row["image_id"], row["score"], *row["bbox"]) for row in json.loads(details.read_text())]
        expected = []
        for sample in map(data.load, range(2)):
            alone = detector.detect(sample.image, tiles=tiles, score_threshold=0.2)
            for name, score, (x1, y1, x2, y2) in zip(alone.names, alone.scores, alone.boxes, strict=True):
                if name in data.class_names:
                    expected.append((sample.image_id, score, x1, y1, x2 - x1, y2 - y1))
        assert len(found) == len(expected) > 0
        np.testing.assert_allclose(sorted(found), sorted(expected), rtol=1e-3, atol=1e-3)


def test_wrong_tiles_are_named(run: Path) -> None:
    with pytest.raises(ArgumentError, match="tiles: 0 is not a number of tiles"):
        ssd.evaluate(run, tiles=0)


def test_files_are_written_where_they_are_named_and_replace_nothing(run: Path, tmp_path: Path) -> None:
    figures, report = tmp_path / "new" / "figures.json", tmp_path / "page.html"
    result = ssd.evaluate(run, figures=figures, report=report)
    assert (result.figures_file, result.report) == (figures, report)
    assert figures.is_file()
    assert report.read_text().startswith("<!")
    with pytest.raises(ArgumentError, match=r"page\.html: is there already"):
        ssd.evaluate(run, report=report)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"batch_size": 0}, "batch_size: 0 is too small"),
        ({"workers": -1}, "workers: -1 is too small"),
        ({"metric": "voc", "results": "x.json"}, "results: needs the COCO rules"),
        ({"metric": "voc", "coco_backend": "fast"}, "coco_backend: needs the COCO rules"),
        ({"weights_output": "t.safetensors"}, "weights_output: goes with set_thresholds"),
    ],
)
def test_a_wrong_argument_is_named(run: Path, options: dict[str, object], problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        ssd.evaluate(run, **options)


def test_a_detector_in_memory_needs_data(run: Path) -> None:
    with pytest.raises(EvaluationError, match=r"Name a data folder \(VOC, COCO, YOLO, LabelMe, CVAT, \.\.\.\)"):
        ssd.evaluate(ssd.load(run))


def test_every_figure_has_an_interval_in_text_and_json(run: Path) -> None:
    result = ssd.evaluate(run, metric=("coco", "voc"))
    assert set(result.intervals["coco"]) == {"AP", "AP50", "AP75", "APs", "APm", "APl"}
    facts = result.to_dict()["intervals"]
    assert result.intervals["coco"]["AP50"]["circle"].value == result.metrics["per_class"]["circle"]["AP50"]
    for rules, figures in result.intervals.items():
        for figure, by_class in figures.items():
            for name, one in by_class.items():
                written = facts[rules]["per_class"][name][figure] if name else facts[rules][figure]
                assert written == (None if one.low is None else [one.low, one.high])
                assert written is None or written[0] <= one.value <= written[1]
    assert "AP, 95 %" in result.to_text()
    assert "COCO  AP " in result.to_text()


def test_the_fast_evaluator_has_no_intervals(run: Path) -> None:
    pytest.importorskip("faster_coco_eval", reason="needs the extra fast-eval")
    result = ssd.evaluate(run, coco_backend="fast")
    assert result.intervals == {}
    assert "95 %" not in result.to_text()


def test_the_detectors_limit_follows_that_of_the_figures(run: Path) -> None:
    data = shapes("val", count=6, size=64)
    many, few = (ssd.evaluate(run, data, score_threshold=0.0, max_detections=limit) for limit in (500, 20))
    assert many.metrics["detections"] == 6 * 500
    assert few.metrics["detections"] == 6 * 20
    assert "AR500" in many.to_text()
    assert "AR100" not in few.to_text()
    assert few.evaluation.rules.max_detections == 20


def test_images_with_more_objects_than_count_are_named(run: Path) -> None:
    many = [(x, y, x + 5, y + 5) for x in range(0, 60, 5) for y in range(0, 60, 5)]
    drawn = shapes("val", count=2, size=64)
    crowded = record(0, many, [0] * 144)
    data = dataclasses.replace(drawn, records=(dataclasses.replace(crowded, width=64, height=64), drawn.records[1]))
    line = "1 of 2 images have more than 100 objects of a class (up to 144), and COCO's figures count 100"
    assert line in ssd.evaluate(run, data).to_text()
    assert "images have more than" not in ssd.evaluate(run, data, max_detections=144).to_text()


def test_the_number_advised_for_crowded_images_keeps_and_counts_every_object(run: Path) -> None:
    cells = [(x, y, x + 3, y + 3) for x in range(0, 60, 3) for y in range(0, 60, 3)]
    drawn = shapes("val", count=1, size=64)
    for labels, advised in (([0] * 150 + [1] * 150, 300), ([0] * 150, 200)):  # 200 are kept without the option
        crowded = dataclasses.replace(record(0, cells[: len(labels)], labels), width=64, height=64)
        text = ssd.evaluate(run, dataclasses.replace(drawn, records=(crowded,))).to_text()
        assert f"(up to 150), and COCO's figures count 100 detections of each: --max-detections {advised} " in text


def test_intervals_are_computed_once_and_only_where_they_are_shown(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    monkeypatch.setattr("ssd.api.evaluate.intervals", lambda matches: computed.append(matches) or intervals(matches))
    ssd.evaluate(run)
    assert computed == []
    result = ssd.evaluate(run, figures=tmp_path / "figures.json")
    assert "AP, 95 %" in result.to_text()
    assert len(computed) == 1


def test_beside_a_gpu_the_weights_choose_their_device_and_each_of_several_processes_has_its_own(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def opened(*_: object, **runtime: object) -> None:
        asked.append(runtime["device"])
        raise EvaluationError("enough", place="here")

    monkeypatch.setattr("ssd.api.evaluate.open_evaluation", opened)
    monkeypatch.setattr("ssd.system.distributed.local_device", lambda _: torch.device("cuda:0"))
    for processes, device in ((1, "auto"), (1, "cuda"), (2, "auto")):
        monkeypatch.setattr("ssd.system.distributed.world_size", lambda processes=processes: processes)
        with pytest.raises(EvaluationError, match="enough"):
            ssd.evaluate(run, device=device)
    assert asked == ["auto", "cuda", "cuda:0"]


def test_drawn_shapes_have_two_splits(run: Path) -> None:
    assert ssd.evaluate(run, split="train").dataset.split == "train"
    with pytest.raises(DatasetError, match=r"drawn shapes have no split 'test'\. Name train or val"):
        ssd.evaluate(run, split="test")
