import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ssd.commands.detect import main
from ssd.errors import ArgumentError
from ssd.inference.bulk import journal
from tests.commands.small_detector import read_rows, save_small_weights, snapshot, write_image, write_video

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return save_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture
def photos(tmp_path) -> Path:
    for number in range(6):
        write_image(tmp_path / "photos" / f"{number}.png", seed=number)
    write_image(tmp_path / "photos" / "deep" / "3.png", seed=9)
    return tmp_path / "photos"


def run(weights: Path, *arguments: object) -> int:
    options = ("--weights", str(weights), "--quiet", "--score-threshold", "0.2", "--recursive")
    return main([*options, *map(str, arguments)])


def by_path(folder: Path) -> dict[str, dict]:
    rows = read_rows(folder)
    assert len({(row["path"], row.get("frame", "frames" in row)) for row in rows}) == len(rows), "a line came twice"
    return {row["path"]: row for row in rows}


def cut(folder: Path, keep: int, half: str = "") -> None:
    """What a killed process leaves behind: the first lines, half of the next, and an image without a line."""
    journal = folder / "detections.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    journal.write_text("".join(lines[:keep]) + (half or lines[keep][: len(lines[keep]) // 2]), encoding="utf-8")


def test_what_is_left_is_done_and_what_is_done_is_left(weights, photos, tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(weights, photos, "--output", whole, "--batch-size", 2) == 0
    assert run(weights, photos, "--output", out, "--batch-size", 2) == 0
    cut(out, keep=3)
    finished = out / "0.png"
    finished.write_bytes(b"not written again")
    capsys.readouterr()
    assert run(weights, photos, "--output", out, "--batch-size", 2, "--resume") == 0
    printed = capsys.readouterr().out
    assert "3 of 7 are done already" in caplog.text
    assert "in 7 images" in printed
    assert finished.read_bytes() == b"not written again"
    assert {path: row["detections"] for path, row in by_path(out).items()} == {
        path: row["detections"] for path, row in by_path(whole).items()
    }
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


def test_a_finished_folder_is_left_as_it_is(weights, photos, tmp_path):
    out = tmp_path / "out"
    assert run(weights, photos, "--output", out, "--resume") == 0  # nothing there: it starts
    before = snapshot(out)
    assert run(weights, photos, "--output", out, "--resume") == 0
    assert snapshot(out) == before


def test_images_that_came_later_get_names_of_their_own(weights, photos, tmp_path):
    out = tmp_path / "out"
    (photos / "3.png").rename(tmp_path / "3.png")
    assert run(weights, photos, "--output", out) == 0
    (tmp_path / "3.png").rename(photos / "3.png")  # comes before deep/3.png, which has the name already
    assert run(weights, photos, "--output", out, "--resume") == 0
    rows = by_path(out)
    assert rows[str(photos / "deep" / "3.png")]["files"] == ["3.png"]
    assert rows[str(photos / "3.png")]["files"] == ["3-2.png"]


def test_a_image_that_failed_is_tried_again(weights, photos, tmp_path):
    out, bad = tmp_path / "out", photos / "2.png"
    good = bad.read_bytes()
    bad.write_bytes(good[:100])
    assert run(weights, photos, "--output", out) == 2
    assert "error" in by_path(out)[str(bad)]
    assert run(weights, photos, "--output", out, "--resume") == 2
    bad.write_bytes(good)
    assert run(weights, photos, "--output", out, "--resume") == 0
    assert "detections" in by_path(out)[str(bad)]


def test_a_video_that_was_not_finished_starts_again(weights, photos, tmp_path):
    out, clip = tmp_path / "out", write_video(tmp_path / "clip.avi", frames=6)
    for option in ("--force", "--resume"):
        assert run(weights, photos / "1.png", clip, "--output", out, option, "--format", "images,coco") == 0
        rows = read_rows(out)
        assert [row.get("frame") for row in rows] == [None, 0, 1, 2, 3, 4, 5, None]
        assert (rows[-1]["frames"], rows[-1]["files"]) == (6, ["clip.mp4"])
        results = json.loads((out / "coco.json").read_text())
        assert {row["image_id"] for row in results} <= {1, *(f"clip/{n:06d}" for n in range(6))}
        cut(out, keep=5)


def test_other_options_are_refused(weights, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(weights, photos, "--output", out) == 0
    before = snapshot(out)
    for change in (("--score-threshold", "0.3"), ("--tiles", "2"), ("--format", "yolo"), ("--weights", "coco")):
        if change == ("--weights", "coco"):
            continue  # it would be fetched first
        assert run(weights, photos, "--output", out, "--resume", *change) == 2
        assert "Use the same options, or a new folder" in capsys.readouterr().err
    assert snapshot(out) == before
    (out / "options.json").write_text("{")
    assert run(weights, photos, "--output", out, "--resume") == 2
    assert "options.json: cannot be read" in capsys.readouterr().err


def test_tiles_are_compared_too_as_given_and_as_left_out(weights, photos, tmp_path, capsys):
    out, photo = tmp_path / "out", photos / "1.png"
    assert run(weights, photo, "--output", out, "--format", "jsonl", "--tiles", "2x3") == 0
    before = snapshot(out)
    assert run(weights, photo, "--output", out, "--format", "jsonl", "--tiles", "2x3", "--resume") == 0
    for change in ([], ["--tiles", "2x2"]):
        assert run(weights, photo, "--output", out, "--format", "jsonl", "--resume", *change) == 2
        assert "what is there was made with tiles=[2, 3], not " in capsys.readouterr().err
    assert snapshot(out) == before


def test_an_option_that_an_earlier_version_did_not_have_has_its_default(tmp_path):
    (tmp_path / "detections.jsonl").write_text('{"path": "b.jpg", "detections": []}\n')
    journal.write_options(tmp_path, {"every": 1, "shard": None})
    assert journal.take_up(tmp_path, {"every": 1, "new": None}).paths == {"b.jpg"}
    with pytest.raises(ArgumentError, match="was made with new=None, not 2"):
        journal.take_up(tmp_path, {"every": 1, "new": 2})


def test_the_newest_numbered_folder_is_gone_on_in(weights, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run(weights, photos / "1.png") == 0
    cut(Path("runs/detect/2"), keep=0)
    assert run(weights, photos / "1.png", "--resume") == 0
    assert len(read_rows(Path("runs/detect/2"))) == 1
    assert not Path("runs/detect/3").exists()


def test_shards_have_folders_of_their_own_and_together_are_everything(weights, photos, tmp_path):
    out = tmp_path / "out"
    for number in (1, 2, 3):
        assert run(weights, photos, "--output", out, "--shard", f"{number}/3") == 0
    assert {path.name for path in out.iterdir()} == {f"shard-{number}-of-3" for number in (1, 2, 3)}
    rows = [row["path"] for folder in out.iterdir() for row in read_rows(folder)]
    assert sorted(rows) == sorted(map(str, photos.rglob("*.png")))


def test_an_interrupted_shard_goes_on_as_it_says(weights, photos, tmp_path, monkeypatch, capsys):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    for given, said in ((["--output", "my found"], "--output 'my found' --resume"), ([], "--resume")):
        with monkeypatch.context() as patch:
            patch.setattr("ssd.inference.bulk.detect_files.detect_images", interrupted)
            assert run(weights, photos, "--shard", "1/2", *given) == 130
        before = set(tmp_path.rglob("detections.jsonl"))
        note = capsys.readouterr().err
        assert note.endswith(f" Go on with the same command and {said}\n")
        assert run(weights, photos, "--shard", "1/2", *shlex.split(note.rpartition(" and ")[2])) == 0
        assert set(tmp_path.rglob("detections.jsonl")) == before


@pytest.mark.parametrize(
    "half", ["{", '{"path": "a.jpg"', '{"path": "a.jpg", "error": "x"}', "\x00\x00", '"text"\n', "\n"]
)
def test_half_a_line_is_cut_off(half, tmp_path):
    whole = '{"path": "b.jpg", "detections": []}\n'
    (tmp_path / "detections.jsonl").write_text(whole + half)
    journal.write_options(tmp_path, {})
    done = journal.take_up(tmp_path, {})
    assert done.paths == {"b.jpg"}
    assert (tmp_path / "detections.jsonl").read_text() == whole


def start(weights: Path, photos: Path, out: Path) -> subprocess.Popen[str]:
    script = str(CHECKOUT / "tools" / "detect.py")
    command = [sys.executable, script, str(photos), "--weights", str(weights), "--score-threshold", "0.2",
               "--output", str(out), "--batch-size", "1", "--resume", "--quiet"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # A suite that was started in the background ignores Ctrl-C, and so would what it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for_lines(process: subprocess.Popen[str], journal: Path, count: int) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    pytest.fail(f"no {count} lines came: {process.stderr.read() if process.poll() is not None else 'too slow'}")


def many(folder: Path, count: int) -> Path:
    first = write_image(folder / "0000.png", 200, 200)
    for number in range(1, count):
        (folder / f"{number:04d}.png").write_bytes(first.read_bytes())
    return folder


def test_ctrl_c_says_how_to_go_on_and_that_works(weights, tmp_path):
    photos, out = many(tmp_path / "photos", 400), tmp_path / "out"
    process = start(weights, photos, out)
    wait_for_lines(process, out / "detections.jsonl", 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    finished = len(read_rows(out))
    assert errors == f"interrupted after {finished} of 400. Go on with the same command and --output {out} --resume\n"
    assert finished < 400
    options = ("--weights", str(weights), "--quiet", "--score-threshold", "0.2")
    assert main([*options, str(photos), "--output", str(out), "--resume"]) == 0
    assert len(by_path(out)) == 400


@pytest.mark.slow
def test_killed_again_and_again_it_still_does_each_image_once(weights, tmp_path):
    photos, out = many(tmp_path / "photos", 300), tmp_path / "out"
    lines = 0
    for kill in range(4):
        process = start(weights, photos, out)
        wait_for_lines(process, out / "detections.jsonl", lines + 20 + 7 * kill)
        process.kill()
        process.communicate()
        lines = (out / "detections.jsonl").read_bytes().count(b"\n")
    assert lines < 300
    last = start(weights, photos, out)
    _, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors
    assert "of 300 are done already" in errors
    assert len(by_path(out)) == 300
    assert len(list(out.glob("*.png"))) == 300


@pytest.mark.parametrize("file", ["images/0.json", "Annotations/0.xml", "classes.txt"])
def test_labels_that_were_corrected_are_not_written_over(weights, photos, tmp_path, capsys, file):
    formats = ("--format", "labelme,voc,yolo", "--output", tmp_path / "out")
    assert run(weights, photos / "0.png", *formats) == 0
    assert run(weights, photos, *formats, "--resume") == 0  # nothing was changed
    found = tmp_path / "out" / file
    found.write_bytes(found.read_bytes() + b"\n")
    before = snapshot(tmp_path / "out")
    write_image(photos / "new.png", seed=20)
    capsys.readouterr()
    assert run(weights, photos, *formats, "--resume") == 2
    assert f"{file} was changed after it was written; going on would undo that" in capsys.readouterr().err
    assert snapshot(tmp_path / "out") == before


def test_corrected_rows_of_yolo_stay_when_further_images_are_searched(weights, photos, tmp_path):
    formats = ("--format", "yolo", "--output", tmp_path / "out")
    assert run(weights, photos / "0.png", *formats) == 0
    (tmp_path / "out" / "labels" / "0.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert run(weights, photos, *formats, "--resume") == 0
    assert (tmp_path / "out" / "labels" / "0.txt").read_text() == "0 0.5 0.5 0.1 0.1\n"
    assert (tmp_path / "out" / "labels" / "1.txt").exists()
