import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import ssd.detector
from ssd import variants
from ssd.checkpoint import save_weights
from ssd.commands.detect import main


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A very small network with loud random weights: it finds something in every picture."""
    import torch

    torch.manual_seed(0)
    settings = variants.settings_for(("cat", "dog"), input_size=64, width=0.125)
    network = variants.from_settings(settings)
    for level in network.head.classes:
        torch.nn.init.normal_(level.weight, std=0.05)
        level.bias.data.view(-1, 3)[:, 0] = 5  # background
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, network.state_dict(), settings)
    return path


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three good pictures, one of them deeper down, and a text file."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("b.png", (50, 70)), ("a.JPG", (80, 40)), ("deep/a.JPG", (33, 44))):
        image = rng.integers(0, 255, (*size, 3), np.uint8)
        (folder / name).write_bytes(cv2.imencode(Path(name).suffix.lower(), image)[1].tobytes())
    (folder / "notes.txt").write_text("no picture")
    return folder


def run(weights: Path, *arguments: object) -> int:
    return main(["--weights", str(weights), "--quiet", "--score-threshold", "0.01", *map(str, arguments)])


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "detections.jsonl").read_text(encoding="utf-8").splitlines()]


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_gives_a_line_and_a_drawn_picture_for_each(weights, photos, tmp_path, capsys):
    before = snapshot(photos)
    out = tmp_path / "out"
    assert run(weights, photos, "--output", out, "--batch-size", 1) == 0
    assert [row["path"] for row in rows(out)] == [str(photos / "a.JPG"), str(photos / "b.png")]
    assert sorted(path.name for path in out.iterdir()) == ["a.JPG", "b.png", "detections.jsonl"]
    assert (rows(out)[1]["width"], rows(out)[1]["height"]) == (70, 50)
    drawn = cv2.imdecode(np.frombuffer((out / "b.png").read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (50, 70, 3)
    objects = sum(len(row["detections"]) for row in rows(out))
    assert objects > 0
    assert f"{objects} objects in 2 pictures: {out}" in capsys.readouterr().out
    assert snapshot(photos) == before


def test_lines_say_what_detect_says(weights, photos, tmp_path):
    out = tmp_path / "out"
    run(weights, photos / "b.png", "--output", out, "--max-detections", 3, "--precision", "fp32")
    detector = ssd.detector.load(weights, precision="fp32")
    expected = detector.detect(photos / "b.png", score_threshold=0.01, max_detections=3)
    assert rows(out) == [expected.to_dict()]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_bad_picture_is_named_and_the_others_go_on(batch_size, weights, photos, tmp_path, capsys):
    (photos / "aa.jpg").write_bytes((photos / "a.JPG").read_bytes()[:300])
    (photos / "ab.png").write_bytes(b"")
    out = tmp_path / "out"
    assert run(weights, photos, "--output", out, "--batch-size", batch_size) == 2
    found = rows(out)
    assert [Path(row["path"]).name for row in found] == ["a.JPG", "aa.jpg", "ab.png", "b.png"]
    assert ["error" in row for row in found] == [False, True, True, False]
    assert "empty" in found[2]["error"]
    errors = capsys.readouterr().err
    assert str(photos / "aa.jpg") in errors
    assert "2 of 4 pictures failed" in errors
    assert sorted(path.name for path in out.iterdir()) == ["a.JPG", "b.png", "detections.jsonl"]


def test_pictures_of_one_name_from_two_folders_both_get_drawn(weights, photos, tmp_path):
    out = tmp_path / "out"
    assert run(weights, photos, "--recursive", "--output", out) == 0
    assert {path.name for path in out.iterdir()} == {"a.JPG", "a-2.JPG", "b.png", "detections.jsonl"}


def test_no_images_writes_lines_alone(weights, photos, tmp_path):
    assert run(weights, photos, "--no-images", "--output", tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["detections.jsonl"]


def test_without_output_each_call_takes_the_next_number(weights, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run(weights, photos / "b.png", "--no-images") == 0
    assert sorted(path.name for path in Path("runs/detect").iterdir()) == ["1", "2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jpg"], "nowhere.jpg: no such file or folder"),
        (["photos/*.gif"], "no picture found"),
        (["empty"], "empty: no picture found"),
        (["photos", "--output", "photos"], "holds the pictures themselves"),
        (["photos", "--output", "photos", "--overwrite"], "holds the pictures themselves"),
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


def test_overwrite_writes_into_a_folder_that_holds_files(weights, photos, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "other.txt").write_text("kept")
    assert run(weights, photos, "--output", tmp_path / "full", "--overwrite") == 0
    assert (tmp_path / "full" / "other.txt").read_text() == "kept"
    assert len(rows(tmp_path / "full")) == 2


def test_help_names_every_option_and_the_exit_codes(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in ("--weights", "--score-threshold", "--recursive", "exit code is 1"):
        assert option in text


def test_ctrl_c_is_130(weights, photos, tmp_path, monkeypatch, capsys):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ssd.detector.load", interrupted)
    assert run(weights, photos, "--output", tmp_path / "out") == 130
    assert capsys.readouterr().err == "interrupted\n"
