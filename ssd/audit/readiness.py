"""Whether training could start, as one line, and warnings; each with its remedy."""

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ssd.audit.doubts import about_numbers, about_test, about_validation
from ssd.audit.report import Report, SplitReport
from ssd.data.formats.annotations import Problem
from ssd.data.formats.unused import describe
from ssd.errors import counted
from ssd.multibox.best_overlaps import REACHED

_WELL_REACHED = 0.9  # a recall below it is worth a look
_BETTER = 0.03  # and so are other default boxes that reach so many more
_REMEDIES = {
    "undecodable": "replace or remove those images (data.bad_images=skip passes over a few in training)",
    "size_differs": "annotate images of another size again; where only EXIF turns them, exiftool -Orientation= IMAGES",
    "one_based": "subtract 1 from every class id",
    "fractions": "write the boxes in pixels",
    "pixels": "write fractions of the image",
    "corners": "write sizes in place of the second corner",
    "duplicate_file": "keep one entry for each image file",
    "duplicate_name": "rename or join the categories",
    "no_split": "name the splits with data.train and data.val",
    "empty_split": "choose splits that have images, with data.train and data.val; one image cannot be divided",
    "unread_images": "convert the images to JPEG, for instance with magick mogrify -format jpg FILES",
    "no_objects": "give every training run objects to learn: see the problem's own line",
}
_NOTES = {
    "clipped": "boxes reached over the image's edge and were cut; check that boxes and images belong together",
    "repeated": "the same object is annotated again; remove the copies",
    "damaged": "the JPEG is damaged inside and decodes with grey parts; replace it",
    "no_labels": "images without a label file count as images without objects; check that none is missing",
    "no_class_names": "classes have no names; write them into classes.txt, a name a line",
    "label_name": "label files are named after the whole image file; they are read",
    "moved": "paths of another machine were found in this folder by their ends; check that they are the right ones",
    "rotated": "rotated boxes: the upright box around each is learned",
    "no_annotation": "images without annotation are left out; annotate them, empty if they are",
}
_NAMED = 10  # classes without objects that are named


@dataclass(frozen=True)
class Readiness:
    """The conclusion of the check."""

    stops: bool  # whether training, or evaluation on one of the splits, would stop
    line: str
    cautions: tuple[str, ...]  # warnings about problems that do not stop training


def judge(report: Report) -> Readiness:
    """Draw the conclusion from a report."""
    folder = report.opened.problems
    stopping = [split for split in report.splits if split.stopping]
    grave = tuple(about_validation(report))
    cautions = (*grave, *_cautions(report))
    if not folder and not stopping:
        if grave:
            more = f"; {len(cautions) - 1} more to look at" if len(cautions) > 1 else ""
            return Readiness(False, f"training can start, but {grave[0]}{more}", cautions)
        more = f"; {len(cautions)} things are worth a look" if len(cautions) > 1 else "; one thing is worth a look"
        return Readiness(False, f"training can start{more if cautions else ''}", cautions)
    trained = [split for split in stopping if split.name in (report.opened.train, report.opened.val)]
    # One split asked for by name may be any.
    what = "training" if folder or trained else f"evaluation on {', '.join(split.name for split in stopping)}"
    problems = [*folder, *(p for split in stopping for p in split.stopping)]
    counts = Counter(problem.kind for problem in problems)
    found = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    return Readiness(True, f"{what} would stop: {found}. To do: {'; '.join(_remedies(problems, stopping))}", cautions)


def _remedies(problems: list[Problem], splits: list[SplitReport]) -> list[str]:
    remedies = [_REMEDIES[kind] for kind in dict.fromkeys(problem.kind for problem in problems) if kind in _REMEDIES]
    if any(problem.level == "object" for problem in problems):
        remain = all(split.objects for split in splits)
        remedies.insert(0, "correct the objects" + (", or leave them out with data.bad_objects=drop" if remain else ""))
    if any(problem.level == "file" and problem.kind not in _REMEDIES for problem in problems):
        remedies.append("correct or remove the files")
    return remedies


def _cautions(report: Report) -> Iterator[str]:
    leaks = sum(copies.leaks for copies in report.copies)
    if leaks:
        yield f"{counted(leaks, 'image')} in more than one split: the figures will be too good; keep each in one split"
    if len(report.copies) > leaks:
        copies = counted(len(report.copies) - leaks, "image")
        yield f"{copies} more than once within a split: remove the copies, or their weight doubles"
    if report.near:
        anew = shlex.join(["ssd", "check-data", report.folder, *report.keys, "--divide", "0.2", "--out", "lists"])
        images = counted(len(report.near), "image")
        yield f"{images} like one of another split: the figures will be too good; to divide anew: {anew}"
    if report.boxes_from_zero:
        boxes = counted(report.boxes_from_zero, "box", "boxes")
        yield f"{boxes} at pixel 0, where VOC counts from 1: set data.voc_offset=0"
    notes = Counter(problem.kind for split in report.splits for problem in split.problems if problem.level == "note")
    for kind, remedy in _NOTES.items():
        if notes[kind]:
            yield f"{notes[kind]} {kind}: {remedy}"
    for split in report.splits:
        depth = report.dataset(split).depth
        if split.values is not None and split.values.loses(depth):
            yield f"{split.name}: {split.values.about(depth)}"
    yield from about_test(report)
    yield from about_numbers(report)
    if report.opened.unused:
        yield f"in the folder and not used: {describe(list(report.opened.unused))}"
    if report.splits:
        yield from _about_training(report.splits[0], report)


def _about_training(split: SplitReport, report: Report) -> Iterator[str]:
    missing = [row.name for row in split.classes if not row.objects]
    if missing and split.objects:
        names = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        yield f"{counted(len(missing), 'class', 'classes')} without an object in {split.name}: {names}"
    own = report.choices[0].name
    recall = split.reach[own].recall
    if recall is None or recall >= _WELL_REACHED:
        return
    advice = ", ".join(_better_boxes(split, report)) or "no table reaches many more; see --fit-boxes"
    yield f"{100 * recall:.1f} % of the objects have a default box with an IoU of {REACHED} ({own}): {advice}"


def _better_boxes(split: SplitReport, report: Report) -> list[str]:
    """The table that reaches most objects among those with the same levels, which costs no speed, and among all."""
    own, *others = report.choices
    recall = {choice.name: split.reach[choice.name].recall or 0.0 for choice in report.choices}
    same_levels = [choice for choice in others if choice.boxes.grids == own.boxes.grids]
    best = [max(group, key=lambda choice: recall[choice.name]) for group in (same_levels, others) if group]
    better = [choice for choice in best if recall[choice.name] >= recall[own.name] + _BETTER]
    return list(dict.fromkeys(f"{100 * recall[choice.name]:.1f} % with {choice.values}" for choice in better))
