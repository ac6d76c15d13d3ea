import shutil

import pytest

from ssd.audit.box_presets import box_presets
from ssd.audit.readiness import judge
from ssd.audit.report import FITTED, examine
from ssd.audit.splits import Reading
from ssd.data.dataset import open_dataset
from ssd.errors import AnnotationError
from tests.audit.made import boxes, good, lists, sound, voc_splits
from tests.data.made import voc_folder, write_image, xml, xml_object

BAD = xml(xml_object(), xml_object(box=(5, 5, 5, 9)))


def verdict(folder, **options):
    return judge(examine(folder, Reading(), options.pop("own", boxes()), **options))


def test_a_sound_folder_can_train(tmp_path):
    found = verdict(sound(tmp_path))
    assert not found.stops
    assert found.line.startswith("training can start")


def test_bad_objects_stop_training_unless_they_are_dropped(tmp_path):
    folder = voc_splits(tmp_path, train={"a": BAD, "b": BAD}, val={"c": good()})
    found = verdict(folder)
    assert found.stops
    assert found.line == (
        "training would stop: 2 no_area. To do: correct the objects, or leave them out with data.bad_objects=drop"
    )
    assert not verdict(folder, drop=True).stops


def test_bad_objects_are_not_to_be_dropped_where_none_would_be_left(tmp_path):
    bad = xml(xml_object(box=(5, 5, 5, 9)))
    folder = voc_splits(tmp_path, train={"a": bad, "b": bad}, val={"c": good()})
    found = verdict(folder)
    assert found.line.startswith("training would stop: 2 no_area")
    assert "To do: correct the objects; " in found.line
    with pytest.raises(AnnotationError, match=r"(?s)2 bad objects .* Correct them\.$"):
        open_dataset(folder, "train")


def test_a_bad_split_that_training_does_not_use_stops_its_evaluation(tmp_path):
    folder = voc_splits(tmp_path, train={"a": good()}, val={"b": good()}, test={"c": BAD})
    found = verdict(folder)
    assert found.stops
    assert found.line.startswith("evaluation on test would stop: 1 no_area")


def test_a_image_that_cannot_be_decoded_stops_training_even_when_objects_are_dropped(tmp_path):
    folder = sound(tmp_path)
    (folder / "JPEGImages" / "a.jpg").write_bytes(b"")
    report = examine(folder, Reading(), boxes(), drop=True)
    assert "replace or remove those images (data.bad_images=skip passes over a few" in judge(report).line
    assert [record.image_id for record in report.usable.records] == ["b"]


def test_a_few_bad_images_stop_no_training_that_skips_them(tmp_path):
    folder = sound(tmp_path)
    (folder / "JPEGImages" / "a.jpg").write_bytes(b"")
    assert not verdict(folder, skip=True).stops
    (folder / "JPEGImages" / "b.jpg").write_bytes(b"")
    assert verdict(folder, skip=True).stops  # two of two are more than the loader passes over


def test_evaluation_skips_no_images(tmp_path):
    folder = sound(tmp_path)
    (folder / "JPEGImages" / "c.jpg").write_bytes(b"")
    assert verdict(folder, skip=True).stops


def test_unreadable_files_are_to_be_corrected(tmp_path):
    found = verdict(voc_splits(tmp_path, train={"a": "<", "b": good()}, val={"c": good()}))
    assert found.line == "training would stop: 1 unreadable. To do: correct or remove the files"


def test_a_missing_split_is_to_be_named(tmp_path):
    found = verdict(voc_folder(tmp_path, {"a": good()}, "val"))
    assert found.line.endswith("name the splits with data.train and data.val")


def test_what_stops_nothing_is_worth_a_look(tmp_path):
    zero = xml(xml_object(box=(0, 3, 12, 13)), xml_object(box=(0, 3, 12, 13)), xml_object(box=(3, 3, 60, 13)))
    folder = voc_splits(tmp_path, train={"a": zero, "b": zero}, val={"c": good(), "d": xml(xml_object("dog"))})
    images = folder / "JPEGImages"
    for copied, name in (("a", "b"), ("c", "d")):
        shutil.copy(images / f"{copied}.jpg", images / f"{name}.jpg")
    lists(folder, train="a b", val="b c d")
    found = verdict(folder)
    text = "\n".join(found.cautions)
    assert not found.stops
    assert found.line.startswith("training can start, but 1 of the 3 validation images are trained on")
    assert found.line.endswith(f"; {len(found.cautions) - 1} more to look at")
    assert "1 image in more than one split" in text
    assert "1 image more than once within a split" in text
    assert "6 boxes at pixel 0, where VOC counts from 1: set data.voc_offset=0" in text
    assert "1 class without an object in train: dog" in text
    assert "3 clipped: " in text
    assert "3 repeated: " in text


def test_a_better_table_is_named(tiny_coco):
    report = examine(tiny_coco, Reading(), boxes())
    (advice,) = [caution for caution in judge(report).cautions if "IoU" in caution]
    assert advice == (
        "52.5 % of the objects have a default box with an IoU of 0.5 (SSD300 voc): 58.1 % with model.input_size=300 "
        "model.box_table=coco, 67.7 % with model.input_size=512 model.box_table=coco"
    )


def test_the_fit_is_held_against_the_other_split(tmp_path):
    folder = voc_splits(tmp_path, train={"a": good(), "b": good()}, val={"c": good()})
    fit = examine(folder, Reading(), boxes(), fit_boxes=True).fit
    assert fit.splits == ("train", "val")
    assert set(fit.reached) == {"SSD300 voc", "SSD300 coco", "SSD300 fine", FITTED}
    assert fit.held_out_gain == pytest.approx(fit.reached[FITTED][1].recall - fit.reached[fit.best_table][1].recall)
    alone = examine(folder, Reading(), boxes(), only="train", fit_boxes=True).fit
    assert alone.held_out_gain is None


def test_there_is_no_fit_without_objects(tmp_path):
    assert (
        examine(voc_splits(tmp_path, train={"a": xml()}), Reading(), boxes(), only="train", fit_boxes=True).fit is None
    )


def test_the_configs_own_boxes_come_first_and_once():
    assert box_presets(boxes(512, "coco"))[0].name == "SSD512 coco"
    assert len(box_presets(boxes())) == 6
    own, *others = box_presets(boxes(96))
    assert (own.name, len(others)) == ("config", 6)


def test_a_test_split_that_chooses_the_best_weights_is_named_with_a_division_in_its_place(tmp_path):
    folder = voc_splits(tmp_path, train={"a": good(), "b": good()}, test={"c": good()})
    said = [caution for caution in verdict(folder).cautions if "no validation split" in caution]
    assert said == [
        "there is no validation split: test chooses the best weights, so its figures are too good; to keep test for "
        f"the end: ssd check-data {folder} --split train --divide 0.2 --out lists"
    ]
    assert not [caution for caution in verdict(sound(tmp_path / "own")).cautions if "no validation" in caution]


@pytest.fixture(scope="module")
def small_in_large(tmp_path_factory):
    """An object of 12 x 12 pixels in an image of 900 x 600, in each of two splits."""
    text = xml(xml_object(box=(10, 10, 22, 22)), size=(900, 600))
    folder = voc_splits(tmp_path_factory.mktemp("large"), train={"a": text}, val={"b": text})
    for name in "ab":
        write_image(folder / "JPEGImages" / f"{name}.jpg", 900, 600)
    return folder


def test_a_number_of_tiles_is_named_for_small_objects_in_large_images(small_in_large):
    def hint(size, **options):
        return [text for text in verdict(small_in_large, own=boxes(size), **options).cautions if "data.tiles" in text]

    # 2 pixels should be 32, but 7 tiles of a side of 600 would have fewer pixels than 120: 600 / (7 - 6 * 0.2) = 103.
    assert hint(120) == [
        "half of the objects in train have a side of at most 2 pixels at the input of 120: data.tiles=6 makes them 5.0 "
        "times as large in training, evaluation and detection"
    ]
    assert hint(400) == []
    assert hint(120, tiles=3) == []


def test_with_tiles_objects_are_measured_in_these(small_in_large):
    whole, tiled = (examine(small_in_large, Reading(), boxes(120), tiles=tiles).splits[0] for tiles in (1, 3))
    assert (whole.objects, tiled.objects) == (1, 1)
    own = next(iter(whole.reach))
    assert len(whole.reach[own].overlaps) == 1
    assert len(tiled.reach[own].overlaps) == 2  # in the whole image and in the first tile
    assert tiled.sizes.sides[95] > 2 * whole.sizes.sides[95]
