"""Every detector, data set and metric of the package passes its contract (contracts.py)."""

import dataclasses
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import ssd
from ssd.data.dataset import Dataset, open_dataset
from ssd.data.shapes.dataset import CLASS_NAMES, shapes
from ssd.evaluation.metrics.coco import CocoMetric
from ssd.evaluation.metrics.details import Details
from ssd.evaluation.metrics.error_breakdown import ErrorBreakdown
from ssd.evaluation.metrics.voc import VocMetric
from ssd.inference.detections import Detections
from ssd.inference.detector import Detector
from ssd.structures import Record
from ssd.weights.native import save_weights
from tests.audit.made import repaint
from tests.contracts import Oracle, check_dataset, check_detector, check_evaluation, check_metric
from tests.data.made import coco_content, voc_folder, write_image, write_text, xml, xml_object
from tests.evaluation.metrics.test_sanity_check import SidesForCorners
from tests.exporters import made


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_weights_in_every_runtime(backend: str, tmp_path: Path) -> None:
    """Exported graphs take the same contract in exporters/test_contract.py."""
    if backend == "openvino":
        pytest.importorskip("openvino")
    save_weights(tmp_path / "small.safetensors", made.network().state_dict(), made.settings())
    detector = ssd.load(tmp_path / "small.safetensors", device="cpu", precision="fp32", backend=backend)
    assert detector.class_names == made.CLASSES
    check_detector(detector, made.images(4))
    check_evaluation(detector, made.dataset())


def test_an_oracle_of_drawn_images() -> None:
    dataset = shapes("val", 7, 64)
    result = check_evaluation(Oracle(dataset), dataset)
    assert result.metrics["AP"] == pytest.approx(1)
    other = check_evaluation(Oracle(shapes("train", 7, 64)), dataset)
    assert other.metrics["AP"] == 0


def _repainted(folder: Path) -> Path:
    """The same folder, where no two images are equal any more."""
    for seed, path in enumerate(path for path in sorted(folder.rglob("*")) if path.suffix in (".jpg", ".png")):
        repaint(path, seed)
    return folder


def _voc(folder: Path) -> Dataset:
    some = xml(xml_object("cat"), xml_object("dog", (10, 5, 30, 15), "<difficult>1</difficult>"))
    return open_dataset(_repainted(voc_folder(folder, {"a": some, "b": xml()})), "train")


def _coco(folder: Path, format: str = "auto", split: str = "train", year: str = "") -> Dataset:
    write_text(folder / "annotations" / f"instances_{split}{year}.json", json.dumps(coco_content()))
    for name in ("a.jpg", "b.jpg"):
        write_image(folder / f"{split}{year}" / name)
    return open_dataset(_repainted(folder), split, format=format)


def _yolo(folder: Path) -> Dataset:
    write_text(folder / "data.yaml", "names: [cat, dog]\ntrain: images/train\nval: images/train\n")
    for stem, rows in (("a", "0 0.5 0.5 0.5 0.5\n1 0.25 0.5 0.1 0.9\n"), ("b", "")):
        write_image(folder / "images" / "train" / f"{stem}.png")
        write_text(folder / "labels" / "train" / f"{stem}.txt", rows)
    return open_dataset(_repainted(folder), "train")


def _voc0712(folder: Path) -> Dataset:
    for year, stem in (("2007", "000001"), ("2012", "2012_000001")):
        voc_folder(folder / "VOCdevkit" / f"VOC{year}", {stem: xml(xml_object("dog"))}, "trainval")
    voc_folder(folder / "VOCdevkit" / "VOC2007", {"000002": xml(xml_object("cat"))}, "test")
    return open_dataset(_repainted(folder), "train", format="voc07+12")


DATA_SETS = {
    "voc": _voc,
    "coco": _coco,
    "yolo": _yolo,
    "voc07+12": _voc0712,
    "coco2017": partial(_coco, format="coco2017", split="val", year="2017"),
    "shapes": lambda folder: shapes("train", 6, 33),
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_data_set(name: str, tmp_path: Path) -> None:
    check_dataset(DATA_SETS[name](tmp_path))


def test_real_data_sets(bccd: Path, tiny_coco: Path) -> None:
    check_dataset(_first(open_dataset(bccd, "val", bad_objects="drop"), 12))
    check_dataset(_first(open_dataset(tiny_coco, "val2017"), 12))


def _first(dataset: Dataset, count: int) -> Dataset:
    return Dataset(dataset.records[:count], dataset.class_names, dataset.category_ids, dataset.name, dataset.split)


@pytest.mark.parametrize("make", [CocoMetric, VocMetric, ErrorBreakdown, Details], ids=lambda kind: kind.__name__)
def test_every_metric(make: type) -> None:
    check_metric(make)


def test_the_fast_coco_metric_too() -> None:
    pytest.importorskip("faster_coco_eval", reason="needs the extra fast-eval")
    check_metric(partial(CocoMetric, backend="fast"))


class Reversed:
    """A detector whose detections come worst first."""

    def __init__(self, detector: Detector) -> None:
        self.detector, self.class_names = detector, detector.class_names

    def detect(self, image: np.ndarray, **options: float) -> Detections:
        return self.detector.detect(image, **options)[::-1]

    def detect_batch(self, images: Iterable[np.ndarray], batch_size: int = 8) -> list[Detections]:
        return [self.detect(image) for image in images]


def _turned(record: Record) -> np.ndarray:
    return np.zeros((record.width, record.height + 1, 3), np.uint8)


def test_faults_are_noticed() -> None:
    with pytest.raises(AssertionError, match="best first"):
        check_detector(Reversed(made.detector()), made.images(2))
    dataset = shapes("train", 2, 32)
    for wrong in (
        dataclasses.replace(dataset, read=_turned),
        dataclasses.replace(dataset, class_names=CLASS_NAMES[:2], category_ids=(1, 2)),
        dataclasses.replace(dataset, records=tuple(dataset.records) * 2),
    ):
        with pytest.raises(AssertionError):
            check_dataset(wrong)
    with pytest.raises(AssertionError):
        check_metric(lambda records, names: SidesForCorners(records, names))
