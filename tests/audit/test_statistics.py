import pytest

from ssd.audit.statistics import ClassCount, count_classes, empty_images, measure_sizes, repeated_objects
from ssd.data.objects import gather
from tests.audit.made import split, voc_splits
from tests.data.made import coco_content, coco_folder, xml, xml_object


def test_objects_images_difficult_and_crowd_are_counted(tmp_path):
    difficult = xml_object("dog", extra="<difficult>1</difficult>")
    folder = voc_splits(tmp_path, train={"a": xml(xml_object(), difficult, difficult), "b": xml(xml_object("dog"))})
    assert count_classes(split(folder, "train")) == [ClassCount("cat", 1, 1, 0, 0), ClassCount("dog", 3, 2, 2, 0)]


def test_a_crowd_region_is_no_object(tmp_path):
    counts = count_classes(split(coco_folder(tmp_path, coco_content()), "train"))
    assert counts == [ClassCount("car", 0, 1, 0, 1), ClassCount("toothbrush", 1, 1, 0, 0)]


def test_images_without_objects_are_named(tmp_path):
    folder = voc_splits(tmp_path, train={"a": xml(xml_object()), "b": xml()})
    assert empty_images(split(folder, "train")) == ["JPEGImages/b.jpg"]


def test_an_object_annotated_twice_is_noted(tmp_path):
    same, other = xml_object(box=(2, 3, 12, 13)), xml_object("dog", box=(2, 3, 12, 13))
    (problem,) = repeated_objects(split(voc_splits(tmp_path, train={"a": xml(same, same, other)}), "train"))
    assert str(problem) == "JPEGImages/a.jpg (cat): box 1 2 11 12 is annotated 2 times"
    assert problem.level == "note"


def test_sizes_are_those_at_the_networks_input(tmp_path):
    # 40x20 becomes 300x300: 10x10 pixels become 75x150, 39x1 becomes 292.5x15.
    folder = voc_splits(tmp_path, train={"a": xml(xml_object(box=(2, 3, 12, 13)), xml_object(box=(1, 1, 40, 2)))})
    sizes = measure_sizes(gather(split(folder, "train")), 300)
    assert sizes.buckets == {"small": 2, "medium": 0, "large": 0}
    assert sizes.sides[50] == pytest.approx(((75 * 150) ** 0.5 + (292.5 * 15) ** 0.5) / 2, abs=0.1)
    assert sizes.elongated == 0.5
    assert sizes.below_cell == 0
    assert measure_sizes(gather(split(folder, "train")), 300, cell=16.0).below_cell == 1


def test_without_objects_there_are_no_sizes(tmp_path):
    assert measure_sizes(gather(split(voc_splits(tmp_path, train={"a": xml()}), "train")), 300) is None
