"""Image and category ids of COCO results."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.errors import ArgumentError
from ssd.system.unicode_names import Named
from ssd.weights.ports.class_names import coco_by_id


@dataclass(frozen=True)
class CocoIds:
    """`images` gives images their ids by file name; None: the name without suffix, a number where it is one.

    `categories` gives each class of the detector its id, -1 for those that the data set does not have.
    """

    images: Named[int | str] | None
    categories: tuple[int, ...]

    def of_image(self, row: Mapping[str, Any]) -> int | str | None:
        """The id of a journal row's image; of a frame the video's name and the frame's number."""
        path = Path(row["path"])
        if "frame" in row:
            return f"{path.stem}/{row['frame']:06d}"
        if self.images is None:
            return int(path.stem) if path.stem.isdecimal() else path.stem
        return self.images.find(path.name)


def own_ids(class_names: Sequence[str]) -> CocoIds:
    """The ids without an annotation file: COCO's category ids if all classes are COCO's, else 1, 2, ..."""
    official = {name: number for number, name in enumerate(coco_by_id(), start=1)}
    if all(name in official for name in class_names):
        return CocoIds(None, tuple(official[name] for name in class_names))
    return CocoIds(None, tuple(range(1, len(class_names) + 1)))


def ids_of_file(path: Path, class_names: Sequence[str]) -> CocoIds:
    """The ids of a COCO annotation file, so that the results can be evaluated against it.

    Raises:
        ArgumentError: it cannot be read, is no such file, or has none of the classes.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        images = Named((Path(image["file_name"]).name, image["id"]) for image in raw["images"])
        by_name = {category["name"]: int(category["id"]) for category in raw["categories"]}
    except OSError as error:
        raise ArgumentError(f"cannot be read ({error.strerror})", place=path, remedy="Check the path.") from None
    except (ValueError, KeyError, TypeError) as error:
        problem = f"is no COCO annotation file ({type(error).__name__}: {error})"
        raise ArgumentError(problem, place=path, remedy="Name one with images and categories.") from None
    if not any(name in by_name for name in class_names):
        problem = f"has none of the classes {', '.join(class_names[:10])}"
        raise ArgumentError(problem, place=path, remedy="Is it of another data set?")
    return CocoIds(images, tuple(by_name.get(name, -1) for name in class_names))
