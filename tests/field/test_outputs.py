"""What is written is whole or not there, and names are written as one line (rule 8)."""

import errno
import importlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssd.errors import ImageError, SSDError
from ssd.images import video_writer
from ssd.images.drawing import write_image
from ssd.images.video_reader import silent
from ssd.images.video_writer import VideoWriter
from ssd.inference.bulk.journal import Done
from ssd.inference.bulk.results import Results
from ssd.inference.bulk.sources import find_images
from ssd.system.files import check_writable, open_atomic
from ssd.system.temporary_folder import temporary_folder
from tests.commands.small_detector import read_rows, save_small_weights
from tests.reliability.nursery import Nursery
from tests.training.runs import TINY

IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_drawing_on_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, monkeypatch, code):
    def full(descriptor):
        raise OSError(code, "full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SSDError, match=r"drawn\.png: no space left") as caught:
        write_image(tmp_path / "drawn.png", IMAGE)
    assert not isinstance(caught.value, ImageError)  # those concern one image, and the next goes on
    assert list(tmp_path.iterdir()) == []


def test_a_drawing_in_a_folder_that_went_is_an_error_of_that_image(tmp_path):
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(tmp_path / "gone" / "drawn.png", IMAGE)


@pytest.mark.parametrize("name", ["a\nb", "a\r\nb", "a\u2028b", "\x1b[31mred"])
def test_a_class_takes_one_line_of_the_class_file(tmp_path, name):
    Results(tmp_path, frozenset({"yolo"}), ("cat", name, "dog"), {}, Done()).close()
    lines = (tmp_path / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert [lines[0], len(lines), lines[2]] == ["cat", 3, "dog"]
    assert lines[1].isprintable()


def test_jfif_is_an_image_and_what_macos_notes_about_files_is_not(tmp_path):
    for name in ("a.jfif", "B.JFIF", "._IMG.JPG", "._a.jfif", "c.jpg"):
        (tmp_path / name).touch()
    assert [path.name for path in find_images([str(tmp_path)])] == ["B.JFIF", "a.jfif", "c.jpg"]
    assert Path(tmp_path / "._IMG.JPG").exists()


# A part of the graph is written, and the rest takes its time.
SLOW_EXPORT = """
import pathlib, time
from ssd.api import export
def write(network, settings, path, *rest, **options):
    path.write_bytes(b"half")
    pathlib.Path({!r}).touch()
    time.sleep(60)
export.write_graph = write
"""


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(6000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")


def start_export(nursery: Nursery, folder: Path, sign: Path) -> int:
    """An export into `folder` that is half done when this returns."""
    sign.unlink(missing_ok=True)
    words = (str(folder / "small.safetensors"), "--format", "pt2", "--parity", str(folder), "--force")
    (pid,) = nursery.start("export", *words, first=SLOW_EXPORT.format(str(sign)))
    wait_until(sign.exists)
    return pid


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A folder with weights to export and an image to compare on."""
    folder = tmp_path / "run"
    folder.mkdir()
    save_small_weights(folder / "small.safetensors")
    write_image(folder / "a.png", IMAGE)
    return folder


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_export_that_is_told_to_end_leaves_nothing(nursery, exported, tmp_path, number, code):
    before = sorted(exported.iterdir())
    pid = start_export(nursery, exported, tmp_path / "writing")
    assert len(list(exported.glob(".export-*"))) == 1
    os.kill(pid, number)
    (ended,) = nursery.wait([pid], 30)
    assert (ended.code, ended.hung) == (code, False)
    assert "Traceback" not in ended.err
    assert len(ended.err.splitlines()) == 1
    assert sorted(exported.iterdir()) == before


def test_what_a_killed_export_left_is_removed_by_the_next_one_and_a_living_ones_stays(nursery, exported, tmp_path):
    killed = start_export(nursery, exported, tmp_path / "writing")
    (left,) = exported.glob(".export-*")
    os.kill(killed, signal.SIGKILL)
    nursery.wait([killed], 30)
    assert left.exists()
    living = start_export(nursery, exported, tmp_path / "writing")
    (alive,) = exported.glob(".export-*")
    assert alive != left
    with temporary_folder(exported, ".export-") as ours:
        assert sorted(exported.glob(".export-*")) == sorted([alive, ours])
    os.kill(living, signal.SIGTERM)
    nursery.wait([living], 30)
    assert list(exported.glob(".export-*")) == []


def test_a_folder_of_the_users_own_is_not_taken_for_a_leftover(tmp_path):
    for name in (".export-notes", ".export-of-last-year", "export-abcdefgh"):
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".export-abcdefgh").symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.iterdir())
    with temporary_folder(tmp_path, ".export-"):
        pass
    assert sorted(tmp_path.iterdir()) == before


REMOVE_FOLDER = """
import pathlib, shutil
from ssd.training import loss_monitor
real = loss_monitor.LossMonitor.add
def add(self, step, *rest):
    if step == {}:
        shutil.rmtree({!r})
    return real(self, step, *rest)
loss_monitor.LossMonitor.add = add
"""


@pytest.mark.parametrize("log_every", [1, 100])  # the next thing written is a row, or the state
def test_a_run_whose_folder_is_removed_ends_with_one_line(nursery, tmp_path, log_every):
    run = tmp_path / "tiny"
    words = (*TINY, f"output={tmp_path}", "name=tiny", f"train.log_every={log_every}", "--quiet")
    (ended,) = nursery.run("train", *words, first=REMOVE_FOLDER.format(2, str(run)))
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert ended.err.splitlines()[-1].startswith(f"error: {run}/")
    assert "cannot be written (No such file or directory)" in ended.err.splitlines()[-1]
    assert not run.exists()


def _never(*args: object, **options: object) -> None:
    raise AssertionError("the work was begun")


def _places(folder: Path) -> dict[str, Path]:
    """Folders in which nothing can be written, also by root: a file, below a file, and the system's own."""
    (folder / "file").touch()
    return {"a file": folder / "file", "below a file": folder / "file" / "below", "not the user's": Path("/proc")}


COMMANDS = {  # which take {0} as the folder of a result, and what must not be called for them
    "export": (["{weights}", "--format", "onnx", "--out", "{0}/a.onnx"], "ssd.api.export.load_network"),
    "eval": (["{weights}", "--format", "shapes", "--output", "{0}/a.json"], "ssd.api.evaluation_data.load"),
    "eval --results": (["{weights}", "--format", "shapes", "--results", "{0}/a.json"], "ssd.api.evaluation_data.load"),
    "eval --report": (["{weights}", "--format", "shapes", "--report", "{0}/a.html"], "ssd.api.evaluation_data.load"),
    "check-data": (["{images}", "--report", "{0}/a.html"], "ssd.api.check_data.examine"),
    "check-data --json": (["{images}", "--json", "{0}/a.json"], "ssd.api.check_data.examine"),
    "check-data --preview": (["{images}", "--preview", "{0}/a.png"], "ssd.api.check_data.examine"),
    "train": ([*TINY, "output={0}"], "ssd.experiment.data.open_split"),
    "train --preview": ([*TINY, "--preview", "{0}/a.png"], "ssd.experiment.data.open_split"),
    "detect": (
        ["{images}", "--weights", "{weights}", "--output", "{0}/out"],
        "ssd.inference.bulk.detect_files.Results",
    ),
    "summary": (["--compare", "{weights}", "--plot", "{0}/a.svg"], "ssd.summary.compare.compare"),
}


@pytest.mark.parametrize("kind", ["a file", "below a file", "not the user's"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_result_that_cannot_be_written_is_said_before_the_work(
    exported, tmp_path, monkeypatch, capsys, command, kind
):
    words, work = COMMANDS[command]
    place = _places(tmp_path)[kind]
    filled = [word.format(place, weights=exported / "small.safetensors", images=exported) for word in words]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(work, _never)
    before = sorted(tmp_path.rglob("*"))
    main = importlib.import_module(f"ssd.commands.{command.partition(' ')[0].replace('-', '_')}").main
    assert main(filled) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {place}")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_the_system_says_of_the_place_is_in_the_line_and_nothing_is_left(tmp_path, monkeypatch, code):
    def full(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.fsync", full)
    said = "no space left" if code == errno.ENOSPC else os.strerror(code)
    with pytest.raises(SSDError, match=said):
        check_writable(tmp_path / "not" / "yet" / "there.json")
    assert list(tmp_path.iterdir()) == []


def test_no_file_needs_no_place():
    check_writable(None, "-", "")


def test_a_file_that_is_written_in_parts_is_whole_or_not_there(tmp_path):
    (tmp_path / "a.json").write_text("old")

    def write() -> None:
        with open_atomic(tmp_path / "a.json") as file:
            file.write(b"[1,")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


# Room for the first frames of the drawn video, and for its journal.
LITTLE_ROOM = """
from ssd.images import video_writer
video_writer._ffmpeg_writes_h264 = lambda: False
video_writer._OPENCV = video_writer._OPENCV[{}:]
limit_file_size(0.008)
"""


@pytest.mark.parametrize("encoder", [1, 2])  # VP9 and MPEG-4; not every OpenCV has H.264
def test_a_drawn_video_for_which_the_disk_has_no_room_is_an_error_and_is_not_done(nursery, tmp_path, encoder):
    weights = save_small_weights(tmp_path / "small.safetensors")
    clip, out = _write_noise(tmp_path / "clip.avi"), tmp_path / "out"
    words = ("--weights", str(weights), "--quiet", "--max-detections", "1", str(clip), "--output", str(out))
    (ended,) = nursery.run("detect", *words, "--score-threshold", "0.9", first=LITTLE_ROOM.format(encoder))
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert "WARN" not in ended.err
    assert f"{out / 'clip.mp4'}: " in ended.err
    assert not any("frames" in row for row in read_rows(out))
    assert {path.name for path in out.iterdir()} <= {"detections.jsonl", "options.json"}


def test_a_video_that_lost_its_end_is_not_given_its_name(tmp_path, monkeypatch):
    """The encoder says nothing of it, as OpenCV's does."""
    real = video_writer._OpenCV.close

    def close(encoder):
        real(encoder)
        (part,) = tmp_path.glob(".a.part.mp4")
        os.truncate(part, part.stat().st_size - 100)

    monkeypatch.setattr(video_writer, "_ffmpeg_writes_h264", lambda: False)
    monkeypatch.setattr(video_writer._OpenCV, "close", close)
    (tmp_path / "a.mp4").write_bytes(b"an older one")
    with pytest.raises(ImageError, match="the video of 3 frames could not be written whole"):
        _write_video(tmp_path / "a.mp4", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"an older one"


def test_a_full_disk_is_noticed_while_a_video_is_written(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(video_writer, "_LOOK_EVERY", 2)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SSDError, match=r"a\.mp4: no space left"):
        _write_video(tmp_path / "a.mp4", 3)
    assert not any(path.name.startswith(".probe-") for path in tmp_path.iterdir())


def _write_noise(path: Path) -> Path:
    """A video that no encoder makes small."""
    with silent():
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (160, 120))
    for image in np.random.default_rng(0).integers(0, 255, (12, 120, 160, 3), np.uint8):
        writer.write(image)
    writer.release()
    return path


def _write_video(path: Path, frames: int) -> None:
    with VideoWriter(path, 25.0) as writer:
        for _ in range(frames):
            writer.write(np.zeros((48, 64, 3), np.uint8))
