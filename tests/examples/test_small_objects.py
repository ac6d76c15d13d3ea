import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssd.inference.detections import Detections
from tests.commands.small_detector import save_small_weights, write_image
from tests.data.made import write_text

CHECKOUT = Path(__file__).parents[2]
SCRIPT = CHECKOUT / "examples" / "small_objects.py"
CELLS = [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("small_objects", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["small_objects"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["small_objects"]


def test_an_object_is_found_once_and_by_its_own_class_alone(example):
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], np.float32)
    sheet = example.Sheet(np.zeros((60, 60, 3), np.uint8), boxes, ["cat", "cat", "dog"])
    found = Detections(
        boxes=np.array([[0, 0, 10, 9], [0, 0, 10, 10], [40, 0, 50, 10], [0, 40, 9, 50]], np.float32),
        scores=np.array([0.9, 0.8, 0.7, 0.6], np.float32),
        labels=np.array([0, 0, 0, 1]),
        class_names=("cat", "dog"),
        image_size=(60, 60),
    )
    count = example.Count(3600)
    count.add(sheet, found)
    assert (count.found, count.objects, count.detections) == (1, 3, 4)


def test_objects_move_with_their_image_to_the_sheet(example, bccd):
    single = list(example.sheets(bccd, "test", 1, 4))
    (sheet,) = example.sheets(bccd, "test", 2, 1)
    height, width = single[0].image.shape[:2]
    assert sheet.image.shape == (2 * height, 2 * width, 3)
    assert sheet.names == [name for page in single for name in page.names]
    moved = [page.boxes + [width * column, height * row] * 2 for page, (row, column) in zip(single, CELLS, strict=True)]
    assert np.array_equal(sheet.boxes, np.concatenate(moved))
    assert np.array_equal(sheet.image[height:, :width], single[2].image)


def test_what_is_cut_off_a_larger_image_has_no_box(example, tmp_path):
    write_image(tmp_path / "images" / "0.png", height=60, width=100)
    write_image(tmp_path / "images" / "1.png", height=60, width=200)
    write_text(tmp_path / "labels" / "0.txt", "0 0.5 0.5 0.2 0.5\n")
    write_text(tmp_path / "labels" / "1.txt", "1 0.45 0.5 0.2 0.5\n0 0.9 0.5 0.1 0.5\n")
    write_text(tmp_path / "classes.txt", "cat\ndog\n")
    pages = list(example.sheets(tmp_path, "all", 1, 2))
    assert [page.names for page in pages] == [["cat"], ["dog"]]
    assert np.allclose(pages[1].boxes, [[70, 15, 100, 45]])


@pytest.mark.slow
def test_the_table_has_a_row_for_each_way_of_tiling(tmp_path, bccd):
    weights = save_small_weights(tmp_path / "small.safetensors")
    command = [sys.executable, str(SCRIPT), str(bccd), "--weights", str(weights), "--grid", "2", "--limit", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    assert [line.split("|")[1].strip() for line in done.stdout.splitlines()[4:]] == [
        *("1", "2", "3", "4", "auto"),
        "the images one by one",
    ]
