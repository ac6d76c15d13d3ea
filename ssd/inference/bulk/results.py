"""The results of a bulk detection: the journal, drawn images and videos, labels for annotation tools, COCO results.

A YOLO data set has `images/` (copies, and the frames of videos), `labels/`, `classes.txt` and `data.yaml`, so that the
folder can be corrected and trained on. The other formats of labels are written at the end, from the journal.
"""

import dataclasses
import functools
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from tqdm import tqdm

from ssd.data.labels.label_formats import LABEL_FORMATS, write_labels
from ssd.data.labels.text_files import start_yolo
from ssd.errors import ArgumentError, ImageError
from ssd.images.decode import read_image_bytes
from ssd.images.drawing import write_image
from ssd.inference.bulk.coco_ids import CocoIds
from ssd.inference.bulk.journal import JOURNAL, Done, Row, open_journal, read_rows, write_row
from ssd.inference.bulk.label_rows import read_labelled
from ssd.inference.bulk.sources import SUFFIXES, Source
from ssd.inference.bulk.written_labels import remember_labels
from ssd.inference.detections import Detections
from ssd.system.files import open_atomic, write_atomic, writing

FORMATS = ("images", "jsonl", "coco", *LABEL_FORMATS)


def parse_formats(given: str | Sequence[str]) -> frozenset[str]:
    """`images,coco` or a list as a set, without `jsonl`, which is always written.

    Raises:
        ArgumentError: an unknown format.
    """
    formats = frozenset(word.strip() for word in (given.split(",") if isinstance(given, str) else given))
    for word in sorted(formats - set(FORMATS)):
        raise ArgumentError(f"{word!r} is unknown", place="--format", remedy=f"Choose from {', '.join(FORMATS)}.")
    return formats - {"jsonl"}


class Results:
    """Writes results and counts them. `draw` may be called from several threads, the other methods from one."""

    def __init__(
        self,
        folder: Path,
        formats: frozenset[str],
        class_names: Sequence[str],
        names: Mapping[str, str],
        done: Done,
        *,
        copy: bool = False,
    ) -> None:
        self.copy = copy or "yolo" in formats
        self.folder, self.formats, self.class_names, self.names = folder, formats, tuple(class_names), names
        self.tally = dataclasses.replace(done.tally)
        self._lines: TextIO = open_journal(folder / JOURNAL)
        if self.copy:
            (folder / "images").mkdir(exist_ok=True)
        if "yolo" in formats:
            start_yolo(folder, self.class_names, ("",))

    def close(self) -> None:
        """Close the journal."""
        with writing(self.folder / JOURNAL):
            self._lines.close()

    def draw(self, source: Source, found: Detections, frame: int | None = None) -> list[str]:
        """Write the drawn image (not of a video's frame) and the labels with their image; return the files' names.

        Raises:
            ImageError: the image cannot be written.
        """
        files, name = [], self.names[source.address]
        if "images" in self.formats and frame is None:
            files.append(f"{name}{source.suffix}")
            found.save(self.folder / files[-1])
        own = name if frame is None else f"{name}/{frame:06d}"
        if self.copy or (frame is not None and self.formats & set(LABEL_FORMATS)):
            files.append(self._write_copy(source, found, own))
        if "yolo" in self.formats:
            files.append(f"labels/{own}.txt")
            (self.folder / files[-1]).parent.mkdir(exist_ok=True)
            write_atomic(self.folder / files[-1], found.to_yolo().encode())
        return files

    def _write_copy(self, source: Source, found: Detections, name: str) -> str:
        """Write a copy of an image, or a frame, and return its place in the folder."""
        copied = source.kind == "image" and source.path.suffix.lower() in SUFFIXES
        suffix = source.path.suffix if copied else ".png" if source.kind == "image" else ".jpg"
        image = f"images/{name}{suffix}"
        (self.folder / image).parent.mkdir(exist_ok=True, parents=True)
        if copied:
            write_atomic(self.folder / image, read_image_bytes(source.path))
        else:
            assert isinstance(found.source, np.ndarray)
            write_image(self.folder / image, found.source)
        return image

    def add_image(self, source: Source, outcome: Detections | ImageError, files: Sequence[str] = ()) -> None:
        """Write the line of an image, which marks it as done."""
        if isinstance(outcome, ImageError):
            self.add_failure(source, outcome)
            return
        row = dataclasses.replace(outcome, source=source.path).to_dict()
        self._write(row | ({"files": list(files)} if files else {}))

    def add_frame(
        self, source: Source, found: Detections, frame: int, seconds: float, files: Sequence[str] = ()
    ) -> None:
        """Write a frame's line."""
        row = {"path": source.address, "frame": frame, "seconds": round(seconds, 3)}
        row |= {key: value for key, value in found.to_dict().items() if key != "path"}
        self._write(row | ({"files": list(files)} if files else {}))

    def add_video(self, source: Source, frames: int, files: Sequence[str], error: ImageError | None = None) -> None:
        """Write the last line of a video, which marks it as done.

        `error` says why a stream ended too early.
        """
        row: Row = {"path": source.address, "frames": frames, **({"files": list(files)} if files else {})}
        self._write(row if error is None else row | {"error": str(error)})
        if error is not None:
            _say(error)

    def add_failure(self, source: Source, error: ImageError) -> None:
        """Write and print that a source could not be read to its end."""
        self._write({"path": source.address, "error": str(error)})
        _say(error)

    def _write(self, row: Row) -> None:
        with writing(self.folder / JOURNAL):
            write_row(self._lines, row)
        self.tally.count(row)

    def write_labels(self) -> None:
        """Write the labels of all images in the formats of annotation tools, from the journal."""
        images = functools.partial(read_labelled, self.folder, self.class_names)
        write_labels(self.folder, self.formats & set(LABEL_FORMATS) - {"yolo"}, images, self.class_names)
        if self.formats & set(LABEL_FORMATS):
            remember_labels(self.folder)

    def write_coco(self, ids: CocoIds) -> tuple[int, Counter[str]]:
        """Write `coco.json` from the journal, row by row.

        Returns how many images without an id are left out, and how many detections of classes without one.
        """
        images, classes, separator = 0, Counter[str](), "["
        with open_atomic(self.folder / "coco.json") as file:
            for row in read_rows(self.folder / JOURNAL):
                if "detections" not in row:
                    continue
                image_id = ids.of_image(row)
                if image_id is None:
                    images += 1
                    continue
                found = Detections.from_dict(row, self.class_names)
                for name, item in zip(found.names, found.to_coco(image_id, ids.categories), strict=True):
                    if item["category_id"] < 0:
                        classes[name] += 1
                        continue
                    file.write(f"{separator}\n{json.dumps(item)}".encode())
                    separator = ","
            file.write(b"[]\n" if separator == "[" else b"\n]\n")
        return images, classes


def _say(error: ImageError) -> None:
    tqdm.write(f"error: {error}", file=sys.stderr)  # above the progress bar
