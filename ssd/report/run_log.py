"""The rows a run leaves behind: JSON lines and CSV always, TensorBoard when it is installed.

A resumed run goes on where its state was saved: rows after that step are cut, none before it is lost.
"""

import csv
import importlib.util
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssd.system.files import write_atomic


class RunLog:
    """One table of a run, `<name>.jsonl` and `<name>.csv`, and its scalars for TensorBoard under `<name>/`."""

    def __init__(self, folder: Path, name: str, *, resume_step: int = 0, tensorboard: Any = None) -> None:
        self.name = name
        self.lines = folder / f"{name}.jsonl"
        self.table = folder / f"{name}.csv"
        self.tensorboard = tensorboard
        self.rows = [row for row in read_rows(self.lines) if row["step"] <= resume_step]
        self.columns: list[str] = []
        if self.lines.exists():
            self._rewrite()

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row; it must hold `step`."""
        self.rows.append(dict(row))
        if not set(row) <= set(self.columns):
            self._rewrite()
        else:
            with self.lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")
            with self.table.open("a", encoding="utf-8", newline="") as file:
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
    """Rows of a `.jsonl` file; a last line cut short by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def tensorboard_writer(folder: Path) -> Any:
    """A TensorBoard writer for this run, or None where TensorBoard is not installed (extra `tensorboard`)."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))
