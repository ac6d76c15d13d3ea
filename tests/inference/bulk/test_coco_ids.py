"""Ids of COCO results by an annotation file."""

import json
import re
from pathlib import Path

import pytest

from ssd.errors import ArgumentError
from ssd.inference.bulk.coco_ids import CocoIds, ids_of_file, own_ids
from ssd.weights.ports.class_names import COCO


def ids(folder: Path, images: dict[str, int]) -> CocoIds:
    """Those of images by file name."""
    content = {
        "images": [{"file_name": name, "id": number} for name, number in images.items()],
        "categories": [{"name": "cat", "id": 1}],
    }
    (folder / "ids.json").write_text(json.dumps(content))
    return ids_of_file(folder / "ids.json", ["cat"])


@pytest.mark.parametrize(
    ("images", "path", "expected"),
    [
        ({"seq1/1.jpg": 1, "seq2/1.jpg": 2}, "seq1/1.jpg", 1),
        ({"seq1/1.jpg": 1, "seq2/1.jpg": 2}, "/data/seq2/1.jpg", 2),
        ({"train/seq1/1.jpg": 1, "train/seq2/1.jpg": 2}, "/elsewhere/seq1/1.jpg", 1),
        ({"a/seq1/1.jpg": 1, "b/seq1/1.jpg": 2}, "a/seq1/1.jpg", 1),
        ({"1.jpg": 1, "seq2/1.jpg": 2}, "seq1/1.jpg", 1),
        ({"seq1/é.jpg": 1, "seq2/é.jpg": 2}, "seq2/e\u0301.jpg", 2),  # as macOS writes it
        ({"some/where/1.jpg": 1}, "photos/1.jpg", 1),
        ({"1.jpg": 1}, "photos/2.jpg", None),
    ],
)
def test_of_images_of_one_name_the_folders_decide(
    images: dict[str, int], path: str, expected: int | None, tmp_path: Path
) -> None:
    assert ids(tmp_path, images).of_image({"path": path}) == expected


@pytest.mark.parametrize("path", ["1.jpg", "seq3/1.jpg"])
def test_an_image_that_can_be_two_of_them_is_named_with_both(path: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=rf"{path}: can be seq1/1\.jpg or seq2/1\.jpg of the annotation file"):
        ids(tmp_path, {"seq1/1.jpg": 1, "seq2/1.jpg": 2}).of_image({"path": path})


def test_two_images_with_one_id_are_named_before_they_are_searched(tmp_path: Path) -> None:
    known = ids(tmp_path, {"seq1/1.jpg": 1, "2.jpg": 2})
    known.check(["seq1/1.jpg", "seq1/2.jpg", "seq1/3.jpg", "seq2/3.jpg"])
    with pytest.raises(
        ArgumentError, match=r"seq2/1\.jpg: has the id 1 in the annotation file, and so has seq1/1\.jpg"
    ):
        known.check(["seq1/1.jpg", "seq2/1.jpg"])


@pytest.mark.parametrize(
    ("images", "videos", "number"),
    [
        (["a/1.jpg", "b/1.jpg"], [], "1"),
        (["a/1.jpg", "a/001.png"], [], "1"),
        (["a/x.jpg", "a/x.png"], [], "'x'"),
        ([], ["x/c.mp4", "y/c.webm"], "'c/000000'"),
    ],
)
def test_without_an_annotation_file_two_sources_of_one_name_are_named_too(
    images: list[str], videos: list[str], number: str
) -> None:
    first, second = images + videos
    expected = rf"{re.escape(second)}: has the id {number} in coco\.json, and so has {re.escape(first)}\. Rename one"
    with pytest.raises(ArgumentError, match=expected):
        own_ids(["cat"]).check(images, videos)
    own_ids(["cat"]).check(["a/1.jpg", "a/x.jpg"], ["x/1.mp4"])


def test_videos_of_one_name_are_named_with_an_annotation_file_too(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"y/c\.mp4: has the id 'c/000000' in coco\.json, and so has x/c\.mp4"):
        ids(tmp_path, {"c.jpg": 1}).check([], ["x/c.mp4", "y/c.mp4"])


def test_official_ids_are_for_detectors_of_all_of_cocos_classes() -> None:
    """One of `cat` and `dog` was trained on other annotations, and `coco-data` counts its classes from 1 too."""
    assert own_ids(["cat", "dog"]).categories == (1, 2)
    assert own_ids(COCO).categories[:13] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14)
