import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import ssd
from ssd.commands.detect import main
from tests.commands.small_detector import read_rows, save_small_weights, snapshot, write_image

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return save_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three good images, one of them deeper down, and a text file."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for name, size in (("b.png", (50, 70)), ("a.JPG", (80, 40)), ("deep/a.JPG", (33, 44))):
        write_image(folder / name, *size)
    (folder / "notes.txt").write_text("no image")
    return folder


def run(weights: Path, *arguments: object) -> int:
    return main(["--weights", str(weights), "--quiet", "--score-threshold", "0.01", *map(str, arguments)])


def test_a_folder_gives_a_line_and_a_drawn_image_for_each(weights, photos, tmp_path, capsys):
    before = snapshot(photos)
    out = tmp_path / "out"
    assert run(weights, photos, "--output", out, "--batch-size", 1) == 0
    assert [row["path"] for row in read_rows(out)] == [str(photos / "a.JPG"), str(photos / "b.png")]
    assert sorted(path.name for path in out.iterdir()) == ["a.JPG", "b.png", "detections.jsonl", "options.json"]
    assert (read_rows(out)[1]["width"], read_rows(out)[1]["height"]) == (70, 50)
    drawn = cv2.imdecode(np.frombuffer((out / "b.png").read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (50, 70, 3)
    objects = sum(len(row["detections"]) for row in read_rows(out))
    assert objects > 0
    printed = capsys.readouterr().out
    assert f"{objects} objects in 2 images" in printed
    assert f"a second: {out}" in printed
    assert snapshot(photos) == before


@pytest.mark.parametrize("sigma", [0.9, 0.0, None])
def test_box_voting_is_the_weights_own_or_as_told(weights, photos, tmp_path, sigma):
    words = [] if sigma is None else ["--box-voting", sigma]
    options = ["--precision", "fp32", "--iou-threshold", 0.2, "--output", tmp_path / "out"]
    assert run(weights, photos / "b.png", *options, *words) == 0
    detector = ssd.load(weights, precision="fp32")
    expected = detector.detect(photos / "b.png", score_threshold=0.01, iou_threshold=0.2, box_voting=sigma)
    assert read_rows(tmp_path / "out")[0]["detections"] == expected.to_dict()["detections"]
    plain = detector.detect(photos / "b.png", score_threshold=0.01, iou_threshold=0.2, box_voting=0.0)
    assert (expected.boxes.tolist() == plain.boxes.tolist()) is (sigma != 0.9)


def test_lines_say_what_detect_says(weights, photos, tmp_path):
    out = tmp_path / "out"
    run(weights, photos / "b.png", "--output", out, "--max-detections", 3, "--precision", "fp32")
    detector = ssd.load(weights, precision="fp32")
    expected = detector.detect(photos / "b.png", score_threshold=0.01, max_detections=3)
    assert read_rows(out) == [expected.to_dict() | {"files": ["b.png"]}]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_bad_image_is_named_and_the_others_go_on(batch_size, weights, photos, tmp_path, capsys):
    (photos / "aa.jpg").write_bytes((photos / "a.JPG").read_bytes()[:300])
    (photos / "ab.png").write_bytes(b"")
    out = tmp_path / "out"
    assert run(weights, photos, "--output", out, "--batch-size", batch_size) == 2
    found = read_rows(out)
    assert [Path(row["path"]).name for row in found] == ["a.JPG", "aa.jpg", "ab.png", "b.png"]
    assert ["error" in row for row in found] == [False, True, True, False]
    assert "empty" in found[2]["error"]
    errors = capsys.readouterr().err
    assert str(photos / "aa.jpg") in errors
    assert "2 failed, see above" in errors
    assert sorted(path.name for path in out.iterdir()) == ["a.JPG", "b.png", "detections.jsonl", "options.json"]


def test_a_folder_with_failures_alone_is_used_again(weights, tmp_path, capsys):
    photo, out = tmp_path / "a.png", tmp_path / "out"
    photo.write_bytes(b"no image")
    assert run(weights, photo, "--output", out, "--format", "images,coco,yolo,voc,labelme,cvat") == 2
    write_image(photo)
    assert run(weights, photo, "--output", out) == 0
    assert ["error" in row for row in read_rows(out)] == [False]
    capsys.readouterr()
    assert run(weights, photo, "--output", out) == 2  # now there is a result to lose
    assert "is not empty" in capsys.readouterr().err


def test_images_of_one_name_from_two_folders_both_get_drawn(weights, photos, tmp_path):
    out = tmp_path / "out"
    assert run(weights, photos, "--recursive", "--output", out) == 0
    assert {path.name for path in out.iterdir()} == {"a.JPG", "a-2.JPG", "b.png", "detections.jsonl", "options.json"}


def test_images_that_differ_in_suffix_alone_both_get_their_files(weights, photos, tmp_path):
    write_image(photos / "b.jpg")
    out = tmp_path / "out"
    assert run(weights, photos, "--output", out, "--format", "images,yolo") == 0
    assert {path.name for path in out.iterdir() if path.suffix in {".jpg", ".png"}} == {"b.jpg", "b-2.png"}
    assert {path.name for path in (out / "labels").iterdir()} == {"a.txt", "b.txt", "b-2.txt"}
    assert [row["files"] for row in read_rows(out)][1:] == [
        ["b.jpg", "images/b.jpg", "labels/b.txt"],
        ["b-2.png", "images/b-2.png", "labels/b-2.txt"],
    ]


def test_jsonl_writes_lines_alone(weights, photos, tmp_path):
    assert run(weights, photos, "--format", "jsonl", "--output", tmp_path / "out") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"detections.jsonl", "options.json"}
    assert "files" not in read_rows(tmp_path / "out")[0]


def test_yolo_writes_labels_and_class_names(weights, photos, tmp_path):
    out = tmp_path / "out"
    assert run(weights, photos / "b.png", "--format", "yolo", "--output", out) == 0
    (row,) = read_rows(out)
    lines = (out / "labels" / "b.txt").read_text().splitlines()
    assert len(lines) == len(row["detections"])
    label, x, y, width, height = map(float, lines[0].split())
    corners = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2]) * [70, 50, 70, 50]
    np.testing.assert_allclose(corners, row["detections"][0]["box"], atol=1e-3)
    assert label == row["detections"][0]["label"]
    assert (out / "classes.txt").read_text() == "cat\ndog\n"


def test_coco_results_have_numbers_for_names_and_say_what_the_lines_say(weights, photos, tmp_path):
    write_image(photos / "000000000139.png")
    out = tmp_path / "out"
    assert run(weights, photos, "--format", "coco", "--output", out) == 0
    results, lines = json.loads((out / "coco.json").read_text()), read_rows(out)
    assert {row["image_id"] for row in results} == {139, "a", "b"}
    assert len(results) == sum(len(row["detections"]) for row in lines)
    assert {row["category_id"] for row in results} == {
        1,
        2,
    }  # as in coco-data; COCO's own numbers are for all of COCO's classes
    first = lines[0]["detections"][0]
    x, y, width, height = results[0]["bbox"]
    np.testing.assert_allclose([x, y, x + width, y + height], first["box"], atol=1e-3)


def test_coco_results_go_by_an_annotation_file(weights, photos, tmp_path, capsys):
    out, ids = tmp_path / "out", tmp_path / "instances.json"
    images = [{"file_name": "some/where/b.png", "id": 7}]
    ids.write_text(json.dumps({"images": images, "categories": [{"name": "dog", "id": 3}, {"name": "cow", "id": 5}]}))
    assert run(weights, photos, "--format", "coco", "--coco-ids", ids, "--output", out) == 0
    results = json.loads((out / "coco.json").read_text())
    dogs = [
        item for row in read_rows(out) for item in row["detections"] if item["name"] == "dog" and "b.png" in row["path"]
    ]
    assert {(row["image_id"], row["category_id"]) for row in results} == {(7, 3)}
    assert len(results) == len(dogs)
    said = capsys.readouterr().err
    assert f"1 images are not in {ids}" in said
    cats = [
        item for row in read_rows(out) for item in row["detections"] if item["name"] == "cat" and "b.png" in row["path"]
    ]
    assert f"detections of classes that {ids} lacks are not in coco.json: cat ({len(cats)})\n" in said


def test_nothing_found_is_an_empty_list_and_empty_labels(weights, photos, tmp_path):
    out = tmp_path / "out"
    assert (
        main(
            [
                "--weights",
                str(weights),
                str(photos / "b.png"),
                "--score-threshold",
                "1",
                "--format",
                "yolo,coco",
                "--output",
                str(out),
                "--quiet",
            ]
        )
        == 0
    )
    assert json.loads((out / "coco.json").read_text()) == []
    assert (out / "labels" / "b.txt").read_text() == ""
    assert read_rows(out)[0]["detections"] == []


def test_tiles_are_searched_too(weights, tmp_path):
    large = write_image(tmp_path / "large.png", 300, 400)
    for tiles, folder in ((None, "plain"), ("2x3", "tiled"), ("auto", "auto")):
        assert run(weights, large, "--output", tmp_path / folder, *(["--tiles", tiles] if tiles else [])) == 0
    detector = ssd.load(weights)
    expected = detector.detect(large, score_threshold=0.01, tiles=(2, 3))
    assert read_rows(tmp_path / "tiled")[0]["detections"] == expected.to_dict()["detections"]
    assert read_rows(tmp_path / "tiled") != read_rows(tmp_path / "plain")
    assert read_rows(tmp_path / "auto") != read_rows(tmp_path / "plain")


def test_without_output_each_call_takes_the_next_number(weights, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run(weights, photos / "b.png", "--format", "jsonl") == 0
    assert sorted(path.name for path in Path("runs/detect").iterdir()) == ["1", "2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jpg"], "nowhere.jpg: no such file or folder"),
        (["photos/*.gif"], "no image or video found"),
        (["empty"], "empty: no image or video found"),
        (["photos", "--output", "photos"], "holds the images themselves"),
        (["photos", "--output", "photos", "--force"], "holds the images themselves"),
        (["photos", "--output", "full"], "is not empty"),
        (["photos", "--output", "photos/b.png"], "is a file"),
        (["photos", "--batch-size", "0"], "--batch-size"),
        (["photos", "--score-threshold", "1.5"], "score_threshold: 1.5 is out of range"),
        (["photos", "--iou-threshold", "-1"], "iou_threshold"),
        (["photos", "--max-detections", "0"], "max_detections"),
        (["photos", "--weights", "nowhere.safetensors"], "nowhere.safetensors: no such"),
        (["photos", "--precision", "int3"], "'int3'"),
        (["photos", "--device", "cuda:77"], "cuda:77"),
        (["photos", "--backend", "abacus"], "'abacus' is unknown"),
        (["photos", "--format", "images,kitti"], "--format: 'kitti' is unknown"),
        (["photos", "--tiles", "0"], "tiles: 0 is not a number of tiles"),
        (["photos", "--tiles", "many"], "--tiles: 'many' is not a number of tiles"),
        (["photos", "--tiles", "2", "--tile-overlap", "1"], "tile_overlap"),
        (["photos", "--every", "0"], "--every: 0 is too small"),
        (["photos", "--max-frames", "0"], "--max-frames: 0 is too small"),
        (["photos", "--shard", "9/8"], "--shard: '9/8' is not a share"),
        (["photos", "rtsp://nowhere/a", "--shard", "1/8"], "rtsp://nowhere/a cannot be divided"),
        (["0", "--resume"], "0 cannot be taken up again"),
        (["photos", "--coco-ids", "nowhere.json", "--format", "coco"], "nowhere.json: cannot be read"),
        (["photos", "--coco-ids", "photos/notes.txt", "--format", "coco"], "notes.txt: is no COCO annotation file"),
        (["photos", "--coco-ids", "nowhere.json"], "Add it: --format coco,images"),
        (["photos", "--recursive", "--format", "coco"], "has the id 'a' in coco.json, and so has photos/a.JPG"),
        (["photos", "http://host/a.png?size=3"], "http://host/a.png?size=3: is a URL, not a file. Download it first"),
        (["x" * 300], "xxx: cannot be read or written (File name too long)"),
        (["photos", "--output", "full", "--resume"], "full: has no detections.jsonl to go on from"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, weights, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "b.png").write_text("precious")
    before = snapshot(tmp_path)
    assert run(weights, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "runs").exists()


def test_force_writes_into_a_folder_that_holds_files(weights, photos, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "other.txt").write_text("kept")
    assert run(weights, photos, "--output", tmp_path / "full", "--force") == 0
    assert (tmp_path / "full" / "other.txt").read_text() == "kept"
    assert len(read_rows(tmp_path / "full")) == 2


def test_help_names_every_option_and_the_exit_codes(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in ("--weights", "--score-threshold", "--recursive", "--shard", "--tiles", "exit code at the end is 2"):
        assert option in text


def test_help_is_there_at_once_without_torch():
    code = "import sys; from ssd.commands.detect import parser; parser().format_help(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT, check=True)
    assert done.stdout == "False\n"


def test_show_without_a_display_says_so(weights, photos, tmp_path, monkeypatch, capsys):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if sys.platform != "linux":
        pytest.skip("there is a display without these variables")
    assert run(weights, photos, "--show", "--output", tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith("error: --show: no window can be opened here")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow  # test_detect_resume.py has a process in the fast tier
def test_the_tool_detects_as_a_process(weights, photos, tmp_path):
    command = [sys.executable, str(CHECKOUT / "tools" / "detect.py"), str(photos), "--weights", str(weights)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True, timeout=120
    )
    assert done.stdout.endswith(": runs/detect/1\n")
    assert len(read_rows(tmp_path / "runs" / "detect" / "1")) == 2


def test_ctrl_c_is_130(weights, photos, tmp_path, monkeypatch, capsys):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ssd.inference.bulk.detect_files.load", interrupted)
    assert run(weights, photos, "--output", tmp_path / "out") == 130
    assert capsys.readouterr().err == "interrupted\n"
