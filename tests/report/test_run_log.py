import csv
from pathlib import Path

from ssd.report.run_log import RunLog, read_rows


def test_a_resumed_log_keeps_what_came_before_and_drops_what_will_be_repeated(tmp_path: Path) -> None:
    log = RunLog(tmp_path, "train")
    for step in (10, 20, 30):
        log.write({"step": step, "loss": step / 10})
    resumed = RunLog(tmp_path, "train", resume_step=20)
    resumed.write({"step": 30, "loss": 3.5})
    assert [row["loss"] for row in read_rows(tmp_path / "train.jsonl")] == [1.0, 2.0, 3.5]
    with (tmp_path / "train.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["10", "20", "30"]


def test_a_new_column_appears_in_the_table(tmp_path: Path) -> None:
    log = RunLog(tmp_path, "val")
    log.write({"step": 1, "AP": 0.5})
    log.write({"step": 2, "AP": 0.6, "AR": 0.7})
    log.write({"step": 3, "AP": 0.7})
    with (tmp_path / "val.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["AP"], row["AR"]) for row in rows] == [("0.5", ""), ("0.6", "0.7"), ("0.7", "")]


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_rows(path) == [{"step": 1}]
