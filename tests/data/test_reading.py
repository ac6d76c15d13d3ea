"""What is read from a large COCO file is remembered, and forgotten when a file changes."""

import json
import logging
import os
import pickle
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from ssd.data import cache, reading
from ssd.data import fingerprint as digests
from ssd.data.checked import check_unchecked
from ssd.data.dataset import scan
from ssd.data.fingerprint import fingerprint
from ssd.data.formats import coco, recognition, unused
from ssd.data.formats.read_options import ReadOptions
from ssd.data.formats.recognition import find_format
from ssd.data.formats.unused import find_unused
from ssd.data.index import build_index
from ssd.errors import DatasetError
from tests.data.made import coco_content, coco_folder, write_image


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A COCO folder that counts as large, with a note, a bad object and a root class; nothing in it is new."""
    monkeypatch.setattr(coco, "LARGE", 0)
    monkeypatch.setenv("SSD_HOME", str(tmp_path / "home"))
    content = coco_content()
    content["annotations"] += [
        {"id": 3, "image_id": 7, "category_id": 90, "bbox": [30, 3, 20, 10], "area": 60.5, "iscrowd": 0},
        {"id": 4, "image_id": 7, "category_id": 90, "bbox": [5, 5, 0, 10]},
    ]
    content["categories"].append({"id": 95, "name": "indoor"})
    root = coco_folder(tmp_path / "data", content)
    settle(root)
    return root


def settle(root):
    for path in [root, *root.rglob("*")]:
        os.utime(path, (1_000_000_000, 1_000_000_000))


def refuse(*args, **rest):
    raise AssertionError("read again")


def read(root, caplog):
    caplog.clear()
    with caplog.at_level(logging.INFO):
        dataset, problems = scan(root, "train")
    return dataset, problems, [record.getMessage() for record in caplog.records]


def assert_same(first, second):
    for one, other in zip(first[0].records, second[0].records, strict=True):
        for field in fields(one):
            a, b = getattr(one, field.name), getattr(other, field.name)
            assert type(a) is type(b)
            if isinstance(a, np.ndarray):
                assert a.dtype == b.dtype
                assert a.tolist() == b.tolist()
                assert a.flags.writeable == b.flags.writeable
            else:
                assert a == b
    assert first[0].class_names == second[0].class_names
    assert first[0].category_ids == second[0].category_ids
    assert first[0].dropped == second[0].dropped
    assert [(str(p), p.image, p.box, p.level) for p in first[1]] == [
        (str(p), p.image, p.box, p.level) for p in second[1]
    ]
    assert first[2] == second[2]


def test_the_second_start_gives_and_says_the_same_without_reading(folder, monkeypatch, caplog):
    first = read(folder, caplog)
    assert {problem.kind for problem in first[1]} == {"clipped", "no_area"}
    assert any("'indoor' has no objects" in message for message in first[2])
    monkeypatch.setattr(reading, "read_split", refuse)
    assert_same(first, read(folder, caplog))


def test_a_worker_gets_the_path_of_the_arrays(folder, caplog):
    dataset = read(folder, caplog)[0]
    pickled = pickle.dumps(dataset.records)
    assert len(pickled) < 500
    assert_same((dataset, [], []), (read(folder, caplog)[0], [], []))
    assert pickle.loads(pickled)[1].path == dataset.records[1].path
    dataset.records.source.unlink()
    assert pickle.loads(pickle.dumps(dataset.records))[1].boxes.tolist() == [[0, 0, 40, 20]]


def test_a_worker_gets_the_arrays_themselves_once_another_run_has_replaced_their_file(folder, caplog):
    records = read(folder, caplog)[0].records
    path = folder / "annotations" / "instances_train.json"
    path.write_text(path.read_text().replace("[2, 3, 10, 10]", "[4, 3, 10, 10]"))
    settle(folder)
    assert read(folder, caplog)[0].records.source == records.source
    assert pickle.loads(pickle.dumps(records))[0].boxes[0].tolist() == [2, 3, 12, 13]


@pytest.mark.parametrize("names", [("a.jpg", "b/c.jpg"), ("a.jpg", "ä.jpg"), ("\udcff.jpg", "\udcc3", "\udca4.jpg")])
def test_the_paths_of_an_index_are_those_of_its_records(names):
    none = {"boxes": np.zeros((0, 4), np.float32), "areas": np.zeros(0, np.float32), "labels": np.zeros(0, np.int64)}
    flags = np.zeros(0, bool)
    counts = np.zeros(len(names), np.int64)
    index = build_index([(name, 1, 2, 2) for name in names], counts, **none, difficult=flags, crowd=flags)
    assert tuple(index.paths()) == names == tuple(record.path for record in index)


@pytest.mark.parametrize("options", [{"classes": ("toothbrush",)}, {"allow_outside": True}])
def test_other_options_are_read_anew(folder, caplog, monkeypatch, options):
    read(folder, caplog)
    monkeypatch.setattr(reading, "read_split", refuse)
    with pytest.raises(AssertionError, match="read again"):
        scan(folder, "train", ReadOptions(**options))


def test_a_changed_annotation_file_is_read_anew(folder, caplog):
    before = read(folder, caplog)[0]
    path = folder / "annotations" / "instances_train.json"
    path.write_text(path.read_text().replace("[2, 3, 10, 10]", "[4, 3, 10, 10]"))
    os.utime(path, (1_000_000_000, 1_000_000_000))  # as large and as old as before
    after = read(folder, caplog)[0]
    assert before.records[0].boxes[0].tolist() == [2, 3, 12, 13]
    assert after.records[0].boxes[0].tolist() == [4, 3, 14, 13]


def test_a_removed_image_is_noticed(folder, caplog):
    read(folder, caplog)
    next(folder.rglob("b.jpg")).unlink()
    assert "no such image" in str(read(folder, caplog)[1])


def test_a_damaged_or_foreign_file_is_made_again(folder, caplog):
    first = read(folder, caplog)
    path = first[0].records.source
    whole = path.read_bytes()
    for damage in (b"", whole[:-1], whole[: len(whole) // 2], b"X" + whole[1:], whole[:-80] + b"\1" + whole[-79:]):
        path.unlink()  # not in place: the first records are mapped
        path.write_bytes(damage)
        assert_same(first, read(folder, caplog))
        assert path.read_bytes() == whole


def test_without_a_cache_folder_everything_is_read(folder, caplog, monkeypatch):
    first = read(folder, caplog)
    monkeypatch.setenv("SSD_HOME", "/dev/null/nowhere")
    assert_same(first, read(folder, caplog))


def test_nothing_is_written_into_the_data_folder_or_kept_of_a_file_changed_just_now(folder, caplog):
    path = folder / "annotations" / "instances_train.json"
    path.touch()
    before = sorted(map(str, folder.rglob("*")))
    read(folder, caplog)
    assert sorted(map(str, folder.rglob("*"))) == before
    assert not list(Path(os.environ["SSD_HOME"]).rglob("*.bin"))


def test_a_small_file_is_not_kept(folder, caplog, monkeypatch):
    monkeypatch.setattr(coco, "LARGE", 16 * 2**20)
    read(folder, caplog)
    assert not Path(os.environ["SSD_HOME"]).exists()


def test_files_with_problems_are_not_kept(folder, caplog, monkeypatch):
    path = folder / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["images"].append({"id": 11, "file_name": "missing.jpg", "width": 40, "height": 20})
    path.write_text(json.dumps(content))
    settle(folder)
    read(folder, caplog)
    monkeypatch.setattr(reading, "read_split", refuse)
    with pytest.raises(AssertionError, match="read again"):
        scan(folder, "train")


def test_the_format_is_recognised_once(folder, monkeypatch):
    assert find_format(folder, "auto") == (folder, "coco")
    recognise = recognition._recognise
    monkeypatch.setattr(recognition, "_recognise", refuse)
    assert find_format(folder, "auto") == (folder, "coco")
    monkeypatch.setattr(recognition, "_recognise", recognise)
    label = next(folder.rglob("a.jpg")).with_suffix(".txt")
    label.write_text("words")
    settle(folder)
    assert find_format(folder, "auto") == (folder, "coco")
    label.write_text("0 0.5 0.5 0.1 0.1")  # in the same folder, which has not changed
    with pytest.raises(DatasetError, match="coco and yolo at once"):
        find_format(folder, "auto")


def test_the_fingerprint_of_an_index_is_that_of_its_records_and_computed_once(folder, caplog, monkeypatch):
    records = read(folder, caplog)[0].records
    expected = fingerprint(list(records))
    assert expected.startswith("4a56aac215566b02")  # as of the runs of earlier versions, which are resumed
    assert fingerprint(records) == expected
    monkeypatch.setattr(digests, "_digest", refuse)
    assert fingerprint(records) == expected


def test_a_file_of_the_cache_that_is_cut_short_is_refused_when_it_is_opened(tmp_path, monkeypatch):
    monkeypatch.setenv("SSD_HOME", str(tmp_path))
    path = cache.store({"k": 1}, [], {}, {"a": np.arange(1000)})
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(ValueError, match="cut short"):
        cache.open_entry(path)


def test_unused_files_are_looked_for_once(folder, monkeypatch):
    image = write_image(next(folder.rglob("a.jpg")).parent / "spare.jpg")
    settle(folder)
    first = find_unused(folder)
    assert [note.kind for note in first] == ["unused_images"]
    monkeypatch.setattr(unused, "_find", refuse)
    assert find_unused(folder) == first
    image.unlink()
    with pytest.raises(AssertionError, match="read again"):
        find_unused(folder)


def test_only_changed_images_are_decoded_again(folder, caplog):
    dataset = read(folder, caplog)[0]
    checked = []
    check_unchecked(dataset, checked.append)
    check_unchecked(dataset, checked.append)
    os.utime(dataset.records[1].path, (1_000_000_001, 1_000_000_001))
    check_unchecked(dataset, checked.append)
    write_image(Path(dataset.records[0].path))  # just now
    check_unchecked(dataset, checked.append)
    check_unchecked(dataset, checked.append)
    assert [list(rows) for rows in checked] == [[0, 1], [], [1], [0], [0]]


def test_images_whose_check_failed_are_not_remembered(folder, caplog):
    dataset = read(folder, caplog)[0]
    with pytest.raises(AssertionError):
        check_unchecked(dataset, refuse)
    checked = []
    check_unchecked(dataset, checked.append)
    assert [list(rows) for rows in checked] == [[0, 1]]


def test_arrays_of_every_kind_come_back(tmp_path, monkeypatch):
    monkeypatch.setenv("SSD_HOME", str(tmp_path))
    arrays = {"a": np.arange(5, dtype=np.int16), "b": np.zeros((0, 4), np.float32), "c": np.ones((3, 4), np.float32)}
    path = cache.store({"k": 1}, [], {"x": "\udcff"}, arrays)
    entry = cache.load({"k": 1})
    assert entry.path == path
    assert entry.facts["x"] == "\udcff"
    assert {name: array.tolist() for name, array in entry.arrays.items()} == {n: a.tolist() for n, a in arrays.items()}
    assert cache.load({"k": 2}) is None
