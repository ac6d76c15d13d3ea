"""The logs of a run: JSON lines and CSV, and TensorBoard if it is installed.

A resumed run keeps the rows up to its saved step and cuts later ones. Unreadable lines are dropped with a warning; a
damaged log never stops a run.
"""

import csv
import importlib.util
import io
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssd.system.files import write_atomic, writing

log = logging.getLogger(__name__)


class RunLog:
    """One table of a run, `<name>.jsonl` and `<name>.csv`, and its scalars for TensorBoard under `<name>/`."""

    def __init__(self, folder: Path, name: str, *, resume_step: int = 0, tensorboard: Any = None) -> None:
        self.name = name
        self.lines = folder / f"{name}.jsonl"
        self.table = folder / f"{name}.csv"
        self.tensorboard = tensorboard
        self.columns: list[str] = []
        for path in (self.lines, self.table):
            _move_aside(path)
        rows, damaged = _read(self.lines)
        if damaged:
            log.warning("%s: left out what cannot be read: %s", self.lines, _named(damaged))
        # A step is logged once; if it occurs twice, the later row is from the resumed run.
        self.rows = list({row["step"]: row for row in rows if row["step"] <= resume_step}.values())
        if self.lines.exists() or self.table.exists():
            self._rewrite()

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row, which must have `step`.

        Raises:
            SSDError: the run's folder is gone or cannot be written, or there is no space left.
        """
        self.rows.append(dict(row))
        if not set(row) <= set(self.columns):
            self._rewrite()
        else:
            with writing(self.lines), self.lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")
            with writing(self.table), self.table.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.columns, restval="").writerow(row)
        if self.tensorboard is not None:
            for key, value in row.items():
                if isinstance(value, int | float) and key != "step":
                    self.tensorboard.add_scalar(f"{self.name}/{key}", value, row["step"])

    def _rewrite(self) -> None:
        self.columns = list(dict.fromkeys(key for row in self.rows for key in row))
        write_atomic(self.lines, "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.rows).encode())
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, self.columns, restval="")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomic(self.table, table.getvalue().encode())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a `.jsonl` file; unreadable lines, such as those of a killed run, are left out."""
    return _read(path)[0]


def _read(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The readable rows, and the numbers of the unreadable lines, from 1."""
    rows, damaged = [], []
    try:
        content = path.read_bytes()
    except OSError:  # missing, a folder, or not readable
        return [], []
    for number, line in enumerate(content.splitlines(), start=1):
        row = _row(line)
        if row is None:
            damaged.append(number)
        else:
            rows.append(row)
    return rows, damaged


def _row(line: bytes) -> dict[str, Any] | None:
    """One row: a flat object of finite numbers and text with a positive whole `step`; None for anything else."""
    try:
        row = json.loads(line.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, NaN or infinite, nested without end
        return None
    if not isinstance(row, dict) or any(isinstance(value, dict | list) for value in row.values()):
        return None
    step = row.get("step")
    whole = isinstance(step, int) and not isinstance(step, bool) and step >= 0
    finite = all(abs(value) < float("inf") for value in row.values() if isinstance(value, float))  # 1e999 is not
    return row if whole and finite else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _move_aside(path: Path) -> None:
    """Rename a folder or other non-file at the path of a log."""
    if path.exists() and not path.is_file():
        aside, number = path.with_name(f"{path.name}.aside"), 2
        while aside.exists():
            aside, number = path.with_name(f"{path.name}.aside-{number}"), number + 1
        path.rename(aside)
        log.warning("%s is not a file: moved to %s", path, aside.name)


def _named(lines: list[int]) -> str:
    shown = ", ".join(str(number) for number in lines[:5])
    return f"line {shown}" if len(lines) == 1 else f"{len(lines)} lines ({shown}{', ...' if len(lines) > 5 else ''})"


def tensorboard_writer(folder: Path, *, resume_step: int = 0) -> Any:
    """A TensorBoard writer for this run, or None where TensorBoard is not installed (extra `tensorboard`).

    In a resumed run rows after `resume_step` are hidden.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=resume_step + 1 if resume_step else None)
