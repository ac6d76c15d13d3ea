"""Names, lists and reads files in untrusted folders, without writing."""

import os
import re
import stat
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ssd.errors import AnnotationError, DatasetError
from ssd.images import kinds
from ssd.system.other_content import refuse_other_content

IMAGE_SUFFIXES = kinds.SUFFIXES
MAX_TEXT_BYTES = 10 * 2**20  # larger than any real annotation of one image
MAX_LIST_BYTES = 500 * 2**20  # a list of `MAX_FILES` paths
MAX_FILES = 5_000_000
IMAGE_FOLDERS = ("JPEGImages", "images", "image", "imgs", "img", "pictures", "pics", "photos", "data")
ANNOTATION_FOLDERS = ("Annotations", "annotation", "annots", "annot", "labels", "label", "xmls", "xml", "bboxes")
SPLITS = ("train", "trainval", "training", "val", "valid", "validation", "test", "testing", "minival", "dev", "eval")
_NO_DATA = (".", "__MACOSX", "lost+found")  # starts of folders' names
_USUAL = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
_USUAL |= {"test": "test", "testing": "test"}


def is_image(path: Path) -> bool:
    """Whether the name ends like an image's, in any case."""
    return is_image_name(path.name)


def is_image_name(name: str) -> bool:
    """Whether a file's name ends like an image's, in any case."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def list_images(folder: Path, *, deep: bool = False) -> list[Path]:
    """The images of a folder in the order of their names."""
    return sorted(path for path in (walk(folder) if deep else folder.iterdir()) if is_image(path))


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path still lies in the folder once `..` and links are followed."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, or links in a circle
        return False


def outside(path: Path, problem: str) -> AnnotationError:
    """The error about a file that `is_inside` denies: it is a link that leads nowhere, or `problem`, with a remedy."""
    if path.is_symlink() and not path.exists():
        return AnnotationError(f"is a link to {path.readlink()}, which is not there")
    return AnnotationError(problem, remedy="Move it inside, or set data.allow_outside=true.")


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder; no where the name is one that no file can have."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def start_of(folder: str | Path) -> str:
    """What the paths of a folder's files have before their names."""
    return str(Path(folder, "x"))[:-1]


def relative(path: Path, folder: Path) -> str:
    """The path as messages show it: from the data folder on, where it lies inside."""
    try:
        return path.relative_to(folder).as_posix()
    except ValueError:
        return str(path)


def below(path: Path, folder: Path) -> Path:
    """The same file by its path from `folder` on, where it lies there but is written absolute or with `..`."""
    if path.is_relative_to(folder) and ".." not in path.relative_to(folder).parts:
        return path
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - `..` goes, links stay
    for top in (Path(os.path.abspath(folder)), Path(os.path.realpath(folder))):  # noqa: PTH100
        if whole.is_relative_to(top):
            found = folder / whole.relative_to(top)
            if _is_same(found, path):
                return found
    return path


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


def read_bytes(path: Path, most: int = MAX_TEXT_BYTES) -> bytes:
    """The bytes of a file of at most `most` bytes, 10 MB for the annotations of one image.

    Raises:
        AnnotationError: it is missing, unreadable or larger, or a pointer of Git LFS, or a web page.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise AnnotationError("is not a regular file", place=path)
        if found.st_size > most:
            raise AnnotationError(f"has {found.st_size:,} bytes, more than {most:,}", place=path)
        content = path.read_bytes()
    except FileNotFoundError:
        raise AnnotationError("no such file", place=path) from None
    except OSError as error:
        raise AnnotationError(f"cannot be read ({error.strerror})", place=path) from None
    refuse_other_content(content, path, AnnotationError)
    return content


def read_text(path: Path, most: int = MAX_TEXT_BYTES) -> str:
    """The text of a file of at most `most` bytes: UTF-8, or UTF-16 with a byte-order mark, as of Windows PowerShell.

    Raises:
        AnnotationError: as `read_bytes`, or it is neither.
    """
    content = read_bytes(path, most)
    try:
        return content.decode("utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text ({error.reason} at byte {error.start})"
        raise AnnotationError(problem, place=path, remedy="Save it as UTF-8 in a text editor.") from None


def read_lines(path: Path, most: int = MAX_TEXT_BYTES) -> list[str]:
    """The lines of a UTF-8 file of at most `most` bytes, stripped."""
    return [line.strip() for line in read_text(path, most).splitlines()]


def first_lines(path: Path, most: int = 64 * 2**10) -> list[str]:
    """The lines in the first `most` bytes of a UTF-8 or UTF-16 file, stripped, without one that is cut there.

    Raises:
        AnnotationError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(most)
    except OSError as error:
        raise AnnotationError(f"cannot be read ({error.strerror})", place=path) from None
    wide = start.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    lines = start.decode("utf-16" if wide else "utf-8-sig", errors="replace").splitlines()
    return [line.strip() for line in (lines if len(start) < most else lines[:-1])]


def walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder, folder by folder in the order of the names; hidden ones are left out.

    Links to folders are followed, each folder once.

    Raises:
        DatasetError: there are more files than any data set has.
    """
    for place, names in listings(folder):
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))


def tree(folder: Path) -> list[str]:
    """The folders that `walk` looks into."""
    return [place for place, _ in listings(folder)]


def listings(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The folders that `walk` looks into, each with the names of its files.

    Raises:
        DatasetError: as `walk`.
    """
    seen: set[str] = set()
    count = 0
    for place, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith(_NO_DATA))
        count += len(names)
        if count > MAX_FILES:
            raise DatasetError(
                f"holds more than {MAX_FILES:,} files", place=folder, remedy="Name the data set's folder."
            )
        yield place, names


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder in the order of their names, without hidden ones and those that systems make."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        seen = [entry for entry in entries if not entry.name.startswith(_NO_DATA)]
        # A link is asked for its end here: an entry would raise for one that leads to itself.
        names = [entry.name for entry in seen if (Path(entry) if entry.is_symlink() else entry).is_dir()]
    return sorted(folder / name for name in names)


def named_subfolders(folder: Path, names: Sequence[str]) -> list[Path]:
    """The sub-folders with these names, in any case of letters, in the order of `names`."""
    order = {name.lower(): place for place, name in enumerate(names)}
    found = [path for path in subfolders(folder) if path.name.lower() in order]
    return sorted(found, key=lambda path: (order[path.name.lower()], path.name not in names))


def annotation_folders(folder: Path, names: Sequence[str] = ANNOTATION_FOLDERS) -> list[Path]:
    """The sub-folders of those names, else the only one with such a word in its name, as `labels_yolo`."""
    exact = named_subfolders(folder, names)
    if exact:
        return exact
    words = {name.lower() for name in names}
    worded = [path for path in subfolders(folder) if words & set(re.split(r"[\W_]+", path.name.lower()))]
    return worded if len(worded) == 1 else []


def split_pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Images and annotations by split in folders named after both, as `train_images` beside `train_labels`."""
    kinds = {word.lower(): 0 for word in IMAGE_FOLDERS} | {word.lower(): 1 for word in ANNOTATION_FOLDERS}
    found: dict[str, dict[int, Path]] = {}
    for path in subfolders(folder):
        words = re.split(r"[\W_]+", path.name.lower())
        names, parts = [word for word in words if is_split(word)], {kinds[word] for word in words if word in kinds}
        if len(names) == len(parts) == 1:
            found.setdefault(names[0], {}).setdefault(parts.pop(), path)
    return {name: (pair[0], pair[1]) for name, pair in found.items() if len(pair) == 2}


def split_folders(folder: Path) -> dict[str, Path]:
    """The sub-folders named as splits, in the folder of all images or in `folder` itself; none where that is one."""
    for place in (*named_subfolders(folder, IMAGE_FOLDERS), folder):
        found = {path.name: path for path in subfolders(place) if is_split(path.name)}
        if len(found) > 1:
            return found
    return {}


def is_split(name: str) -> bool:
    """Whether a folder's or a file's name is a split's, in any case and with or without a year."""
    return without_year(name) in SPLITS


def usual_split(name: str) -> str | None:
    """`train`, `val` or `test` for a name that means it, in any case and with or without a year; else None."""
    return _USUAL.get(without_year(name))


def find_split(names: Iterable[str], split: str) -> str | None:
    """The name among them that is the split's, else one that means it, as `Validation` means `val`."""
    means = usual_split(split) or split.lower()
    like = [name for name in names if (usual_split(name) or name.lower()) == means]
    return split if split in like else next(iter(like), None)


def without_year(name: str) -> str:
    """A split's name in lower case, `val` of `val2017`."""
    return re.sub(r"[-_]?\d*$", "", name.lower())
