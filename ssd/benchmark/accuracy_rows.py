"""The rows of the accuracy suite: what identifies a training, and the JSON lines of those that are finished."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.errors import ArgumentError

OURS, PEER = "ours", "torchvision"
FIGURES = ("AP", "AP50", "AP75")


@dataclass(frozen=True)
class Training:
    """One training and its scoring: two that are equal give the same row, on any machine."""

    data: str  # name of the set
    phase: str  # val or test
    images: int  # that are trained on
    every: bool  # whether these are all training images
    epochs: int
    batch_size: int
    detector: str  # OURS or PEER
    seed: int
    backbone: str  # weights of VGG16 that both sides start from
    lr: float | None = None  # of torchvision's; ours has a rule
    changes: tuple[str, ...] = ()  # of the config, for ours

    @property
    def key(self) -> str:
        """The digest of everything above."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """The name of its run: readable, and another one for every training."""
        return f"{self.data}-{self.phase}-{self.images}-{self.detector}-seed{self.seed}-{self.key}"

    @property
    def steps(self) -> int:
        """Batches of the whole training; the last of an epoch may be smaller (ours), and torchvision takes as many."""
        return self.epochs * -(-self.images // self.batch_size)

    @property
    def label(self) -> str:
        """The detector as the table names it."""
        if self.detector == PEER:
            return f"torchvision `ssd300_vgg16`, lr {self.lr:g}"
        return "this package" + (f", `{' '.join(self.changes)}`" if self.changes else ", default settings")


@dataclass(frozen=True)
class Score:
    """The figures of one training."""

    figures: dict[str, float | None]  # AP, AP50, AP75
    steps: int
    seconds: float  # of training alone, over all calls
    scorings: int  # how often the scored split was evaluated with this network


class Rows:
    """The finished rows, one JSON object on each line of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = _read(path)

    def find(self, training: Training) -> dict[str, Any] | None:
        """The row of a training, if it is finished."""
        return next((row for row in self.rows if row["key"] == training.key), None)

    def add(self, training: Training, score: Score, **facts: object) -> None:
        """Append a row to the file."""
        row = {
            "key": training.key,
            **dataclasses.asdict(training),
            "label": training.label,
            **score.figures,
            "steps": score.steps,
            "seconds": round(score.seconds, 1),
            "scorings": score.scorings,
            **facts,
        }
        whole = not self.path.exists() or self.path.read_bytes()[-1:] in (b"", b"\n")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(("" if whole else "\n") + json.dumps(row) + "\n")
        self.rows.append(row)


def _read(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a file; a line that was cut by a kill is left out, and its training is scored again."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "key" in row:
            rows.append(row)
    return rows


def best_lr(rows: Rows, trials: Iterable[Training]) -> float | None:
    """The learning rate with the best AP among finished trials; None if none is finished."""
    found = [(row["AP"] or 0.0, trial.lr) for trial in trials if (row := rows.find(trial)) is not None]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def parse_images(words: Sequence[str], epochs: int) -> list[tuple[int | None, int]]:
    """Images and epochs of `all`, `50` or `50:85` words; None stands for all images.

    Raises:
        ArgumentError: a word of another form.
    """
    found = []
    for word in words:
        count, colon, own = word.partition(":")
        numbers = [*([] if count == "all" else [count]), *([own] if colon else [])]
        if not all(text.isdecimal() and int(text) > 0 for text in numbers):
            raise ArgumentError("is no number of images", place=word, remedy="Write all, 50 or 50:EPOCHS.")
        found.append((None if count == "all" else int(count), int(own) if colon else epochs))
    return found
