"""`review`: wrong labels, found by networks that were trained without the images they judge."""

import dataclasses
import itertools
import json
import os
import shlex
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssd.api.overrides import Overrides, as_list
from ssd.api.review_folds import FoldResult, divide, fingerprint, judge_fold, open_whole, train_without
from ssd.data.dataset import Dataset
from ssd.data.formats.registry import splits
from ssd.data.labels.data_sets import write_data_sets
from ssd.data.labels.label_formats import parse_label_formats
from ssd.errors import ArgumentError, at_least, printable
from ssd.evaluation.causes.evidence import Evidence
from ssd.evaluation.causes.suspects import Fault, Suspect, counts, find_suspects, proposed
from ssd.evaluation.metrics.details import Details
from ssd.evaluation.page.label_review import write_review_page
from ssd.experiment import config_file as configs
from ssd.experiment.config import Config, TrainConfig
from ssd.experiment.training_config import training_config
from ssd.inference.options import named_options
from ssd.report.blocks import number
from ssd.system.files import check_writable, write_atomic, write_json

_FACTS = "review.json"
PAGE = "review.html"
LEAST = 0.5  # score from which a suspect is proposed to be corrected


@dataclass(frozen=True, repr=False)
class ReviewResult:
    """Labels that are probably wrong, the most suspect first, and the k-fold figures."""

    folder: Path  # of everything that was written
    dataset: Dataset
    suspects: tuple[Suspect, ...]
    folds: tuple[FoldResult, ...]
    details: Details = field(repr=False)
    report: Path | None = None
    proposals: Path | None = None  # the data set with proposed labels, where a format was asked for

    def figures(self) -> dict[str, dict[str, float | None]]:
        """`mean` and `spread` (standard deviation) of AP and AP50 over the folds; None without objects, or one fold."""
        columns = {"AP": [fold.ap for fold in self.folds], "AP50": [fold.ap50 for fold in self.folds]}
        known = {name: [value for value in values if value is not None] for name, values in columns.items()}
        return {
            name: {
                "mean": statistics.mean(values) if values else None,
                "spread": statistics.stdev(values) if len(values) > 1 else None,
            }
            for name, values in known.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain JSON types."""
        return {
            "data": self.dataset.name,
            "images": len(self.dataset),
            "folds": [
                {"weights": str(fold.weights), "images": fold.images, "AP": fold.ap, "AP50": fold.ap50}
                for fold in self.folds
            ],
            "figures": self.figures(),
            "suspects": [
                {
                    "kind": item.fault.value,
                    "score": round(item.score, 4),
                    "path": item.path,
                    "box": list(item.box),
                    "name": item.name,
                    "proposed_box": None if item.proposed_box is None else list(item.proposed_box),
                    "proposed_name": item.proposed_name,
                }
                for item in self.suspects
            ],
        }

    def to_text(self, show: int = 10) -> str:
        """The k-fold figures, the number of suspects of each kind, and the first `show` of them."""
        surest = [item for item in self.suspects if item.score >= LEAST]
        found = ", ".join(f"{count} {fault.value}" for fault, count in counts(surest).items())
        figures = self.figures()
        lines = [
            f"{self.dataset.name}: {len(self.dataset)} images in {len(self.folds)} folds",
            *(
                f"fold {place}: {fold.images} images, AP {number(fold.ap)}, AP50 {number(fold.ap50)}"
                for place, fold in enumerate(self.folds, start=1)
            ),
            "mean: "
            + ", ".join(
                f"{name} {number(row['mean'])} (standard deviation {number(row['spread'])})"
                for name, row in figures.items()
            ),
            "",
            f"labels to look at, from a score of {LEAST} on: {found}",
            *(_line(item) for item in self.suspects[:show]),
        ]
        more = len(self.suspects) - show
        if show and more > 0:
            lines.append(f"... and {more} more with lower scores")
        return "\n".join(map(printable, lines))

    def __repr__(self) -> str:
        found = ", ".join(f"{count} {fault.value}" for fault, count in counts(self.suspects).items())
        return f"<ReviewResult: {len(self.dataset)} images, {found}; AP50 {number(self.figures()['AP50']['mean'])}>"


def _line(item: Suspect) -> str:
    corners = " ".join(f"{side:.0f}" for side in item.box)
    change = {
        Fault.MISSING: f"{item.name} is not annotated",
        Fault.WRONG_CLASS: f"{item.name}, probably {item.proposed_name}",
        Fault.LOOSE: f"{item.name}, probably at {' '.join(f'{side:.0f}' for side in item.proposed_box or ())}",
        Fault.SPARE: f"{item.name}, nothing is seen there",
    }[item.fault]
    return f"{item.score:.2f} {item.fault.value}: {item.path} at {corners}: {change}"


@named_options
def review(
    data: str | Path,
    *,
    folds: int = 3,
    split: str | None = None,
    output: str | Path | None = None,
    overrides: Overrides = (),
    epochs: int | None = None,
    as_format: str | None = None,
    progress: bool = False,
) -> ReviewResult:
    """Train `folds` networks, each without a part of the images, and compare what each detects in its part with labels.

    All splits of the data folder (VOC, COCO, YOLO, LabelMe, CVAT, ...) are divided, or `split` alone; copies, near
    duplicates and what `data.group` joins stay in one part. `overrides` and `epochs` are those of `ssd.train`.
    Everything is written into `output`, by default runs/review/<name of the folder>: the runs, `review.json`, and the
    page `review.html`; the same call goes on where it was interrupted. With other images or labels than before it wants
    another `output`: no network judges an image that it was trained on. `as_format` (voc, coco, yolo, labelme,
    labelstudio, cvat; several with commas) also writes the images with suspects of a score of 0.5 or more, and the
    labels as they are proposed to be, into `<output>/proposed-<format>`. The data folder is never changed.

    Raises:
        ArgumentError: fewer than two folds or images for them, an unknown format, a key that the review sets itself
            (`data.train`, `data.val`, `name`, `output`, `train.eval_every`), or an `output` of another review.
        DatasetError, ConfigError: as `ssd.train`.
        KeyboardInterrupt: a signal stopped a training, which was saved.
    """
    at_least(2, folds=folds)
    formats = () if as_format is None else parse_label_formats(as_format, "as")
    folder = Path(os.path.abspath(data))  # noqa: PTH100 - links stay
    target = Path("runs") / "review" / folder.name if output is None else Path(output)
    proposals = target / "-".join(["proposed", *formats]) if formats else None
    if proposals is not None and proposals.exists():
        raise ArgumentError("is there already", place=proposals, remedy="Remove it, or name another --output.")
    changes = [*as_list(overrides), *([] if epochs is None else [("train.epochs", epochs)])]
    config = training_config(None, folder, changes)
    _check_own_keys(config)
    check_writable(target / _FACTS)
    names = splits(config.data.folder, config.data.format) if split is None else (split,)
    whole = open_whole(config, names)
    parts = divide(whole, folds, config.data.group)
    facts = {"config": configs.to_dict(config), "split": split, "folds": folds, "data": fingerprint(whole, parts)}
    _claim(target, facts)
    details, evidence = Details(whole.records, whole.class_names), list[Evidence | None]([None] * len(whole))
    results = []
    for place, part in enumerate(parts, start=1):
        run = train_without(config, whole, part, target, place, progress=progress)
        results.append(judge_fold(run, whole, part, details, evidence, progress=progress))
    suspects = find_suspects(details, [item for item in evidence if item is not None])
    result = ReviewResult(target, whole, tuple(suspects), tuple(results), details, target / PAGE, proposals)
    write_json(target / _FACTS, result.to_dict())
    write_review_page(target / PAGE, result.to_dict(), result.suspects, details, whole, LEAST)
    if proposals is not None:
        _write_proposals(proposals, formats, whole, result.suspects)
    return result


def _check_own_keys(config: Config) -> None:
    """Refuse the keys of a training that the review sets for each fold.

    Raises:
        ArgumentError: one of them has another value than its default.
    """
    for key, named in (("data.train", config.data.train), ("data.val", config.data.val)):
        if named is not None:
            remedy = f"Leave it out, or review one split alone: --split {shlex.quote(named)}"
            raise ArgumentError(f"is {named!r}, but a review divides the images itself", place=key, remedy=remedy)
    where = "Name the review's folder instead: --output FOLDER"
    for key, value, default, remedy in (
        ("name", config.name, Config.name, where),
        ("output", config.output, Config.output, where),
        ("train.eval_every", config.train.eval_every, TrainConfig.eval_every, "Leave it out."),
    ):
        if value != default:
            raise ArgumentError(f"is {value!r}, but a review sets it for each fold itself", place=key, remedy=remedy)


def _claim(target: Path, facts: Mapping[str, Any]) -> None:
    """Write what is reviewed and how into the folder, or compare with what is written there.

    Raises:
        ArgumentError: the folder holds something else, or a review of other images, labels or options.
    """
    path, text = target / "options.json", json.dumps(facts, indent=2)
    there = {entry.name for entry in target.iterdir()} if target.is_dir() else set()
    problem = "is not empty" if there else None
    if path.name in there:
        began = there - {path.name, "lists", "all.txt"}  # the list is an earlier version's
        same = not began or path.read_text(encoding="utf-8") == text
        problem = None if same else "holds a review of other images, labels or options, or of another version"
    if problem is not None:
        names = (f"{target}-{number}" for number in itertools.count(2))
        free = next(name for name in names if not Path(name).exists())
        raise ArgumentError(problem, place=target, remedy=f"Name a new folder: --output {shlex.quote(free)}")
    target.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.encode())


def _write_proposals(folder: Path, formats: Sequence[str], whole: Dataset, suspects: Sequence[Suspect]) -> None:
    by_image: dict[int, list[Suspect]] = defaultdict(list)
    for item in suspects:
        if item.score >= LEAST:
            by_image[item.image].append(item)
    records = tuple(proposed(whole.records[place], by_image[place], whole.class_names) for place in sorted(by_image))
    write_data_sets(folder, formats, {"": dataclasses.replace(whole, records=records)}, folder, copy=True)
