"""Image and category ids of COCO results."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePath
from typing import Any

from ssd.errors import ArgumentError
from ssd.system.unicode_names import Named, nfc
from ssd.weights.ports.class_names import COCO, coco_by_id


@dataclass(frozen=True)
class CocoIds:
    """`images` has the file names and ids of the annotation file by the last name of each, which may be of several.

    None: an image's id is its name without suffix, a number where it is one. `categories` gives each class of the
    detector its id, -1 for those that the data set does not have.
    """

    images: Named[list[tuple[str, int | str]]] | None
    categories: tuple[int, ...]

    def of_image(self, row: Mapping[str, Any]) -> int | str | None:
        """The id of a journal row's image, None where it has none; of a frame the video's name and the frame's number.

        Of images of one name it is the one with most of the folders above it in common.

        Raises:
            ArgumentError: several have equally many.
        """
        path = Path(row["path"])
        if "frame" in row:
            return f"{path.stem}/{row['frame']:06d}"
        if self.images is None:
            return int(path.stem) if path.stem.isdecimal() else path.stem
        named = self.images.find(path.name) or []
        shared = [_shared(path, file_name) for file_name, _ in named]
        best = [image for image, parts in zip(named, shared, strict=True) if parts == max(shared)]
        if len(best) > 1:
            problem = f"can be {best[0][0]} or {best[1][0]} of the annotation file"
            remedy = "Name the source with more of its folders, so that it ends like one of them."
            raise ArgumentError(problem, place=path, remedy=remedy)
        return best[0][1] if best else None

    def check(self, images: Iterable[str], videos: Iterable[str] = ()) -> None:
        """Find the ids of images and of first frames before they are searched.

        Raises:
            ArgumentError: an image can have several ids, or several images or videos have one.
        """
        rows: list[dict[str, Any]] = [{"path": path} for path in images]
        rows += [{"path": path, "frame": 0} for path in videos]
        of_id: dict[int | str, str] = {}
        for row in rows:
            found, path = self.of_image(row), row["path"]
            if found is not None and of_id.setdefault(found, path) != path:
                by_file = self.images is not None and "frame" not in row
                where = "in the annotation file" if by_file else "in coco.json"
                remedy = "Name the images of that file alone."
                if not by_file:
                    remedy = "Rename one, or search each into an --output of its own."
                problem = f"has the id {found!r} {where}, and so has {of_id[found]}"
                raise ArgumentError(problem, place=path, remedy=remedy)


def _shared(path: Path, file_name: str) -> tuple[int, bool]:
    """How many names the ends of two paths have in common, and whether these are the whole file name."""
    parts, theirs = PurePath(nfc(str(path))).parts, PurePath(nfc(file_name)).parts
    pairs = zip(reversed(parts), reversed(theirs), strict=False)
    count = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return count, count == len(theirs)


def own_ids(class_names: Sequence[str]) -> CocoIds:
    """The ids without an annotation file: COCO's category ids if the classes are the 80 of COCO, else 1, 2, ...

    A detector of a few classes that COCO has too was trained on other annotations, whose ids count from 1.
    """
    official = {name: number for number, name in enumerate(coco_by_id(), start=1)}
    if set(COCO) <= set(class_names) <= set(official):
        return CocoIds(None, tuple(official[name] for name in class_names))
    return CocoIds(None, tuple(range(1, len(class_names) + 1)))


def ids_of_file(path: Path, class_names: Sequence[str]) -> CocoIds:
    """The ids of a COCO annotation file, so that the results can be evaluated against it.

    Raises:
        ArgumentError: it cannot be read, is no such file, or has none of the classes.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        images: Named[list[tuple[str, int | str]]] = Named()
        for file_name, number in {image["file_name"]: image["id"] for image in raw["images"]}.items():
            images.setdefault(PurePath(file_name).name, []).append((file_name, number))
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
