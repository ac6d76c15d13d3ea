import itertools

import cv2
import numpy as np
import pytest

from ssd.data.formats.grouping import group_images, numbered_pairs, source_name
from ssd.errors import DatasetError
from ssd.images.looks import ALIKE, look, read_looks
from tests.data.videos import write_videos


def files(root):
    return {path.stem: path for path in sorted((root / "JPEGImages").iterdir())}


@pytest.mark.parametrize("name", ["{order:05d}", "clip{video}_frame_{frame:04d}"])
def test_every_planted_near_duplicate_is_found_whatever_its_name(tmp_path, name):
    videos = write_videos(tmp_path, 12, frames=20, name=name)
    groups = group_images(files(tmp_path), "auto")
    assert all(len({groups[frame] for frame in video}) == 1 for video in videos)
    assert len(set(groups.values())) == len(videos)  # and no false pair


@pytest.mark.parametrize(("folder", "pairs"), [("bccd", 1), ("tiny_coco", 0)])
def test_pairs_in_folders_of_photographs_are_few(request, folder, pairs):
    """The one of BCCD is real: 00037 and 00038 show the same field of view."""
    looks = read_looks(sorted(request.getfixturevalue(folder).rglob("*.jpg")))
    found = np.argwhere(np.triu(looks @ looks.T >= ALIKE, 1))
    assert len(found) == pairs


def test_frames_that_drift_apart_stay_together_by_their_numbers(tmp_path):
    rng = np.random.default_rng(0)
    paths = {}
    for walk in ("first", "second"):
        scene = cv2.resize(rng.integers(0, 255, (6, 12, 3), np.uint8), (384, 192), interpolation=cv2.INTER_CUBIC)
        for frame in range(16):  # the camera moves on by a sixteenth of the image
            path = tmp_path / f"{walk}_{frame:03d}.png"
            path.write_bytes(cv2.imencode(".png", scene[:, 12 * frame : 12 * frame + 192])[1].tobytes())
            paths[path.stem] = path
    first, next_one, last = (look(cv2.imread(str(paths[f"first_{frame:03d}"]))) for frame in (0, 1, 15))
    assert first @ last < 0.5
    assert first @ next_one < ALIKE
    groups = group_images(paths, "auto")
    assert {name: group.partition("_")[0] for name, group in groups.items()} == {
        name: name.partition("_")[0] for name in paths
    }
    assert len(set(groups.values())) == 2
    without_numbers = {
        f"{'abcdefghijklmnopqrstuvwxyzABCDEF'[place]}": path for place, path in enumerate(paths.values())
    }
    assert len(set(group_images(without_numbers, "auto").values())) > 2


def test_a_regular_expression_keeps_together_what_it_matches():
    names = [
        f"{camera}/{day}_{number:02d}" for camera, day, number in itertools.product("ab", ("mon", "tue"), range(3))
    ]
    images = dict.fromkeys(names)
    assert len(set(group_images(images, "auto").values())) == 12
    assert len(set(group_images(images, "^(.)/").values())) == 2
    assert len(set(group_images(images, "^(.)/(...)_").values())) == 4
    assert len(set(group_images(images, "^a/mon").values())) == 10  # the others stay alone


def test_a_regular_expression_that_does_nothing_is_answered():
    images = dict.fromkeys(["a_1", "a_2", "a_3"])
    with pytest.raises(DatasetError, match=r"'xyz' matches no image name.*names such as 'a_1'"):
        group_images(images, "xyz")
    with pytest.raises(DatasetError, match="puts most images in one group"):
        group_images(images, "^a")


def test_images_of_a_fixed_camera_are_not_one_group(tmp_path):
    """All frames correlate above 0.9: a stricter limit keeps the copies together, and the folder can be divided."""
    rng = np.random.default_rng(0)
    still = cv2.resize(rng.integers(0, 255, (6, 6, 3), np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)
    paths = {}
    for frame in range(12):
        image = still.copy()
        x, y = rng.integers(0, 70, 2)
        image[y : y + 26, x : x + 26] = rng.integers(0, 255, 3)
        paths[f"{frame}x"] = tmp_path / f"{frame}x.png"
        paths[f"{frame}x"].write_bytes(cv2.imencode(".png", image)[1].tobytes())
    assert len(set(group_images(paths, "auto").values())) > 2


def test_variants_that_roboflow_makes_of_one_image_stay_together():
    names = ["street_01_jpg.rf.a1b2c3d4e5f6a7b8", "street_01_jpg.rf.00ff00ff00ff00ff", "street_02_jpg.rf.a1b2c3d4"]
    assert [source_name(name) for name in names] == ["street_01", "street_01", "street_02"]
    groups = group_images(dict.fromkeys(names), "auto")
    assert groups[names[0]] == groups[names[1]] != groups[names[2]]
    assert source_name("a.b.jpg") == "a.b"


def test_numbered_names_are_compared_with_their_neighbours_alone():
    names = [f"clip_{number:04d}" for number in (0, 10, 20, 30, 40)] + ["clip2_0000", "other"]
    pairs = {frozenset(pair) for pair in numbered_pairs(names)}
    assert pairs == {frozenset(pair) for pair in itertools.combinations(range(5), 2)} - {frozenset((0, 4))}
