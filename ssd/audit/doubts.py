"""Warnings that do not stop training: small validation sets, similar class names, boxes beyond the edge."""

import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

from ssd.audit.report import Report, SplitReport
from ssd.data.index import sizes_of
from ssd.data.mirrored_names import mirror_advice
from ssd.data.split_checks import FEW_IMAGES, divide_command, missing_validation, shared_images
from ssd.errors import counted
from ssd.system.unicode_names import nfc
from ssd.tiles import MOST_TILES, OVERLAP, has_tiles

_CLIPPED = 0.2  # share of an image set's boxes beyond the edge that hints at a wrong convention
_MAX_DETECTIONS, _MAX_DETS = 200, 100  # of post-processing, and of COCO's figures
_SMALL, _LARGE_ENOUGH = 16, 32  # pixels of the input: of the median object where tiles help, and what they aim at
_COMPARED = 500  # class names; more are not compared in pairs


def about_validation(report: Report) -> Iterator[str]:
    """Warnings that the figures of the validation set will have little meaning, for the last line of the report."""
    train, val = report.opened.named(report.opened.train), report.opened.named(report.opened.val)
    if train is None or val is None:
        return
    shared = shared_images(train.dataset, val.dataset)
    if shared:
        images = f"{shared} of the {len(val.dataset)} validation images are trained on"
        divide = divide_command(train.dataset)
        yield f"{images}: the figures will be too good; name others with data.val, or divide them: {divide}"
    elif 0 < len(val.dataset) < FEW_IMAGES:
        images = counted(len(val.dataset), "image")
        yield f"the validation set {val.name} has {images}: its figures say little; use ten or more"
    here, there = (
        {row.name for row in split.classes if row.objects} for split in _reports(report, train.name, val.name)
    )
    missing = sorted(here - there)
    if missing and len(val.dataset):
        names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        yield f"no object of {names} in {val.name}: figures leave {'it' if len(missing) == 1 else 'them'} out"


def about_test(report: Report) -> Iterator[str]:
    """A warning that the test split chooses the best weights."""
    train, val = report.opened.named(report.opened.train), report.opened.named(report.opened.val)
    said = missing_validation(train.dataset, val.dataset) if train is not None and val is not None else None
    if said is not None:
        yield said


def about_numbers(report: Report) -> Iterator[str]:
    """Warnings about similar and mirrored class names, clipped boxes and images with many objects."""
    if not report.splits:
        return
    for one, other in look_alikes([row.name for row in report.splits[0].classes]):
        yield f"the classes {one!r} and {other!r} look alike: give them one name if they are one"
    mirrored = mirror_advice([row.name for row in report.splits[0].classes]) if report.mirror else None
    if mirrored is not None:
        yield mirrored
    for split in report.splits:
        clipped = sum(problem.kind == "clipped" for problem in split.problems)
        if split.objects and clipped >= max(2, _CLIPPED * split.objects):
            share = f"{clipped} of {split.objects} boxes ({clipped / split.objects:.0%}) in {split.name}"
            yield f"{share} reach over the edge: check that they are written as the format has them"
    yield from _crowded(report)
    yield from _small(report)


def look_alikes(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ in case, punctuation or Unicode form only, or, from five letters on, by one slip."""
    plain = [re.sub(r"[\W_]+", "", nfc(name.casefold())) for name in names]
    found = []
    by_plain: dict[str, str] = {}
    for name, key in zip(names, plain, strict=True):
        if key and key in by_plain:
            found.append((by_plain[key], name))
        by_plain.setdefault(key, name)
    if len(names) <= _COMPARED:
        keys = list(by_plain)
        pairs = ((one, other) for place, one in enumerate(keys) for other in keys[place + 1 :])
        found += [(by_plain[one], by_plain[other]) for one, other in pairs if _one_slip(one, other)]
    return found


def _one_slip(one: str, other: str) -> bool:
    """Whether one letter was left out, added, changed or swapped with its neighbour; digits never count."""
    if min(len(one), len(other)) < 5 or abs(len(one) - len(other)) > 1:
        return False
    if re.findall(r"\d+", one) != re.findall(r"\d+", other):
        return False
    size = min(len(one), len(other))
    start = next((place for place in range(size) if one[place] != other[place]), size)
    a, b = one[start:], other[start:]
    swapped = len(a) > 1 and len(b) > 1 and a[0] == b[1] and a[1] == b[0] and a[2:] == b[2:]
    return swapped or a[1:] == b[1:] or a[1:] == b or a == b[1:]


def _crowded(report: Report) -> Iterator[str]:
    counts = [
        (int((~record.crowd).sum()), split.name) for split in report.opened.splits for record in split.dataset.records
    ]
    most, name = max(counts, default=(0, ""))
    if most > _MAX_DETS:
        cut = f"; max_detections keeps {_MAX_DETECTIONS} an image unless it is raised" if most > _MAX_DETECTIONS else ""
        limit = f"COCO's figures count {_MAX_DETS} detections an image (maxDets), more with --max-detections"
        yield f"an image of {name} has {most} objects: {limit}{cut}"


def _small(report: Report) -> Iterator[str]:
    """A number of tiles for objects that are small at the network's input, where the images have more pixels."""
    split = report.splits[0]
    if split.sizes is None or has_tiles(report.tiles) or not 0 < split.sizes.sides[50] < _SMALL:
        return
    median, size = split.sizes.sides[50], split.sizes.input_size
    shorter = float(np.median(sizes_of(report.dataset(split).records).min(axis=1)))
    # With n tiles a side, objects are n - (n - 1) * overlap times as large; a tile is no smaller than the input.
    wanted, most = (
        math.ceil((_LARGE_ENOUGH / median - OVERLAP) / (1 - OVERLAP)),
        (shorter / size - OVERLAP) / (1 - OVERLAP),
    )
    tiles = min(wanted, int(most + 1e-6), MOST_TILES)
    if tiles > 1:
        larger = tiles - (tiles - 1) * OVERLAP
        yield (
            f"half of the objects in {split.name} have a side of at most {median:g} pixels at the input of {size}: "
            f"data.tiles={tiles} makes them {larger:.1f} times as large in training, evaluation and detection"
        )


def _reports(report: Report, *names: str) -> list[SplitReport]:
    by_name = {split.name: split for split in report.splits}
    return [by_name[name] for name in names]
