import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import ssd
from tests.commands.small_detector import save_small_weights, write_image

CHECKOUT = Path(__file__).parents[2]
SCRIPT = CHECKOUT / "examples" / "ray_detect.py"


def test_a_mistake_is_found_before_ray_starts(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    done = run("photos", tmp_path / "full", folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"error: {tmp_path / 'full'}: is not empty. Name a new folder.\n")


def test_an_actor_keeps_the_order_and_names_what_it_cannot_read(tmp_path):
    """Without Ray: what an actor does with a batch."""
    images = [write_image(tmp_path / name, 50, 60, seed).read_bytes() for seed, name in enumerate(("a.png", "b.png"))]
    actor = runpy.run_path(str(SCRIPT))["Search"](
        str(save_small_weights(tmp_path / "small.safetensors")), 0.2, "bytes", 1
    )
    first, damaged, last = actor.rows(["a.png", "damaged.png", None], [images[0], images[1][:90], images[1]])
    for row, name, image in ((first, "a.png", images[0]), (last, None, images[1])):
        expected = actor.detector.detect(image, score_threshold=0.2).to_dict()
        assert (row["path"], row["width"], row["height"]) == (name, 60, 50)
        assert [found["label"] for found in row["detections"]] == [found["label"] for found in expected["detections"]]
        assert row["detections"]
    assert damaged["error"].startswith("damaged.png: ")
    assert damaged["detections"] == []


def run(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "SSD_BACKEND": "torch"}
    environment |= {"RAY_worker_niceness": "0"}  # Ray's own 15 starves beside other work
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, timeout=280, check=False
    )


@pytest.mark.slow
def test_a_local_ray_finds_what_the_detector_finds(tmp_path):
    pytest.importorskip("ray", reason="the extra ray is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra ray is not installed")
    import pyarrow

    weights = save_small_weights(tmp_path / "small.safetensors")
    paths = [
        write_image(tmp_path / "photos" / name, 50, 60 + index, index)
        for index, name in enumerate(("a.png", "b.jpg", "deep/c.png"))
    ]
    (tmp_path / "photos" / "damaged.png").write_bytes(paths[0].read_bytes()[:200])
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    options = (
        "--weights",
        "small.safetensors",
        "--score-threshold",
        "0.2",
        "--batch-size",
        "2",
        "--cpus-per-actor",
        "1",
    )

    done = run("photos", "found", *options, folder=tmp_path)
    assert done.returncode == 2, done.stderr  # the damaged one
    assert "damaged.png: cannot be decoded" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"images": 4, "failed": 1, "output": "found"}
    rows = {Path(row["path"]).name: row for row in parquet.read_table(tmp_path / "found").to_pylist()}
    detector = ssd.load(weights, backend="torch")
    for path in paths:
        expected = detector.detect(path, score_threshold=0.2).to_dict()
        assert len(rows[path.name]["detections"]) == len(expected["detections"]) > 0
        for row, wanted in zip(rows[path.name]["detections"], expected["detections"], strict=True):
            assert (row["label"], row["name"]) == (wanted["label"], wanted["name"])
            assert row["box"] == pytest.approx(wanted["box"], abs=0.5)
            assert row["score"] == pytest.approx(wanted["score"], abs=0.02)
        assert rows[path.name]["error"] is None
    assert rows["damaged.png"]["detections"] == []

    images = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    parquet.write_table(pyarrow.table({"image": images}), tmp_path / "images.parquet")
    done = run("images.parquet", "found2", "--column", "image", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    again = parquet.read_table(tmp_path / "found2").to_pylist()
    assert sorted(len(row["detections"]) for row in again) == sorted(
        len(row["detections"]) for row in rows.values() if row["error"] is None
    )
