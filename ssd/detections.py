"""What a detector found in one picture: arrays to compute with, and ways to draw, cut, save and hand them on."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from ssd.errors import ArgumentError, ImageDecodeError, ImageError, MissingExtraError

READABLE_SCORE = 0.5
"""Where drawing begins unless the caller has chosen a threshold: below it a picture fills with guesses."""


@dataclass(frozen=True)
class Detection:
    """One found object."""

    box: tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the picture
    score: float
    label: int
    name: str


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects found in one picture, best first. Boxes are pixels of that picture and lie inside it.

    `source` is the picture's path or its RGB array (a reference, not a copy), so that `plot`, `save` and `crop` need no
    second argument. `draw_from` is the score from which boxes are drawn when `plot` and `save` are not told.
    """

    boxes: Float32[np.ndarray, "N 4"]
    scores: Float32[np.ndarray, "N"]
    labels: Int64[np.ndarray, "N"]  # from 0, indices into `class_names`
    class_names: tuple[str, ...]
    image_size: tuple[int, int]  # height, width
    source: Path | np.ndarray | None = None
    draw_from: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """The class name of each detection."""
        return tuple(self.class_names[label] for label in self.labels)

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice | np.ndarray | Sequence[int]) -> "Detections": ...
    def __getitem__(self, index: Any) -> "Detection | Detections":
        """One detection by its number; a subset by a slice, a mask or an array of numbers."""
        if isinstance(index, int | np.integer):
            x1, y1, x2, y2 = (_short(number) for number in self.boxes[index])
            label = int(self.labels[index])
            return Detection((x1, y1, x2, y2), _short(self.scores[index]), label, self.class_names[label])
        if isinstance(index, Sequence) and len(index) == 0:
            index = slice(0, 0)  # numpy takes an empty list for an array of floats
        boxes, scores, labels = self.boxes[index], self.scores[index], self.labels[index]
        return dataclasses.replace(self, boxes=boxes, scores=scores, labels=labels)

    def filter(self, names: str | Sequence[str] | None = None, *, min_score: float | None = None) -> "Detections":
        """Keep some classes, or the scores from `min_score` on, or both.

        Raises:
            ArgumentError: a name is not among the class names.
        """
        keep = np.ones(len(self), dtype=bool)
        draw_from = self.draw_from
        if names is not None:
            keep &= np.isin(self.labels, [self._label(name) for name in ([names] if isinstance(names, str) else names)])
        if min_score is not None:
            keep &= self.scores >= min_score
            draw_from = 0.0  # the caller has chosen: all that is left is drawn
        return dataclasses.replace(self[keep], draw_from=draw_from)

    def _label(self, name: str) -> int:
        if name not in self.class_names:
            known = ", ".join(self.class_names[:20]) + (", ..." if len(self.class_names) > 20 else "")
            raise ArgumentError(f"no class {name!r}", place="filter", remedy=f"The classes are {known}.")
        return self.class_names.index(name)

    # Pictures

    def plot(self, *, min_score: float | None = None) -> UInt8[np.ndarray, "H W 3"]:
        """Return the picture (RGB) with the boxes scoring `min_score` or more drawn on it.

        Without `min_score`: all of them if a threshold was chosen when detecting or filtering, else those from 0.5 on.

        Raises:
            ImageError: the picture is not at hand, or has another size by now.
        """
        from ssd import drawing

        shown = self[self.scores >= (self.draw_from if min_score is None else min_score)]
        texts = [f"{name} {score:.2f}" for name, score in zip(shown.names, shown.scores, strict=True)]
        return drawing.draw_boxes(
            self._picture(), shown.boxes, texts, [drawing.class_color(int(c)) for c in shown.labels]
        )

    def save(self, path: str | Path, *, min_score: float | None = None) -> Path:
        """Write `plot()` to a file whose suffix says the format; the picture itself is never overwritten.

        Raises:
            ImageError: `path` is the picture itself, has no known suffix, or cannot be written.
        """
        from ssd import drawing

        path = Path(path)
        if isinstance(self.source, Path) and path.exists() and path.samefile(self.source):
            raise ImageError("is the picture itself and stays as it is", place=path, remedy="Save under another name.")
        drawing.write_image(path, self.plot(min_score=min_score))
        return path

    def crop(self) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        """Cut every detection out of the picture: one RGB array each, at least one pixel wide and high."""
        image = self._picture()
        height, width = self.image_size
        crops = []
        for x1, y1, x2, y2 in self.boxes.tolist():
            left, top = min(int(x1), width - 1), min(int(y1), height - 1)
            right, bottom = max(int(np.ceil(x2)), left + 1), max(int(np.ceil(y2)), top + 1)
            crops.append(image[top:bottom, left:right].copy())
        return crops

    def _picture(self) -> np.ndarray:
        if self.source is None:
            raise ImageError(
                "these detections do not know their picture",
                place="source",
                remedy="Give it: dataclasses.replace(...).",
            )
        if isinstance(self.source, np.ndarray):
            image = self.source
        else:
            from ssd.images import load_image  # brings torch, which reading detections does not need

            image = load_image(self.source)
        if image.shape[:2] != self.image_size:
            found = f"{image.shape[1]}x{image.shape[0]}, not {self.image_size[1]}x{self.image_size[0]}"
            raise ImageError(f"the picture is {found} as when it was searched", place=self._place())
        return image

    def _place(self) -> str:
        return str(self.source) if isinstance(self.source, Path) else "the picture"

    # Other forms

    def to_dict(self) -> dict[str, Any]:
        """Plain types: the path (None for an array), width, height, and a list of box, score, label and name."""
        height, width = self.image_size
        return {
            "path": str(self.source) if isinstance(self.source, Path) else None,
            "width": width,
            "height": height,
            "detections": [dataclasses.asdict(found) | {"box": list(found.box)} for found in self],
        }

    def to_json(self, **options: Any) -> str:
        """Return `to_dict()` as JSON; `options` go to `json.dumps`."""
        return json.dumps(self.to_dict(), **{"ensure_ascii": False, "allow_nan": False} | options)

    def to_coco(self, image_id: int | str, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """COCO results: `bbox` is x, y, width, height. `category_ids` gives each class its id; without it label + 1."""
        ids = range(1, len(self.class_names) + 1) if category_ids is None else category_ids
        return [
            {
                "image_id": image_id,
                "category_id": int(ids[label]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
            }
            for (x1, y1, x2, y2), score, label in zip(
                self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True
            )
        ]

    def to_supervision(self) -> Any:
        """Return `supervision.Detections`; needs the package `supervision`."""
        try:
            import supervision
        except ImportError:
            raise _missing("supervision") from None
        names = np.array(self.names, dtype=str)
        return supervision.Detections(
            xyxy=self.boxes.copy(),
            confidence=self.scores.copy(),
            class_id=self.labels.copy(),
            data={"class_name": names},
        )

    def to_pandas(self) -> Any:
        """Return a data frame with the columns x1, y1, x2, y2, score, label, name; needs the package `pandas`."""
        try:
            import pandas
        except ImportError:
            raise _missing("pandas") from None
        columns = dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T, strict=True))
        return pandas.DataFrame({**columns, "score": self.scores, "label": self.labels, "name": list(self.names)})

    def __repr__(self) -> str:
        height, width = self.image_size
        place = self._place() if isinstance(self.source, Path) else "a picture"
        best = ", ".join(f"{found.name} {found.score:.2f}" for found in self[:5]) + (", ..." if len(self) > 5 else "")
        return f"<{len(self)} detections in {place} ({width}x{height}){': ' + best if len(self) else ''}>"

    def _repr_png_(self) -> bytes | None:
        """Show the drawn picture in a notebook; where there is no picture (any more), the text above is shown."""
        from ssd import drawing

        try:
            return drawing.encode_image(self.plot(), ".png")
        except (ImageError, ImageDecodeError):
            return None


def _short(number: np.float32) -> float:
    """The float with the fewest digits that is this float32: 0.1, not 0.10000000149011612."""
    return float(str(number))


def _missing(package: str) -> MissingExtraError:
    return MissingExtraError(f"the package {package!r} is not installed", remedy=f"Run: pip install {package}")
