import contextlib
import io
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ssd.data.dataset import Dataset, open_dataset
from ssd.errors import EvaluationError, ImageDecodeError
from ssd.evaluation import evaluate as evaluation_module
from ssd.evaluation.class_map import make_targets, match_classes
from ssd.evaluation.evaluate import Evaluation, evaluate
from ssd.evaluation.metrics.coco import CocoMetric
from ssd.evaluation.metrics.error_breakdown import ErrorBreakdown
from ssd.evaluation.metrics.sanity_check import sanity_check
from ssd.evaluation.metrics.voc import VocMetric
from ssd.evaluation.searching import LossSums
from ssd.settings import Postprocessing
from ssd.structures import BatchDetections, Predictions, Record, Sample, Targets
from tests.evaluation.metrics.made import record
from tests.evaluation.metrics.test_sanity_check import SidesForCorners

NAMES = ("cat", "dog")


class FakeData:
    """Images of one colour: their number. Each knows its objects."""

    def __init__(self, records: Sequence[Record], class_names: Sequence[str] = NAMES) -> None:
        self.records = tuple(records)
        self.class_names = tuple(class_names)

    def load(self, index: int) -> Sample:
        item = self.records[index]
        image = np.full((item.height, item.width, 3), index, dtype=np.uint8)
        return Sample(image, item.boxes, item.labels, item.difficult, item.crowd, item.path, item.image_id)


class Oracle:
    """Reads an image's number from its colour and finds what is there, under its own labels, padded as ours does."""

    def __init__(self, data: FakeData, class_names: Sequence[str] = NAMES, *, score: float = 0.9) -> None:
        self.data = data
        self.class_names = tuple(class_names)
        self.score = score
        self.batch_sizes: list[int] = []

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        return torch.stack([torch.full((3, 2, 2), float(image[0, 0, 0])) for image in images])

    def predict(self, images: Tensor) -> Predictions:
        self.batch_sizes.append(len(images))
        numbers = images[:, 0, 0, 0]
        return Predictions(torch.zeros(len(images), 1, 4), numbers[:, None, None].expand(-1, 1, 3))

    def postprocess(self, predictions: Predictions, rules: Postprocessing | None = None) -> BatchDetections:
        numbers = predictions.logits[:, 0, 0].int().tolist()
        boxes, labels = torch.zeros(len(numbers), 9, 4), torch.zeros(len(numbers), 9, dtype=torch.int64)
        scores, counts = torch.zeros(len(numbers), 9), torch.zeros(len(numbers), dtype=torch.int64)
        for row, number in enumerate(numbers):
            item = self.data.records[number]
            known = [i for i, k in enumerate(item.labels) if self.data.class_names[k] in self.class_names]
            counts[row] = len(known)
            size = torch.tensor([item.width, item.height] * 2)
            boxes[row, : len(known)] = torch.from_numpy(item.boxes[known]) / size
            scores[row, : len(known)] = self.score
            names = [self.class_names.index(self.data.class_names[item.labels[i]]) for i in known]
            labels[row, : len(known)] = torch.tensor(names, dtype=torch.int64)
        return BatchDetections(boxes, scores, labels, counts)


def seven() -> FakeData:
    boxes = [(10, 20, 60, 90), (100, 100, 180, 150)]
    return FakeData([record(f"image {i}", boxes[: i % 3], [0, 1][: i % 3]) for i in range(7)])


def done(evaluation: Evaluation | None) -> Evaluation:
    assert evaluation is not None
    return evaluation


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_an_oracle_scores_one_in_every_metric(workers: int, batch_size: int) -> None:
    data = seven()
    metrics = [kind(data.records, NAMES) for kind in (CocoMetric, VocMetric, ErrorBreakdown)]
    result = done(evaluate(Oracle(data), data, *metrics, batch_size=batch_size, workers=workers, progress=False))
    assert result.metrics["AP"] == pytest.approx(1.0)
    assert result.by_metric["voc"]["AP"] == pytest.approx(1.0)
    assert result.by_metric["errors"]["missed"]["count"] == 0
    assert (result.images, result.dropped, result.loss) == (7, 0, None)
    assert result.seconds > 0
    assert result.images_per_second == pytest.approx(7 / result.seconds)


def test_classes_meet_by_name_whatever_their_order() -> None:
    data = seven()
    result = done(evaluate(Oracle(data, ("dog", "bird", "cat")), data, VocMetric(data.records, NAMES), progress=False))
    assert result.metrics["AP"] == pytest.approx(1.0)
    assert result.classes.unused == ("bird",)


def test_a_class_the_detector_lacks_counts_as_zero_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    data = seven()
    with caplog.at_level(logging.WARNING):
        result = done(evaluate(Oracle(data, ("cat",)), data, CocoMetric(data.records, NAMES), progress=False))
    assert result.metrics["per_class"]["cat"]["AP"] == pytest.approx(1.0)
    assert result.metrics["per_class"]["dog"]["AP"] == 0.0
    assert result.metrics["AP"] == pytest.approx(0.5)
    assert result.classes.missing == ("dog",)
    assert "does not know dog" in caplog.text


class EverythingIsABird(Oracle):
    """Finds a class that the data does not have."""

    def postprocess(self, predictions: Predictions, rules: Postprocessing | None = None) -> BatchDetections:
        found = super().postprocess(predictions)
        return BatchDetections(found.boxes, found.scores, torch.full_like(found.labels, 2), found.counts)


def test_detections_of_classes_the_data_lacks_are_dropped_and_counted() -> None:
    data = seven()
    detector = EverythingIsABird(data, (*NAMES, "bird"))
    result = done(evaluate(detector, data, VocMetric(data.records, NAMES), progress=False))
    assert result.metrics["AP"] == 0.0
    assert (result.metrics["detections"], result.dropped) == (0, sum(len(item.labels) for item in data.records))


def test_no_class_in_common_is_an_error_that_lists_both() -> None:
    with pytest.raises(EvaluationError, match="knows fish, bird; the data has cat, dog"):
        match_classes(("fish", "bird"), NAMES)


def test_scores_that_are_not_numbers_are_an_error_not_a_figure() -> None:
    data = seven()
    detector = Oracle(data, score=float("nan"))
    with pytest.raises(EvaluationError, match="not finite"):
        evaluate(detector, data, CocoMetric(data.records, NAMES), progress=False)


def test_nothing_is_computed_once_somebody_asked_to_stop() -> None:
    data = seven()
    detector = Oracle(data)
    asked = iter([False, True])
    result = evaluate(
        detector, data, VocMetric(data.records, NAMES), batch_size=2, stop=lambda: next(asked), progress=False
    )
    assert result is None
    assert detector.batch_sizes == [2]


class ForMany(Oracle):
    """A detector that computes two images at once."""

    def for_throughput(self):
        return self, 2


def test_a_detector_for_many_images_gets_them_one_by_one_with_the_same_figures() -> None:
    data = seven()
    alone, many = Oracle(data, score=0.9), ForMany(data, score=0.9)
    figures = [
        evaluate(detector, data, CocoMetric(data.records, NAMES), progress=False).metrics for detector in (alone, many)
    ]
    assert many.batch_sizes == [1] * 7
    assert figures[0] == figures[1]
    with_loss = ForMany(data)
    evaluate(with_loss, data, CocoMetric(data.records, NAMES), loss=lambda *_: LossSums(), batch_size=4, progress=False)
    assert with_loss.batch_sizes == [4, 3]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_image_that_cannot_be_read_is_named(workers: int) -> None:
    class Broken(FakeData):
        def load(self, index: int) -> Sample:
            if index == 4:
                raise ImageDecodeError("is truncated", place="four.jpg")
            return super().load(index)

    data = Broken(seven().records)
    with pytest.raises(ImageDecodeError, match=r"four\.jpg"):
        evaluate(Oracle(data), data, VocMetric(data.records, NAMES), workers=workers, batch_size=2, progress=False)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_loss_is_divided_once_by_the_positives_of_the_same_pass(batch_size: int) -> None:
    data = seven()
    detector = Oracle(data)
    seen: list[int] = []

    def loss(predictions: Predictions, targets: Targets) -> LossSums:
        seen.extend(predictions.logits[:, 0, 0].int().tolist())
        return LossSums({"images": float(len(targets.valid))}, int(targets.valid.sum()))

    metric = VocMetric(data.records, NAMES)
    result = done(evaluate(detector, data, metric, batch_size=batch_size, loss=loss, progress=False))
    assert seen == list(range(7))
    assert detector.batch_sizes == ([1] * 7 if batch_size == 1 else [4, 3])
    assert result.loss == pytest.approx({"images": 7 / (1 + 2 + 1 + 2)})


def test_targets_are_fractions_with_the_labels_of_the_detector() -> None:
    data = FakeData([record(1), record(2, [(20, 50, 100, 200), (0, 0, 50, 50)], [0, 1], crowd=[True, False])])
    targets = make_targets([data.load(0), data.load(1)], match_classes(("bird", "cat"), NAMES))
    assert targets.boxes.tolist() == [[[0.0] * 4], [pytest.approx([0.1, 0.25, 0.5, 1.0])]]
    assert targets.labels.tolist() == [[0], [1]]
    assert targets.crowd.tolist() == [[False], [True]]
    assert targets.valid.tolist() == [[False], [True]]


def test_no_objects_anywhere_still_make_targets() -> None:
    data = FakeData([record(1), record(2)])
    assert make_targets([data.load(0), data.load(1)], match_classes(NAMES, NAMES)).boxes.shape == (2, 0, 4)


_ON_TWO = """
import json, torch
from ssd.system import distributed
from ssd.evaluation.evaluate import evaluate
from ssd.evaluation.metrics.coco import CocoMetric
from ssd.evaluation.searching import LossSums
from ssd.errors import SSDError
from tests.evaluation.test_evaluate import NAMES, Oracle, seven

def answer(score=0.9, stop=None):
    data = seven()
    try:
        result = evaluate(Oracle(data, score=score), data, CocoMetric(data.records, NAMES), batch_size=2, stop=stop,
                          loss=lambda p, t: LossSums({"images": float(len(t.valid))}, int(t.valid.sum())),
                          progress=False)
        return None if result is None else [result.metrics, result.loss, result.images]
    except SSDError as error:
        return str(error)

with distributed.process_group(torch.device("cpu")):
    second = distributed.rank() == 1
    whole, stopped, broken = answer(), answer(stop=lambda: second), answer(score=float("nan") if second else 0.9)
    print(json.dumps({"whole": whole, "stopped": stopped, "broken": broken}), flush=True)
"""


def test_two_processes_come_to_the_figures_of_one_and_stop_and_fail_together() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    root = str(Path(__file__).resolve().parents[2])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _ON_TWO],
            env={**os.environ, **shared, "RANK": str(rank), "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    first, second = (json.loads(process.communicate(timeout=100)[0]) for process in processes)
    assert first == second
    data = seven()
    alone = done(evaluate(Oracle(data), data, CocoMetric(data.records, NAMES), progress=False))
    assert first["whole"] == [alone.metrics, {"images": pytest.approx(7 / 6)}, 7]
    assert first["stopped"] is None
    assert "not finite" in first["broken"]


class Blurred:
    """Finds the objects of a real data set, somewhat beside their places, and some of the wrong class."""

    def __init__(self, data: Dataset) -> None:
        self.data = data
        self.class_names = tuple(reversed(data.class_names))
        self.generator = np.random.default_rng(0)
        self.next = 0

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        return torch.zeros(len(images), 3, 2, 2)

    def predict(self, images: Tensor) -> Predictions:
        return Predictions(torch.zeros(len(images), 1, 4), torch.zeros(len(images), 1, 81))

    def postprocess(self, predictions: Predictions, rules: Postprocessing | None = None) -> BatchDetections:
        columns: list[list[Tensor]] = [[], [], []]
        for _ in range(len(predictions.logits)):
            item = self.data.records[self.next]
            self.next += 1
            moved = item.boxes * self.generator.normal(1, 0.04, item.boxes.shape) / ([item.width, item.height] * 2)
            wrong = self.generator.random(len(item.labels)) < 0.1
            labels = np.where(wrong, self.generator.integers(0, 80, len(item.labels)), item.labels)
            scores = self.generator.random(len(item.labels))
            for column, values in zip(columns, (moved, scores, 79 - labels), strict=True):
                column.append(torch.from_numpy(values))
        counts = torch.tensor([len(row) for row in columns[1]])
        boxes, scores, labels = (pad_sequence(column, batch_first=True) for column in columns)
        return BatchDetections(boxes.float(), scores.float(), labels, counts)


def test_photographs_score_as_pycocotools_says_of_the_two_files(tiny_coco: Path, tmp_path: Path) -> None:
    data = open_dataset(tiny_coco, "val2017")
    metric = CocoMetric(data.records, data.class_names, data.category_ids)
    result = done(evaluate(Blurred(data), data, metric, workers=1, progress=False))
    metric.write_results(tmp_path / "detections.json")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tiny_coco / "annotations" / "instances_val2017.json"))
        evaluator = COCOeval(truth, truth.loadRes(str(tmp_path / "detections.json")), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    assert [result.metrics[name] for name in names] == pytest.approx(evaluator.stats.tolist(), abs=1e-6)
    assert 0.2 < result.metrics["AP"] < 0.9


def test_ground_truth_as_detections_is_checked_before_anything_is_detected() -> None:
    data = FakeData([record(1, [(10, 10, 50, 50)], [0])])
    oracle = Oracle(data)
    with pytest.raises(EvaluationError, match="ground truth given as detections scores"):
        evaluate(oracle, data, SidesForCorners(data.records, NAMES))
    assert oracle.batch_sizes == []


def test_ground_truth_of_real_images_scores_one(bccd: Path) -> None:
    data = open_dataset(bccd, "val", bad_objects="drop")
    for metric in (CocoMetric(data.records, data.class_names), VocMetric(data.records, data.class_names)):
        sanity_check(metric)


@pytest.mark.parametrize(
    ("device", "cores", "batch_size", "threads"),
    [("cpu", 16, 8, 2), ("cuda", 8, 8, 7), ("cuda:1", 64, 8, 16), ("cuda", 64, 32, 4), ("mps", 1, 8, 2)],
)
def test_a_gpu_is_fed_by_nearly_all_cores_and_large_batches_by_fewer_for_the_memory(
    monkeypatch: pytest.MonkeyPatch, device: str, cores: int, batch_size: int, threads: int
) -> None:
    monkeypatch.setattr(evaluation_module, "usable_cores", lambda: cores)
    assert evaluation_module._threads(device, batch_size) == threads
