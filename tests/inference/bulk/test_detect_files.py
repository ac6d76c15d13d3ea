"""Detection in files with an exported graph, and what is said before a folder is made."""

import dataclasses
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
from ssd.rules import ScoreThreshold
from ssd.structures import BatchDetections
from tests.commands.small_detector import read_rows, write_image, write_video
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


def test_ids_are_refused_where_no_coco_results_are_written(tmp_path: Path) -> None:
    detector, photo = Detector(GraphPipeline(MadeGraph(Facts(made.settings())))), write_image(tmp_path / "1.png")
    with pytest.raises(ArgumentError, match=r"--coco-ids: has the ids of coco\.json, .* Add it: --format coco,images$"):
        detect_files([photo], detector, output=tmp_path / "out", coco_ids=tmp_path / "ids.json")


def test_detections_of_classes_without_an_id_are_counted(tmp_path: Path) -> None:
    photos = [write_image(tmp_path / f"{number}.png") for number in range(3)]
    images = [{"file_name": photo.name, "id": 7 + number} for number, photo in enumerate(photos[:2])]
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps({"images": images, "categories": [{"name": "cow", "id": 5}]}))
    detector = Detector(GraphPipeline(MadeGraph(Facts(made.settings(score_threshold=0.01)))))
    result = detect_files(
        photos, detector, output=tmp_path / "out", format="coco", coco_ids=ids, score_threshold={"cow": 0.3}
    )
    assert (result.without_id, dict(result.classes_without_id)) == (1, {"cat": 2, "dog": 2})
    rows = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(7, 5), (8, 5)]


def test_an_image_of_an_earlier_call_does_not_share_its_id_either(tmp_path: Path) -> None:
    detector, out = Detector(GraphPipeline(MadeGraph(Facts(made.settings())))), tmp_path / "out"
    first, second = (write_image(tmp_path / name / "1.png") for name in ("a", "b"))
    detect_files([first], detector, output=out, format="coco")
    with pytest.raises(ArgumentError, match=r"a/1\.png: has the id 1 in coco\.json, and so has .*b/1\.png"):
        detect_files([second], detector, output=out, format="coco", resume=True)
    detect_files([first], detector, output=out, format="coco", resume=True)


@pytest.mark.parametrize(
    ("inside", "own", "used", "lower"),
    [
        (0.01, (), None, 0.1),
        (0.01, (), 0.1, None),
        (0.01, (), 0.05, None),
        (0.3, (), None, 0.3),
        (0.6, (), None, None),
        (0.01, (0.05, 0.2, 0.05), "own", 0.1),
        (0.01, (0.05, 0.1, 0.05), "own", None),
        (0.01, (), {"cat": 0.05}, 0.1),
    ],
)
def test_a_lower_threshold_is_advised_only_where_there_is_one(
    inside: float, own: tuple[float, ...], used: ScoreThreshold | None, lower: float | None, tmp_path: Path
) -> None:
    detector = Detector(GraphPipeline(MadeGraph(Facts(made.settings(score_threshold=inside, own_thresholds=own)))))
    photo = write_image(tmp_path / "1.png")
    result = detect_files([photo], detector, output=tmp_path / "out", format="jsonl", score_threshold=used)
    assert result.lower_threshold == lower
    if lower is not None:
        detect_files([photo], detector, output=tmp_path / "again", format="jsonl", score_threshold=lower)


@pytest.mark.parametrize("labels", ["yolo", "voc", "coco-data"])
def test_frames_of_a_finished_video_are_not_written_over_by_one_of_its_name(labels: str, tmp_path: Path) -> None:
    """A resumed detection gave the second video the name of the first, and so its files."""
    detector = Detector(GraphPipeline(MadeGraph(Facts(made.settings()))))
    videos, out = [tmp_path / "a" / "clip.avi", tmp_path / "b" / "clip.avi"], tmp_path / "out"
    for video in videos:
        video.parent.mkdir()
        write_video(video, frames=3)
    options = {"output": out, "format": labels, "copy": True, "score_threshold": 0.5}
    detect_files(videos, detector, **options)
    rows = (out / "detections.jsonl").read_text().splitlines(keepends=True)
    unfinished = [row for row in rows if '"frame":' in row or "/a/" in row]  # as if killed in the second video
    (out / "detections.jsonl").write_text("".join(unfinished))
    before = {path: path.read_bytes() for path in (out / "images" / "clip").iterdir()}
    detect_files(videos, detector, **options, resume=True)
    assert {path: path.read_bytes() for path in (out / "images" / "clip").iterdir()} == before
    folders = {row["path"]: Path(row["files"][0]).parent.name for row in read_rows(out) if "frame" in row}
    assert folders == {str(videos[0]): "clip", str(videos[1]): "clip-2"}


def test_one_source_and_a_list_of_formats_will_do(tmp_path: Path) -> None:
    detector, photo = Detector(GraphPipeline(MadeGraph(Facts(made.settings())))), write_image(tmp_path / "photo.png")
    for number, source in enumerate((photo, str(photo), [photo])):
        detect_files(source, detector, output=tmp_path / str(number), format=["jsonl", "coco"])
        assert (tmp_path / str(number) / "coco.json").is_file()


class FullGraph(MadeGraph):
    """Three cats fill an image of which three detections are kept; a dog would have been the fourth."""

    def find(self, images: np.ndarray) -> BatchDetections:
        found = super().find(images)
        return dataclasses.replace(found, scores=torch.tensor([[0.9, 0.8, 0.7]]), labels=torch.zeros(1, 3, dtype=int))


@pytest.mark.parametrize(("inside", "said"), [(3, 1), (4, 0)])
def test_thresholds_of_classes_after_a_full_image_are_warned_of_once(
    inside: int, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    rules = dataclasses.replace(made.settings().postprocessing, max_detections=inside)
    detector = Detector(GraphPipeline(FullGraph(Facts(dataclasses.replace(made.settings(), postprocessing=rules)))))
    for _ in range(2):
        found = detector.detect(np.zeros((30, 30, 3), np.uint8), score_threshold={"cat": 0.85, "dog": 0.1, "cow": 0.5})
        assert found.names == ("cat",)
    assert caplog.text.count("Export it with --max-detections 12") == said
