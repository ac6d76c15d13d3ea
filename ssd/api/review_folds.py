"""The folds of a review: the images divided, a network trained without each fold, and what it detects there."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.data.dataset import Dataset, open_dataset
from ssd.data.formats.folds import divide_into_folds
from ssd.data.formats.grouping import group_images
from ssd.errors import ArgumentError
from ssd.evaluation.causes.evidence import Evidence, EvidenceDetector
from ssd.evaluation.evaluate import evaluate
from ssd.evaluation.metrics.coco import CocoMetric
from ssd.evaluation.metrics.details import Details
from ssd.experiment.config import Config
from ssd.inference.load import load
from ssd.system.files import write_atomic
from ssd.training.run_folder import RunFolder
from ssd.training.trainer import train

_AT_THE_END = 1_000_000  # epochs between evaluations: more than there are, so that only the last is evaluated


@dataclass(frozen=True)
class FoldResult:
    """One training: its run folder, and its figures on the images that it never saw."""

    weights: Path
    images: int
    ap: float | None
    ap50: float | None


def open_whole(config: Config, names: Sequence[str], target: Path) -> Dataset:
    """All images of these splits as one data set; the list of them is written too."""
    data = config.data
    options: dict[str, Any] = {
        "format": data.format,
        "classes": data.classes,
        "bad_objects": data.bad_objects,
        "voc_offset": data.voc_offset,
        "allow_outside": data.allow_outside,
    }
    opened = [open_dataset(data.folder, name, **options) for name in names]
    paths = dict.fromkeys(str(Path(record.path).resolve()) for dataset in opened for record in dataset.records)
    whole = open_dataset(data.folder, str(_write_list(target / "all.txt", list(paths))), **options)
    return dataclasses.replace(whole, depth=config.preprocessing.depth)


def _write_list(path: Path, images: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "".join(f"{image}\n" for image in images).encode(errors="surrogateescape"))
    return path.resolve()


def divide(whole: Dataset, folds: int) -> list[list[int]]:
    """The places of the images of each fold in the records; groups of similar images stay in one fold.

    Raises:
        ArgumentError: there are fewer groups than folds.
    """
    groups = group_images({record.path: Path(record.path) for record in whole.records}, "auto")
    images = {record.path: (groups[record.path], set(record.labels.tolist())) for record in whole.records}
    if len(set(groups.values())) < folds:
        problem = f"{len(whole)} images in {len(set(groups.values()))} groups are too few for {folds} folds"
        raise ArgumentError(problem, place="folds", remedy="Use fewer folds, or more images.")
    places = {record.path: place for place, record in enumerate(whole.records)}
    return [[places[name] for name in names] for names in divide_into_folds(images, folds)]


def train_without(
    config: Config, whole: Dataset, part: Sequence[int], target: Path, place: int, *, progress: bool
) -> RunFolder:
    """Train on the images that are not in `part`, or go on with that, or find that it is done.

    Raises:
        SSDError: as `train`.
        KeyboardInterrupt: a signal stopped the training, which was saved.
    """
    held_out, name = set(part), f"fold-{place}"
    run = RunFolder(target / name)
    done = target / "lists" / f"{name}.done"
    if done.is_file() and run.last.is_file():
        return run
    lists = {
        "train": [record.path for row, record in enumerate(whole.records) if row not in held_out],
        "val": [whole.records[row].path for row in part],
    }
    train_list, val_list = (
        str(_write_list(target / "lists" / f"{name}-{key}.txt", [str(Path(image).resolve()) for image in images]))
        for key, images in lists.items()
    )
    changed = dataclasses.replace(
        config,
        name=name,
        output=str(target),
        data=dataclasses.replace(config.data, classes=whole.class_names, train=train_list, val=val_list),
        train=dataclasses.replace(config.train, eval_every=_AT_THE_END),
    )
    outcome = train(changed, resume=str(run.path) if any(run.path.glob("state-*.pt")) else None, progress=progress)
    if outcome.exit_code:
        stop = KeyboardInterrupt()
        stop.add_note(f"stopped in fold {place}; the same command goes on")
        raise stop
    write_atomic(done, b"")
    return outcome.folder


def judge_fold(
    run: RunFolder,
    whole: Dataset,
    part: Sequence[int],
    details: Details,
    evidence: list[Evidence | None],
    *,
    progress: bool,
) -> FoldResult:
    """Detect in the images of a fold, for its figures and for the whole.

    The last weights are taken: the best would have been chosen by the labels that are judged.
    """
    held_out = dataclasses.replace(whole, records=tuple(whole.records[row] for row in part))
    detector = load(run.last)
    tracer = EvidenceDetector(detector, held_out.records, held_out.class_names)
    metric = CocoMetric(held_out.records, held_out.class_names, held_out.category_ids)
    own = Details(held_out.records, held_out.class_names)
    found = evaluate(tracer, held_out, metric, own, progress=progress)
    assert found is not None  # it is not asked to stop
    for place, row in enumerate(part):
        details.update(whole.records[row].image_id, own.found(place))
        evidence[row] = tracer.evidence[place]
    return FoldResult(run.last, len(part), found.metrics["AP"], found.metrics["AP50"])
