import json
import pickle
import sys

import cv2
import numpy as np
import pytest

from ssd.errors import ArgumentError, ImageError, MissingExtraError
from ssd.inference.detections import Detection, Detections

NAMES = ("cat", "dog", "größe")


def make(source=None, *, draw_from: float = 0.0) -> Detections:
    return Detections(
        boxes=np.array([[10, 20, 30, 60], [0, 0, 80, 40], [79.5, 59.25, 80, 60]], np.float32),
        scores=np.array([0.9, 0.5, 0.1], np.float32),
        labels=np.array([1, 0, 1]),
        class_names=NAMES,
        image_size=(60, 80),
        source=source,
        draw_from=draw_from,
    )


def none() -> Detections:
    return make(np.zeros((60, 80, 3), np.uint8))[:0]


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "street.png"
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    path.write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    return path


def test_each_detection_has_its_box_score_label_and_name():
    assert next(iter(make())) == Detection((10.0, 20.0, 30.0, 60.0), 0.9, 1, "dog")
    assert make().names == ("dog", "cat", "dog")
    assert make()[-1].name == "dog"
    assert len(make()) == 3


def test_a_number_beyond_the_end_is_an_index_error():
    with pytest.raises(IndexError):
        make()[3]


@pytest.mark.parametrize(
    ("index", "scores"),
    [
        (slice(1, None), [0.5, 0.1]),
        (np.array([True, False, True]), [0.9, 0.1]),
        ([2, 0], [0.1, 0.9]),
        (np.array([1]), [0.5]),
        ([], []),
    ],
)
def test_slices_masks_and_numbers_give_subsets(index, scores):
    subset = make()[index]
    assert isinstance(subset, Detections)
    assert subset.scores.tolist() == pytest.approx(scores)
    assert len(subset.boxes) == len(subset.labels) == len(subset) == len(scores)


def test_filter_keeps_names_and_scores():
    assert make().filter("dog").scores.tolist() == pytest.approx([0.9, 0.1])
    assert make().filter(["cat", "größe"]).names == ("cat",)
    assert make().filter(min_score=0.5).names == ("dog", "cat")
    assert len(make().filter(["dog"], min_score=0.95)) == 0


def test_filter_names_the_class_it_does_not_know():
    with pytest.raises(ArgumentError, match=r"no class 'cow'.*cat, dog"):
        make().filter("cow")


def test_plot_draws_on_a_copy_of_the_image(photograph):
    from ssd.images.decode import load_image

    image = load_image(photograph)
    drawn = make(image).plot()
    assert drawn.shape == image.shape
    assert (drawn != image).any()
    assert (image == load_image(photograph)).all()
    assert (make(photograph).plot() == drawn).all()


def test_plot_without_a_chosen_threshold_draws_readable_scores_alone():
    image = np.zeros((60, 80, 3), np.uint8)
    everything, readable = make(image), make(image, draw_from=0.5)
    assert (readable.plot() == everything[:2].plot()).all()
    assert (readable.plot(min_score=0.0) == everything.plot()).all()
    assert (readable.filter(min_score=0.05).plot() == everything.plot()).all()
    assert (readable.plot(min_score=0.6) == everything[:1].plot()).all()


def test_save_writes_the_drawn_image(photograph):
    path = make(photograph).save(photograph.with_name("street.boxes.png"))
    saved = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert (saved == make(photograph).plot()).all()


def test_save_never_overwrites_the_image_itself(photograph, tmp_path):
    before = photograph.read_bytes()
    link = tmp_path / "link.png"
    link.symlink_to(photograph)
    for path in (photograph, tmp_path / ".." / tmp_path.name / "street.png", link):
        with pytest.raises(ImageError, match="the image itself"):
            make(photograph).save(path)
    assert photograph.read_bytes() == before


def test_a_image_that_is_gone_or_was_replaced_is_named(photograph, tmp_path):
    photograph.write_bytes(cv2.imencode(".png", np.zeros((10, 12, 3), np.uint8))[1].tobytes())
    with pytest.raises(ImageError, match=r"street.png.*12x10, not 80x60"):
        make(photograph).plot()
    with pytest.raises(ImageError, match=r"gone\.png"):
        make(tmp_path / "gone.png").plot()
    with pytest.raises(ImageError, match="do not know their image"):
        make().crop()


def test_crops_are_the_pixels_under_each_box():
    image = np.arange(60 * 80 * 3, dtype=np.uint32).astype(np.uint8).reshape(60, 80, 3)
    crops = make(image).crop()
    assert (crops[0] == image[20:60, 10:30]).all()
    assert (crops[1] == image[0:40, 0:80]).all()
    assert (crops[2] == image[59:60, 79:80]).all()


def test_a_crop_has_every_pixel_that_the_box_touches():
    image = np.arange(300, dtype=np.uint32).astype(np.uint8).reshape(10, 10, 3)
    box = np.array([[1.2, 2.8, 3.5, 4.1]], np.float32)
    found = Detections(box, np.ones(1, np.float32), np.zeros(1, int), NAMES, (10, 10), image)
    assert (found.crop()[0] == image[2:5, 1:4]).all()


def test_another_image_of_the_same_size_can_be_given(photograph):
    image = np.full((60, 80, 3), 7, np.uint8)
    assert (make().crop(image)[0] == 7).all()
    assert (make(photograph).crop(image)[0] == 7).all()
    assert (make().plot(image) == make(image).plot()).all()
    with pytest.raises(ImageError, match=r"the image: the image is 70x60, not 80x60"):
        make(photograph).crop(image[:, :70])


def test_a_box_without_area_still_crops_one_pixel():
    image = np.zeros((60, 80, 3), np.uint8)
    flat = Detections(
        np.array([[80, 60, 80, 60]], np.float32), np.ones(1, np.float32), np.zeros(1, int), NAMES, (60, 80), image
    )
    assert flat.crop()[0].shape == (1, 1, 3)


def test_a_dict_holds_plain_types(photograph):
    found = make(photograph).to_dict()
    assert found["path"] == str(photograph)
    assert (found["width"], found["height"]) == (80, 60)
    assert found["detections"][2] == {"box": [79.5, 59.25, 80.0, 60.0], "score": 0.1, "label": 1, "name": "dog"}
    assert none().to_dict()["detections"] == []
    assert make().to_dict()["path"] is None


def test_json_reads_back_to_the_same_float32():
    rng = np.random.default_rng(1)
    boxes, scores = rng.random((50, 4), np.float32) * 500, rng.random(50, np.float32)
    found = Detections(boxes, scores, np.full(50, 2), NAMES, (500, 500))
    text = found.to_json()
    assert "größe" in text
    read = json.loads(text)["detections"]
    assert (np.array([row["box"] for row in read], np.float32) == boxes).all()
    assert (np.array([row["score"] for row in read], np.float32) == scores).all()
    assert found.to_json(indent=2).count("\n") > 50


def test_a_dict_reads_back(photograph):
    for found in (make(photograph), make(), none()):
        read = Detections.from_dict(json.loads(found.to_json()), NAMES)
        assert read.to_dict() == found.to_dict()
        assert read.class_names == NAMES
        assert read.boxes.dtype == np.float32
    assert (Detections.from_dict(make(photograph).to_dict()).plot() == make(photograph).plot()).all()


def test_names_that_did_not_occur_are_numbered():
    row = make()[:1].to_dict()
    assert Detections.from_dict(row).class_names == ("class_0", "dog")


@pytest.mark.parametrize("change", [{"detections": None}, {"width": "wide"}, {"detections": [{"box": [1, 2, 3]}]}])
def test_what_is_no_dict_of_detections_is_named(change):
    with pytest.raises(ArgumentError, match="not a dictionary of detections"):
        Detections.from_dict(make().to_dict() | change)


@pytest.mark.parametrize(("label", "names"), [(2, ("cat", "dog")), (-1, None)])
def test_a_label_without_a_name_is_named(label, names):
    row = make()[:1].to_dict()
    row["detections"][0]["label"] = label
    with pytest.raises(ArgumentError, match=f"label {label} of "):
        Detections.from_dict(row, names)


def test_yolo_rows_are_label_centre_and_sides_as_fractions():
    assert make().to_yolo().splitlines()[:2] == [
        "1 0.2500000 0.6666667 0.2500000 0.6666667",
        "0 0.5000000 0.3333333 1.0000000 0.6666667",
    ]
    assert make().to_yolo(scores=True).splitlines()[1].endswith(" 0.500000")
    assert none().to_yolo() == ""


def test_yolo_rows_read_back_as_a_data_set(photograph, tmp_path):
    from ssd.data.formats import yolo

    photograph.with_suffix(".txt").write_text(make().to_yolo())
    (tmp_path / "data.yaml").write_text(f"train: .\nnames: [{', '.join(NAMES)}]", encoding="utf-8")
    (picture,) = yolo.read(tmp_path, "train").images
    boxes = np.array([item.box for item in picture.objects])
    np.testing.assert_allclose(boxes, make().boxes, atol=1e-4)
    assert [item.name for item in picture.objects] == ["dog", "cat", "dog"]


def test_coco_rows_need_an_id_for_each_class():
    with pytest.raises(ArgumentError, match="category_ids: 2 numbers for 3 classes"):
        make().to_coco(1, category_ids=[1, 2])


def test_coco_rows_are_x_y_width_height_with_the_category_of_each_class():
    rows = make().to_coco(17, category_ids=[3, 90, 91])
    assert rows[0] == {"image_id": 17, "category_id": 90, "bbox": [10.0, 20.0, 20.0, 40.0], "score": pytest.approx(0.9)}
    assert [row["category_id"] for row in make().to_coco("a")] == [2, 1, 2]
    json.dumps(rows, allow_nan=False)


def test_supervision_gets_the_same_arrays():
    supervision = pytest.importorskip("supervision", reason="the package supervision is not installed")
    found = make().to_supervision()
    assert isinstance(found, supervision.Detections)
    assert (found.xyxy == make().boxes).all()
    assert found.class_id.tolist() == [1, 0, 1]
    assert found["class_name"].tolist() == ["dog", "cat", "dog"]
    assert len(found[found.confidence > 0.4]) == 2
    assert len(none().to_supervision()) == 0


def test_pandas_gets_a_row_for_each_detection():
    pytest.importorskip("pandas", reason="the package pandas is not installed")
    frame = make().to_pandas()
    assert list(frame) == ["x1", "y1", "x2", "y2", "score", "label", "name"]
    assert frame["x2"].tolist() == [30, 80, 80]
    assert len(none().to_pandas()) == 0


@pytest.mark.parametrize("package", ["supervision", "pandas"])
def test_a_missing_package_is_named_with_its_remedy(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"pip install {package}"):
        getattr(make(), f"to_{package}")()


def test_repr_says_what_was_found(photograph):
    assert repr(make(photograph)) == f"<3 detections in {photograph} (80x60): dog 0.90, cat 0.50, dog 0.10>"
    assert repr(none()) == "<0 detections in an image (80x60)>"


def test_a_notebook_shows_the_drawn_image_where_there_is_one(photograph):
    shown = make(photograph)._repr_png_()
    assert (cv2.imdecode(np.frombuffer(shown, np.uint8), cv2.IMREAD_COLOR_RGB) == make(photograph).plot()).all()
    assert make(photograph)._repr_html_() is None


def test_a_large_image_is_shown_no_larger_than_a_screen():
    image = np.zeros((1500, 3000, 3), np.uint8)
    shown = Detections(
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int), NAMES, (1500, 3000), image
    )
    assert cv2.imdecode(np.frombuffer(shown._repr_png_(), np.uint8), 1).shape == (500, 1000, 3)


def test_a_notebook_shows_a_table_where_there_is_no_image():
    assert make()._repr_png_() is None
    table = make()._repr_html_()
    assert "<td>dog</td><td>0.90</td><td>10.0</td>" in table
    assert "3 detections in an image (80x60)" in table
    risky = Detections(*(getattr(make(), k) for k in ("boxes", "scores", "labels")), ("<b>", "&", "c"), (60, 80))
    assert "<b>" not in risky._repr_html_()
    many = make()[[0] * 25]._repr_html_()
    assert many.count("<td>dog</td>") == 20
    assert "5 more" in many


def test_no_detections_work_everywhere():
    assert none().crop() == []
    assert none().to_coco(1) == []
    assert list(none()) == []
    assert none().names == ()
    assert none().plot().shape == (60, 80, 3)
    assert len(none().filter("cat", min_score=0.1)) == 0


def test_detections_pickle():
    assert pickle.loads(pickle.dumps(make())).names == make().names
