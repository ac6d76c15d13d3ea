"""Lists of images as splits, for every format: a text file with one path a line.

A path is the image's from the data folder on, or an absolute one, as `ssd check-data F --divide 0.2 --out LISTS` writes
them. Of a path from another machine its end counts.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import RawImage, RawSplit
from ssd.errors import DatasetError
from ssd.system.unicode_names import nfc


def find_list(root: Path, split: str) -> Path | None:
    """The list file that a split names, from the current folder or the data folder on; None if it is a name."""
    if not split.lower().endswith(".txt"):
        return None
    folder = root.parent if root.is_file() else root
    return next((path for path in (Path(split), folder / split) if folders.is_there(path) and path.is_file()), None)


def is_list(folder: str | Path | None, split: str) -> bool:
    """Whether a split names a list file, and no split of the folder."""
    return find_list(Path(folder or "."), split) is not None


def listed(file: Path, root: Path, splits: Sequence[RawSplit]) -> RawSplit:
    """The images that a list names, among those of a folder's `splits`, in the order of the list.

    Raises:
        DatasetError: the list is empty, or names an image that the folder does not have.
    """
    folder = root.parent if root.is_file() else root
    whole = _union(splits)
    images = _unique({image.path: image for image in whole.images}.values(), folder)
    places = {folders.relative(Path(image.path), folder): image for image in images}
    tails: dict[str, list[str]] = {}
    for place in places:
        tails.setdefault(nfc(place.rpartition("/")[2]), []).append(place)
    chosen: dict[str, RawImage] = {}
    missing = []
    for line in filter(None, folders.read_lines(file, folders.MAX_LIST_BYTES)):
        name = _written(line, folder)
        ends = tails.get(nfc(name.rpartition("/")[2]), [])
        close = [place for place in ends if nfc(f"/{name}").endswith(nfc(f"/{place}"))]
        if name not in places and not close:
            missing.append(line)
            continue
        place = name if name in places else max(close, key=lambda place: (f"/{name}".endswith(f"/{place}"), len(place)))
        chosen[place] = places[place]
    sources = {image.source for image in images} - {image.source for image in chosen.values()}
    problems = tuple(problem for problem in whole.problems if problem.path not in sources)
    broken = {nfc(Path(problem.path).stem) for problem in problems if problem.level == "file"}
    if missing and {nfc(Path(line.replace("\\", "/")).stem) for line in missing} - broken:
        remedy = f"Write paths as they are in {shlex.quote(str(folder))}, such as {next(iter(places), 'a.jpg')}."
        problem = f"names {len(missing)} images that are not annotated there; the first: {missing[0][:200]}"
        raise DatasetError(problem, place=file, remedy=remedy)
    if not chosen and not missing:
        raise DatasetError("names no image", place=file, remedy="Write the path of an image on each line.")
    return replace(whole, images=tuple(chosen.values()), problems=problems)


def _written(line: str, folder: Path) -> str:
    """The path of a line, from the data folder on where it leads there."""
    path = Path(line.replace("\\", "/"))
    for base in (folder, folder.absolute(), folder.resolve()):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return path.as_posix().removeprefix("./")


def _union(splits: Sequence[RawSplit]) -> RawSplit:
    """All splits as one; COCO files may have other categories each, and repeat the problems of the folder."""
    ids: dict[str, int] = {}
    for split in splits:
        for name, number in zip(split.class_names, split.category_ids, strict=True):
            ids.setdefault(name, number)
    if len(set(ids.values())) < len(ids):
        ids = {name: place for place, name in enumerate(ids, start=1)}
    return RawSplit(
        images=tuple(image for split in splits for image in split.images),
        class_names=tuple(ids),
        category_ids=tuple(ids.values()),
        problems=tuple(dict.fromkeys(problem for split in splits for problem in split.problems)),
        form=splits[0].form,
        remarks=tuple(dict.fromkeys(remark for split in splits for remark in split.remarks)),
    )


def _unique(images: Iterable[RawImage], folder: Path) -> list[RawImage]:
    """The images with ids that differ: COCO files may each count theirs from the same number."""
    found = list(images)
    if len({image.image_id for image in found}) == len(found):
        return found
    return [replace(image, image_id=folders.relative(Path(image.path), folder)) for image in found]
