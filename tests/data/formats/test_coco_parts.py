"""Annotations taken many at once are those taken one at a time."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.data.formats import coco_objects, json_parts
from ssd.data.formats.coco_json import read_content, read_images
from tests.data.made import coco_content, coco_folder

ODD = [None, True, 0, -1, 1.0, 2.5, 10**30, 2**63, float("nan"), float("inf"), "1", "true", "", [], {}, [1]]
BOXES = [[1, 2, 3, 4], [1.5, 2, 3, 4], [1, 2, 3], [1, 2, 3, True], [1e308, 0, 1e308, 10**400], [], None, "abcd", 5]
OUTLINE = [[1, 1, 5, 1, 5, 5]]


def entries():
    entry = st.fixed_dictionaries(
        {"id": st.integers(1, 30), "image_id": st.sampled_from([7, 9]), "category_id": st.sampled_from([3, 90])},
        optional={
            "bbox": st.just([2, 3, 10.5, 10]),
            "area": st.sampled_from([60.5, 7]),
            "iscrowd": st.integers(0, 1),
            "segmentation": st.just(OUTLINE),
            "attributes": st.sampled_from([{"occluded": True}, {"rotation": 0.0}, {"rotation": 30}]),
        },
    )
    key = st.sampled_from(["id", "image_id", "category_id", "bbox", "area", "iscrowd", "attributes"])
    changed = st.tuples(entry, key, st.sampled_from([*ODD, *BOXES])).map(lambda one: one[0] | {one[1]: one[2]})
    return st.lists(entry | entry | entry | changed | st.sampled_from(ODD), max_size=12)


def all_of(content):
    columns = content.objects
    items = [(int(columns.owners[row]), columns.item(row)) for row in range(len(columns))]
    told = [(str(problem), problem.kind, problem.level) for problem in content.problems]
    return repr((items, told, content.outlined, content.categories))


@given(entries(), st.sampled_from([30, 200, 2000]), st.booleans())
def test_many_at_once_are_as_one_at_a_time(tmp_path_factory, annotations, at_once, is_first):
    path = tmp_path_factory.getbasetemp() / "entries.json"
    content = coco_content(annotations=annotations)
    content["images"].append({"id": 11, "file_name": "a.jpg"})  # listed before; its objects are left out
    content["categories"].append({"id": 4, "name": "car"})
    if is_first:
        content = {"annotations": content.pop("annotations"), **content}
    path.write_text(json.dumps(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_parts, "_AT_ONCE", at_once)
        found = all_of(read_content(path, "x.json"))
        patch.setattr(json_parts, "_AT_ONCE", 10**6)
        patch.setattr(coco_objects, "_usual", lambda entries: None)
        assert found == all_of(read_content(path, "x.json"))


def test_the_usual_entries_are_taken_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_objects, "_read_object", None)
    root = coco_folder(tmp_path, coco_content())
    content = read_content(root / "annotations" / "instances_train.json", "x")
    assert content.objects.boxes.tolist() == [[2, 3, 12, 13], [0, 0, 40, 20]]
    assert content.objects.indexes.tolist() == [1, 2]


def test_images_are_read_without_what_follows_them(tmp_path):
    path = tmp_path / "a.json"
    text = json.dumps(coco_content())
    path.write_text(text[: text.rindex('"area"')] + "???")
    assert [entry.file_name for entry in read_images(path)] == ["a.jpg", "b.jpg"]
