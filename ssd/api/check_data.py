"""`check_data`: everything that is wrong with a data set at once, and what the default boxes reach in it."""

import dataclasses
import functools
import json
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.api.overrides import Overrides, as_list
from ssd.audit.decoding import strict_decoder
from ssd.audit.divide import BY, Divided, divide_report
from ssd.audit.page.page import write_dataset_page
from ssd.audit.readiness import Readiness, judge
from ssd.audit.report import Report, examine
from ssd.audit.rewrite import Rewritten, rewrite_report
from ssd.audit.splits import Reading
from ssd.audit.text import as_dict, as_text
from ssd.data.formats.annotations import Problem
from ssd.data.formats.read_options import ReadOptions
from ssd.errors import ArgumentError, at_least
from ssd.experiment import config_file as configs
from ssd.experiment import data as experiment_data
from ssd.experiment.config import Config
from ssd.experiment.named_start import with_keys_of_weights
from ssd.experiment.starting_settings import starting_settings
from ssd.inference.options import named_options
from ssd.report.page import check_page_name
from ssd.system.files import check_writable, refuse_existing


@dataclass(frozen=True, repr=False)
class DataCheck:
    """The results of a data check; `print(check.to_text())` shows them."""

    report: Report
    readiness: Readiness
    config: Config
    preview: Path | None = None  # the file with augmented images, where one was asked for and any can be drawn

    @property
    def ready(self) -> bool:
        """Whether training can start."""
        return not self.readiness.stops

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every problem, of the folder and of all splits; `str(problem)` is one line."""
        return (*self.report.opened.problems, *(p for split in self.report.splits for p in split.problems))

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain JSON types."""
        return as_dict(self.report, self.readiness)

    def to_text(self, show: int = 10) -> str:
        """A section for every split with at most `show` lines of each list; the last line is the conclusion."""
        return as_text(self.report, self.readiness, show=show)

    def write_report(self, path: str | Path, *, force: bool = False) -> None:
        """Write an HTML page: class balance, object sizes, problems with their images.

        Raises:
            ArgumentError: the file is there already, and `force` is not set.
        """
        refuse_existing(path, force=force)
        sheet = functools.partial(experiment_data.augmented_sheet, self.config)
        write_dataset_page(Path(path), self.report, self.readiness, sheet)

    def write_preview(self, path: str | Path, *, force: bool = False) -> bool:
        """Draw augmented images with their boxes; False where no image can be drawn.

        Raises:
            ArgumentError: the file is there already, and `force` is not set.
        """
        refuse_existing(path, force=force)
        usable = self.report.usable
        if usable is None or not len(usable):
            return False
        experiment_data.preview(self.config, Path(path), usable)
        return True

    def divide(self, fraction: float, *, by: Sequence[str] = BY) -> Divided:
        """Divide the images of the checked splits anew; `Divided.write` writes the lists.

        Raises:
            ArgumentError: a fraction or a word of `by` that cannot be.
            DatasetError: there are fewer than two images, or `data.group` matches no name.
        """
        return divide_report(self.report, fraction, by=by, rule=self.config.data.group)

    def rewrite(self, formats: Sequence[str], out: str | Path, *, copy: bool = False) -> Rewritten:
        """Write the good images and objects into a new folder in other formats: coco-data, voc, yolo, labelme, ...

        Images are copied with `copy`, and for yolo.

        Raises:
            ArgumentError: `out` lies in the data folder, or holds a data set already.
            SSDError: no space is left, or the folder cannot be written.
        """
        return rewrite_report(self.report, formats, out, copy=copy)

    def __repr__(self) -> str:
        splits = ", ".join(f"{split.name} {split.images} images" for split in self.report.splits)
        kinds = Counter(problem.kind for problem in self.problems)
        found = "".join(f", {count} {kind}" for kind, count in kinds.most_common())
        return f"<DataCheck: {'ready' if self.ready else 'NOT READY'}; {splits}{found}; {self.readiness.line}>"


@named_options
def check_data(
    folder: str | Path | None = None,
    *,
    split: str | None = None,
    overrides: Overrides = (),
    drop_bad_objects: bool = False,
    deep: bool = False,
    fit_boxes: bool = False,
    report: str | Path | None = None,
    preview: str | Path | None = None,
    force: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> DataCheck:
    """Check a data folder (VOC, COCO, YOLO, LabelMe, CVAT, ...) as training would read it; it is not changed.

    `split` names one of its splits; None: all of them.
    `overrides` are what training would set: {"model.input_size": 512}, or ("model.input_size=512",). `drop_bad_objects`
    judges as if training left bad objects out. `deep` finds damage inside JPEG files too (extra package simplejpeg).
    `fit_boxes` fits default boxes to the training split. `report` (HTML) and `preview` (PNG) name files to write.

    Raises:
        DatasetError: no such folder or split, or an unknown format. What is wrong inside is in the result.
        ArgumentError: a number out of its range, or a file that is there already (without `force`).
        MissingExtraError: `deep` without simplejpeg.
    """
    workers = os.cpu_count() or 2 if workers is None else workers
    at_least(1, workers=workers)
    check_page_name(report)
    refuse_existing(preview, report, force=force)
    check_writable(preview, report)
    strict = strict_decoder() if deep else None
    config = _config(folder, overrides, drop_bad_objects=drop_bad_objects)
    data = config.data
    if data.folders is not None:
        remedy = f"Check each by itself: ssd check-data {shlex.quote(data.folders[0].path)}"
        raise ArgumentError("one folder is checked at a time", place="data.folders", remedy=remedy)
    found = examine(
        data.folder,
        Reading(
            data.format,
            ReadOptions(data.classes, data.voc_offset, data.allow_outside, data.val_fraction, data.group),
            data.train,
            data.val,
            config.preprocessing.depth,
        ),
        starting_settings(config, ("object",)).boxes,
        only=split,
        drop=data.bad_objects == "drop",
        skip=data.bad_images == "skip",
        fit_boxes=fit_boxes,
        balance=data.balance,
        mirror=config.augment.mirror,
        tiles=data.tiles,
        strict=strict,
        workers=workers,
        progress=progress,
    )
    keys = _typed(overrides, drop_bad_objects=drop_bad_objects)
    found = dataclasses.replace(found, keys=keys)
    check = DataCheck(found, judge(found), config)
    if preview is not None and check.write_preview(preview, force=force):
        check = dataclasses.replace(check, preview=Path(preview))
    if report is not None:
        check.write_report(report, force=force)
    return check


def _config(folder: str | Path | None, overrides: Overrides, *, drop_bad_objects: bool) -> Config:
    """The config with which `train --data FOLDER` would train."""
    named = [] if folder is None else [("data.folder", str(folder))]
    drop = ["data.bad_objects=drop"] if drop_bad_objects else []
    return with_keys_of_weights(*configs.load_with_keys(None, [*named, *as_list(overrides), *drop]))


def _typed(overrides: Overrides, *, drop_bad_objects: bool) -> tuple[str, ...]:
    """The keys of a check as a command line has them."""
    pairs = (one.partition("=")[::2] if isinstance(one, str) else one for one in as_list(overrides))
    typed = {
        key.strip(): value if isinstance(value, str) else json.dumps(value, default=_plain) for key, value in pairs
    }
    if drop_bad_objects:
        typed["data.bad_objects"] = "drop"
    return tuple(f"{key}={value}" for key, value in typed.items() if key != "data.folder")


def _plain(value: Any) -> Any:
    """A number of NumPy as Python's, anything else as text."""
    return value.item() if hasattr(value, "item") else str(value)
