"""Detection in files with an exported graph, and what is said before a folder is made."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ssd.errors import ArgumentError
from ssd.inference.bulk.detect_files import detect_files
from ssd.inference.detector import Detector
from ssd.inference.pipelines import GraphPipeline
from ssd.inference.runtime.facts import Facts
from ssd.structures import BatchDetections
from tests.commands.small_detector import write_image
from tests.exporters import made


class MadeGraph:
    """An exported graph that finds a cat, a dog and a cow, with 0.7, 0.65 and 0.35."""

    backend, precision, device = "made", "fp32", "cpu"

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def find(self, images: np.ndarray) -> BatchDetections:
        count = len(images)
        return BatchDetections(
            boxes=torch.tensor([[0.0, 0.0, 0.5, 0.5]] * 3).repeat(count, 1, 1),
            scores=torch.tensor([[0.7, 0.65, 0.35]] * count),
            labels=torch.tensor([[0, 1, 2]] * count),
            counts=torch.tensor([3] * count),
        )


@pytest.mark.parametrize(
    ("inside", "own", "expected", "found"),
    [
        (0.01, (), 0.5, ["cat", "dog"]),
        (0.66, (), 0.66, ["cat"]),
        (0.3, (0.25, 0.68, 0.32), {"cat": 0.3, "dog": 0.68, "cow": 0.32}, ["cat", "cow"]),
        (0.3, (0.3, 0.6, 0.4), "own", ["cat", "dog"]),
    ],
)
def test_without_a_threshold_a_graph_keeps_no_less_than_it_was_exported_with(
    inside: float, own: tuple[float, ...], expected: object, found: list[str], tmp_path: Path
) -> None:
    facts = Facts(made.settings(score_threshold=inside, own_thresholds=own))
    detector, photo = Detector(GraphPipeline(MadeGraph(facts))), write_image(tmp_path / "photo.png")
    for resume in (False, True):
        detect_files([photo], detector, output=tmp_path / "out", format="jsonl", resume=resume)
    assert json.loads((tmp_path / "out" / "options.json").read_text())["score_threshold"] == expected
    (row,) = map(json.loads, (tmp_path / "out" / "detections.jsonl").read_text().splitlines())
    assert [item["name"] for item in row["detections"]] == found


def test_images_whose_ids_are_not_certain_are_named_before_a_folder_is_made(tmp_path: Path) -> None:
    for name in ("seq1", "seq2"):
        write_image(tmp_path / "photos" / name / "1.png")
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps({"images": [{"file_name": "1.png", "id": 1}], "categories": [{"name": "cat", "id": 1}]}))
    detector = Detector(GraphPipeline(MadeGraph(Facts(made.settings()))))
    out = tmp_path / "out"
    with pytest.raises(ArgumentError, match=r"seq2/1\.png: has the id 1 in the annotation file, and so has .*seq1"):
        detect_files([tmp_path / "photos"], detector, output=out, format="coco", coco_ids=ids, recursive=True)
    assert not out.exists()
    detect_files([tmp_path / "photos"], detector, output=out, format="jsonl", coco_ids=ids, recursive=True)
