"""Checks of opened splits before training: unused parts of the folder, images in both splits, nothing to learn from."""

import logging
import shlex
from collections import Counter
from pathlib import Path

from ssd.data.dataset import Dataset
from ssd.data.formats.copies import copies
from ssd.data.formats.registry import is_test
from ssd.data.formats.unused import describe, find_unused
from ssd.data.index import count_objects, paths_of
from ssd.errors import DatasetError, counted

log = logging.getLogger(__name__)
FEW_IMAGES = 10  # figures of a smaller validation set have little meaning


def shared_images(train: Dataset, val: Dataset) -> int:
    """How many images of the validation set are trained on."""
    both = set(paths_of(val.records)).intersection(paths_of(train.records))  # the set is of the fewer
    return sum(path in both for path in paths_of(val.records))


def report_use(train: Dataset, val: Dataset, format: str = "auto") -> None:
    """Say in one line each what of the folder is not used, and that images are both trained and evaluated on."""
    report_unused(train.name, format)
    report_validation(train, val)


def report_unused(folder: str, format: str = "auto") -> None:
    """Say in one line what of the folder is not used."""
    unused = find_unused(folder, format)
    if unused:
        log.warning("%s: not used: %s", folder, describe(unused))


def report_copies(train: Dataset, val: Dataset) -> None:
    """Say in one line that copies of validation images, as in two folders, are trained on."""
    names = [*paths_of(train.records), *paths_of(val.records)]
    first = copies({f"{place:09d}": Path(name) for place, name in enumerate(names)})
    pairs = [
        (names[int(place)], names[int(one)])
        for place, one in first.items()
        if int(place) >= len(train) > int(one) and names[int(place)] != names[int(one)]
    ]
    if pairs:
        log.warning(
            "%s: WARNING: copies of %d of the %d validation images are trained on, so every figure will be too good; "
            "the first: %s and %s. Keep each image in one folder, or in the same split of both.",
            val.name, len(pairs), len(val), *pairs[0],
        )  # fmt: skip


def report_validation(train: Dataset, val: Dataset) -> None:
    """Say in one line that images are both trained and evaluated on, or that those to evaluate on are few."""
    shared = shared_images(train, val)
    if shared:
        log.warning(
            "%s: WARNING: %d of the %d validation images are trained on, so every figure will be too good. "
            "Name other images with data.val, or divide them: %s",
            val.name, shared, len(val), divide_command(train),
        )  # fmt: skip
    elif len(val) < FEW_IMAGES:
        text = f"{val.name}: the validation set {val.split} has {counted(len(val), 'image')}"
        log.warning("%s: its figures say little; use ten or more", text)


def missing_validation(train: Dataset, val: Dataset) -> str | None:
    """What follows where a test split stands in for validation images, with a remedy; None where it does not."""
    if not is_test(val.split):
        return None
    reason = f"{val.split} chooses the best weights, so its figures are too good"
    return f"there is no validation split: {reason}; to keep {val.split} for the end: {divide_command(train)}"


def divide_command(train: Dataset) -> str:
    """What to type for lists of images to train and to evaluate on."""
    return f"ssd check-data {shlex.quote(train.name)} --split {shlex.quote(train.split)} --divide 0.2 --out lists"


def check_trainable(dataset: Dataset) -> None:
    """Stop before a training that has nothing to learn from.

    Raises:
        DatasetError: no image has an object that training uses; the message names the cause and a remedy.
    """
    problem = nothing_to_learn(dataset)
    if problem is not None:
        raise DatasetError(problem[0], place=dataset.name, remedy=problem[1])


def nothing_to_learn(dataset: Dataset) -> tuple[str, str] | None:
    """Why a split has nothing to learn, with a remedy; None where it has an object. Crowd regions are no objects."""
    objects, crowd = count_objects(dataset.records)
    if objects > crowd:
        return None
    found = f"nothing to learn: no object in the {len(dataset)} images of split {dataset.split!r}"
    if dataset.dropped:
        kinds = Counter(problem.kind for problem in dataset.dropped).most_common()
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds)
        return f"{found}; every object was bad and left out ({listed})", "Correct the annotations."
    if crowd:
        remedy = "Mark single objects with iscrowd 0."
        return f"{found}; all {crowd} annotations are crowd regions, which training ignores", remedy
    remedy = "Check that the label files are not empty, and lie where the format has them (docs: data sets)."
    return found, remedy
