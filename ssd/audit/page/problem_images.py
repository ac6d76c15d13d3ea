"""Images of what is wrong with a data set, and of the objects that are farthest from any default box."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ssd.audit.report import Report
from ssd.data.formats.annotations import Problem
from ssd.data.objects import gather
from ssd.errors import SSDError
from ssd.evaluation.page.drawn_images import as_jpeg, draw_mistake
from ssd.images.decode import load_image
from ssd.multibox.best_overlaps import REACHED
from ssd.report.blocks import Image

_OF_ONE_KIND = 6
_HARDEST = 12
_COPIES, _THUMBNAIL = 6, 320  # pairs that are shown, and the width of each image
_OF_ONE_IMAGE = 2
_NOTHING = (np.zeros((0, 4), np.float32), [""] * 0)


def problem_images(report: Report) -> Iterator[Image]:
    """Images of problems that can be shown, a few of each kind and of each split."""
    for split in report.splits:
        shown: Counter[str] = Counter()
        for problem in sorted(split.problems, key=lambda problem: split.fate(problem) != "stops"):
            if problem.image is None or shown[problem.kind] == _OF_ONE_KIND:
                continue
            shown_image = _of_problem(problem, split.name)
            if shown_image is not None:
                shown[problem.kind] += 1
                yield shown_image


def _of_problem(problem: Problem, split: str) -> Image | None:
    """The box in question with its surroundings, or the whole image; None where it cannot be decoded."""
    assert problem.image is not None
    try:
        image = load_image(problem.image, depth="percentile")
    except SSDError:  # that is what the problem says, and the list of problems says it, too
        return None
    box = problem.box or (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
    drawn = draw_mistake(image, box, problem.name or "", _NOTHING, _NOTHING, least=max(image.shape) // 3)
    return Image(as_jpeg(drawn), f"{problem.kind}: {problem.message}", f"{split}: {Path(problem.image).name}")


def copied_images(report: Report) -> Iterator[Image]:
    """Thumbnails of images that occur more than once, and of pairs that look alike in two splits."""
    roots = {split.name: Path(report.dataset(split).name) for split in report.splits}
    places = [copies.places for copies in report.copies]
    places += [((near.split, near.path), (near.other_split, near.other_path)) for near in report.near]
    for group in places[:_COPIES]:
        for split, path in group[:2]:
            try:
                image = load_image(roots[split] / path, depth="percentile")
            except (SSDError, KeyError):  # listed by its name all the same
                continue
            yield Image(as_jpeg(image, _THUMBNAIL), split, path)


def hardest_images(report: Report) -> Iterator[Image]:
    """The objects of the first split that are farthest from any default box."""
    if not report.splits:
        return
    dataset, own = report.dataset(report.splits[0]), report.choices[0]
    objects, overlaps = gather(dataset), report.splits[0].reach[own.name].overlaps
    seen: Counter[int] = Counter()
    for row in overlaps.argsort(stable=True).tolist():
        place = int(objects.records[row])
        if overlaps[row] >= REACHED or sum(seen.values()) == _HARDEST:
            break
        if seen[place] == _OF_ONE_IMAGE:
            continue
        seen[place] += 1
        record = dataset.records[place]
        left, top, right, bottom = (
            objects.boxes[row].numpy() * [record.width, record.height, record.width, record.height]
        ).tolist()
        sides = (objects.boxes[row, 2:] - objects.boxes[row, :2]) * own.boxes.input_size
        name = dataset.class_names[objects.labels[row]]
        try:
            drawn = draw_mistake(dataset.load(place).image, (left, top, right, bottom), name, _NOTHING, _NOTHING)
        except SSDError:  # listed among the problems
            continue
        caption = f"{name}: IoU {float(overlaps[row]):.2f}"
        yield Image(as_jpeg(drawn), caption, f"{sides[0]:.0f} x {sides[1]:.0f} at the input, {Path(record.path).name}")
