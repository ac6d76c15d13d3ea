"""Finding images and reading small files in folders that strangers made. Nothing here writes."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ssd.errors import AnnotationError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_TEXT_BYTES = 10 * 2**20  # no honest annotation of one image is larger
HASHED_SPLITS = ("train", "val", "all")  # what is offered where the folder names no splits


def is_image(path: Path) -> bool:
    """Whether the name ends like a image's, in any case."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def list_images(folder: Path, *, deep: bool = False) -> list[Path]:
    """The images of a folder in the order of their names."""
    return sorted(path for path in (folder.rglob("*") if deep else folder.iterdir()) if is_image(path))


def images_by_stem(folder: Path) -> dict[str, list[Path]]:
    """The images of a folder under their names without suffix."""
    found: dict[str, list[Path]] = {}
    for path in list_images(folder):
        found.setdefault(path.stem, []).append(path)
    return found


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path still lies in the folder once `..` and links are followed."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, or links in a circle
        return False


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder; no where the name is one that no file can have."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def relative(path: Path, folder: Path) -> str:
    """The path as messages show it: from the data folder on, where it lies inside."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def read_bytes(path: Path) -> bytes:
    """The bytes of a small file.

    Raises:
        AnnotationError: it is missing, unreadable or larger than 10 MB.
    """
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise AnnotationError(f"has {path.stat().st_size:,} bytes, more than {MAX_TEXT_BYTES:,}", place=path)
        return path.read_bytes()
    except FileNotFoundError:
        raise AnnotationError("no such file", place=path) from None
    except OSError as error:
        raise AnnotationError(f"cannot be read ({error.strerror})", place=path) from None


def read_text(path: Path) -> str:
    """The text of a small UTF-8 file; a byte-order mark is skipped.

    Raises:
        AnnotationError: as `read_bytes`, or it is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"is not UTF-8 text ({error.reason} at byte {error.start})", place=path) from None


def read_lines(path: Path) -> list[str]:
    """The lines of a small UTF-8 file, stripped."""
    return [line.strip() for line in read_text(path).splitlines()]


def hashed_split(names: Iterable[str], split: str) -> list[str]:
    """Every tenth name for `val`, the others for `train`, `all` of them for `all`.

    The name's own hash decides, so a image stays on its side when others are added. One name at least is `val`.
    """
    if split == "all":
        return sorted(names)
    draws = {name: hashlib.sha256(name.encode()).digest()[0] / 256 for name in sorted(names)}
    val = {name for name, draw in draws.items() if draw < 0.1} or set(sorted(draws, key=draws.__getitem__)[:1])
    return [name for name in draws if (name in val) == (split == "val")]
