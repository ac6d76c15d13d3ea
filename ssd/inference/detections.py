"""The detections of one image: arrays, and methods to draw, crop, save and convert them."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from ssd.errors import ArgumentError, ImageDecodeError, ImageError, counted
from ssd.inference import converters
from ssd.rules import Depth

_Image = UInt8[np.ndarray, "H W 3"]
_SHOWN_SIDE = 1000  # pixels of the longer side in a notebook, which keeps what it shows for ever


@dataclass(frozen=True)
class Detection:
    """One found object."""

    box: tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the image
    score: float
    label: int
    name: str


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects found in one image, best first. Boxes are pixels of that image and lie inside it.

    `source` is the image's path or its RGB array (a reference, not a copy), so that `plot`, `save` and `crop` need no
    second argument. `draw_from` is the score from which boxes are drawn when `plot` and `save` are not told: one,
    or one for each class.
    """

    boxes: Float32[np.ndarray, "N 4"]
    scores: Float32[np.ndarray, "N"]
    labels: Int64[np.ndarray, "N"]  # from 0, indices into `class_names`
    class_names: tuple[str, ...]
    image_size: tuple[int, int]  # height, width
    source: Path | np.ndarray | None = None
    draw_from: float | tuple[float, ...] = 0.0
    depth: Depth | None = None  # how a file of more than 8 bits a channel was read

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

    def readable(self) -> "Detections":
        """Those that `plot` and `save` draw: all if a threshold was chosen when detecting or filtering.

        Without one, those above the weights' own thresholds, or from 0.5 on where the weights have none.
        """
        least = np.asarray(self.draw_from, np.float32)
        keep = self.scores > least[self.labels] if least.ndim else self.scores >= least
        return dataclasses.replace(self[keep], draw_from=0.0)

    def _label(self, name: str) -> int:
        if name not in self.class_names:
            known = ", ".join(self.class_names[:20]) + (", ..." if len(self.class_names) > 20 else "")
            raise ArgumentError(f"no class {name!r}", place="filter", remedy=f"The classes are {known}.")
        return self.class_names.index(name)

    # Images

    def plot(self, image: _Image | None = None, *, min_score: float | None = None) -> UInt8[np.ndarray, "H W 3"]:
        """Return the image (RGB) with the boxes scoring `min_score` or more drawn on it.

        Without `min_score` those that are `readable`.
        Without `image` the original image is drawn on; another one of the same size may be given.

        Raises:
            ImageError: the image is not available, or its size has changed.
        """
        from ssd.images import drawing

        shown = self.readable() if min_score is None else self[self.scores >= min_score]
        texts = [f"{name} {score:.2f}" for name, score in zip(shown.names, shown.scores, strict=True)]
        return drawing.draw_boxes(
            self._image(image), shown.boxes, texts, [drawing.class_color(int(c)) for c in shown.labels]
        )

    def save(self, path: str | Path, *, min_score: float | None = None) -> Path:
        """Write `plot()` to a file in the format of its suffix; the original image is never overwritten.

        Raises:
            ImageError: `path` is the image itself, has no known suffix, or cannot be written.
        """
        from ssd.images import drawing

        path = Path(path)
        if isinstance(self.source, Path) and path.exists() and self.source.exists() and path.samefile(self.source):
            raise ImageError("is the image itself and stays as it is", place=path, remedy="Save under another name.")
        drawing.write_image(path, self.plot(min_score=min_score))
        return path

    def crop(self, image: _Image | None = None) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        """Cut every detection out of the image: one RGB array each, at least one pixel wide and high.

        Without `image` the crops are of the original image; another one of the same size may be given.

        Raises:
            ImageError: the image is not available, or its size has changed.
        """
        image = self._image(image)
        height, width = self.image_size
        crops = []
        for x1, y1, x2, y2 in self.boxes.tolist():
            left, top = min(int(x1), width - 1), min(int(y1), height - 1)
            right, bottom = max(int(np.ceil(x2)), left + 1), max(int(np.ceil(y2)), top + 1)
            crops.append(image[top:bottom, left:right].copy())
        return crops

    def _image(self, given: _Image | None = None) -> _Image:
        if given is not None:
            image = given
        elif self.source is None:
            raise ImageError(
                "these detections do not know their image",
                place="source",
                remedy="Give it to plot(image) or crop(image).",
            )
        elif isinstance(self.source, np.ndarray):
            image = self.source
        else:
            from ssd.images.decode import load_image  # brings OpenCV, which reading detections does not need

            image = load_image(self.source, depth=self.depth)
        if image.shape[:2] != self.image_size:
            found = f"{image.shape[1]}x{image.shape[0]}, not {self.image_size[1]}x{self.image_size[0]}"
            raise ImageError(f"the image is {found} as when it was searched", place=self._place(given))
        return image

    def _place(self, given: _Image | None) -> str:
        return str(self.source) if given is None and isinstance(self.source, Path) else "the image"

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

    @staticmethod
    def from_dict(raw: Mapping[str, Any], class_names: Sequence[str] | None = None) -> "Detections":
        """Detections from the result of `to_dict`, such as a line of `detections.jsonl`.

        `class_names` are the detector's. Without them only names that occur are known; the others are `class_0`, ...

        Raises:
            ArgumentError: a key is missing, or a value of the wrong kind.
        """
        try:
            rows = raw["detections"]
            found = {int(row["label"]): str(row["name"]) for row in rows}
            names = class_names or [found.get(label, f"class_{label}") for label in range(max(found, default=-1) + 1)]
            if outside := [label for label in found if not 0 <= label < len(names)]:
                raise ValueError(f"label {outside[0]} of {counted(len(names), 'class', 'classes')}")
            return Detections(
                boxes=np.array([row["box"] for row in rows], np.float32).reshape(len(rows), 4),
                scores=np.array([row["score"] for row in rows], np.float32),
                labels=np.array([row["label"] for row in rows], np.int64),
                class_names=tuple(names),
                image_size=(int(raw["height"]), int(raw["width"])),
                source=None if raw["path"] is None else Path(raw["path"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            problem = f"not a dictionary of detections ({type(error).__name__}: {error})"
            raise ArgumentError(problem, place="from_dict", remedy="Give what to_dict returns.") from None

    def to_json(self, **options: Any) -> str:
        """Return `to_dict()` as JSON; `options` go to `json.dumps`."""
        return json.dumps(self.to_dict(), **{"ensure_ascii": False, "allow_nan": False} | options)

    def to_coco(self, image_id: int | str, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """COCO results: `bbox` is x, y, width, height. `category_ids` gives each class its id; without it label + 1.

        Raises:
            ArgumentError: not one id for each class.
        """
        return converters.coco_rows(
            self.boxes,
            self.scores,
            self.labels,
            num_classes=len(self.class_names),
            image_id=image_id,
            category_ids=category_ids,
        )

    def to_yolo(self, *, scores: bool = False) -> str:
        """One line per detection: label, centre x, centre y, width, height as fractions of the image.

        This is the label format of YOLO folders; `scores` adds the score as a sixth number.
        """
        return converters.yolo_text(
            self.boxes, self.scores, self.labels, image_size=self.image_size, with_scores=scores
        )

    def to_supervision(self) -> Any:
        """Return `supervision.Detections`; needs the package `supervision`."""
        return converters.supervision_detections(self.boxes, self.scores, self.labels, self.names)

    def to_pandas(self) -> Any:
        """Return a data frame with the columns x1, y1, x2, y2, score, label, name; needs the package `pandas`."""
        return converters.data_frame(self.boxes, self.scores, self.labels, self.names)

    def __repr__(self) -> str:
        height, width = self.image_size
        place = self.source if isinstance(self.source, Path) else "an image"
        best = ", ".join(f"{found.name} {found.score:.2f}" for found in self[:5]) + (", ..." if len(self) > 5 else "")
        return f"<{len(self)} detections in {place} ({width}x{height}){': ' + best if len(self) else ''}>"

    def _repr_png_(self) -> bytes | None:
        """Show the drawn image in a notebook, no larger than a screen; None if the image is not available."""
        from ssd.images import drawing

        try:
            return drawing.encode_image(drawing.shrink(self.plot(), _SHOWN_SIDE), ".png")
        except (ImageError, ImageDecodeError):
            return None

    def _repr_html_(self) -> str | None:
        """Show a table in a notebook; None if there is an image, which is then shown."""
        if self.source is not None:
            return None
        caption = repr(self)[1:-1].split(": ")[0]
        return converters.html_table(self.boxes, self.scores, self.names, caption)


def _short(number: np.float32) -> float:
    """The float with the fewest digits that is this float32: 0.1, not 0.10000000149011612."""
    return float(str(number))
