"""The folds of a review: the images divided, a network trained without each fold, and what it detects there."""

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.data.dataset import Dataset, open_dataset
from ssd.data.formats import paths as folders
from ssd.data.formats.copies import copies
from ssd.data.formats.folds import divide_into_folds
from ssd.data.formats.grouping import COPIES, group_images
from ssd.errors import ArgumentError
from ssd.evaluation.causes.evidence import Evidence, EvidenceDetector
from ssd.evaluation.evaluate import evaluate
from ssd.evaluation.metrics.accumulator import annotation_hash
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


def open_whole(config: Config, names: Sequence[str]) -> Dataset:
    """All images of these splits as one data set."""
    data = config.data
    options: dict[str, Any] = {
        "format": data.format,
        "classes": data.classes,
        "bad_objects": data.bad_objects,
        "voc_offset": data.voc_offset,
        "allow_outside": data.allow_outside,
    }
    opened = [open_dataset(data.folder, name, **options) for name in names]
    paths = dict.fromkeys(record.path for dataset in opened for record in dataset.records)
    with tempfile.TemporaryDirectory() as scratch:
        whole = open_dataset(data.folder, _write_list(Path(scratch, "all.txt"), list(paths)), **options)
    return dataclasses.replace(whole, depth=config.preprocessing.depth)


def _write_list(path: Path, images: Sequence[str]) -> str:
    """Write the list of the images, and give its path. Links stay links: the data set knows images by those."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{Path(image).absolute()}\n" for image in images)
    write_atomic(path, "".join(lines).encode(errors="surrogateescape"))
    return str(path.resolve())


def divide(whole: Dataset, folds: int, rule: str) -> list[list[int]]:
    """The places of the images of each fold in the records; images that `rule`, data.group, joins stay in one fold.

    Raises:
        ArgumentError: there are fewer groups than folds.
        DatasetError: `rule` matches no name.
    """
    root = Path(whole.name)
    root = root.parent if root.is_file() else root
    places = {folders.relative(Path(record.path), root): place for place, record in enumerate(whole.records)}
    files = {name: Path(whole.records[place].path) for name, place in places.items()}
    groups = copies(files) if rule == COPIES else group_images(files, rule)
    images = {
        name: (groups.get(name, name), set(whole.records[place].labels.tolist())) for name, place in places.items()
    }
    count = len({group for group, _ in images.values()})
    if count < folds:
        problem = f"{len(whole)} images in {count} groups are too few for {folds} folds"
        raise ArgumentError(problem, place="folds", remedy="Use fewer folds, or more images.")
    return [[places[name] for name in names] for names in divide_into_folds(images, folds)]


def fingerprint(whole: Dataset, parts: Sequence[Sequence[int]]) -> str:
    """A digest of the images of each fold and of their annotations."""
    rows = [(fold, whole.records[row]) for fold, part in enumerate(parts) for row in part]
    records = [dataclasses.replace(record, image_id=f"{fold} {record.path}") for fold, record in rows]
    return annotation_hash(records, whole.class_names)


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
        _write_list(target / "lists" / f"{name}-{key}.txt", images) for key, images in lists.items()
    )
    changed = dataclasses.replace(
        config,
        name=name,
        output=str(target),
        data=dataclasses.replace(config.data, classes=whole.class_names, train=train_list, val=val_list),
        train=dataclasses.replace(config.train, eval_every=_AT_THE_END),
    )
    outcome = train(changed, resume="auto", progress=progress)  # a run without a state yet begins anew in its folder
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
