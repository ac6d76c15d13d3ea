import cv2
import numpy as np
import pytest

from ssd.audit.near_copies import find_near_copies
from ssd.audit.splits import Reading, open_splits
from tests.data.made import write_text


def frames(root, *names):
    """Images of a video, each much like the one before: the correlation of the first two is 0.8."""
    noise = np.random.default_rng(3).normal(0, 1, (len(names), 8, 8, 3))
    for number, name in enumerate(names):
        small = 128 + 28 * (noise[0] + 0.7 * (noise[number] if number else 0))
        image = cv2.resize(small.clip(0, 255).astype(np.uint8), (64, 64), interpolation=cv2.INTER_NEAREST)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), image)
        label = str(path.with_suffix(".txt")).replace("/images", "/labels", 1)
        write_text(root / label, "0 0.5 0.5 0.5 0.5\n")


def near(root):
    return [str(pair) for pair in find_near_copies(open_splits(root, Reading()).splits)]


@pytest.mark.parametrize("folder", ["images/{}", "{}/images"])
def test_frames_of_one_video_are_found_across_the_folders_of_splits(tmp_path, folder):
    names = [f"{folder.format(split)}/clip_{number:04}.png" for split, number in (("train", 7), ("val", 8))]
    frames(tmp_path, *names)
    write_text(tmp_path / "classes.txt", "cat\n")
    (pair,) = near(tmp_path)
    assert pair.startswith(f"val/{names[1]} looks like train/{names[0]} (0.8")


def test_splits_with_numbers_of_their_own_are_no_series(tmp_path):
    frames(tmp_path, *(f"images/{split}/{number}.png" for split in ("train", "val") for number in (7, 8)))
    write_text(tmp_path / "classes.txt", "cat\n")
    assert near(tmp_path) == []
