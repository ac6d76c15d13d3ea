"""Decodes every image of a split in threads, to find unreadable images and files with equal content.

The usual decoder accepts a JPEG with damaged bytes in its middle and leaves a part of the image grey; the strict
decoder simplejpeg refuses it.
"""

import contextlib
import hashlib
import importlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ssd.audit.splits import Split
from ssd.data.dataset import Dataset
from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem
from ssd.errors import AnnotationError, ImageDecodeError, MissingExtraError
from ssd.images.decode import read_image_bytes
from ssd.images.value_range import ValueRange, measure

_JPEG_START = b"\xff\xd8"
StrictDecoder = Callable[[bytes], None]


@dataclass(frozen=True)
class Seen:
    """One image that was read: the SHA-256 of its file, and its problems."""

    path: str  # relative to the data folder
    digest: str | None  # None if it cannot be read
    problem: Problem | None
    values: ValueRange | None = None  # of an image with more than 8 bits a channel


@dataclass(frozen=True)
class Copies:
    """Files with the same content."""

    places: tuple[tuple[str, str], ...]  # split and path of each

    @property
    def leaks(self) -> bool:
        """Whether more than one split has the image."""
        return len({split for split, _ in self.places}) > 1


def see(
    dataset: Dataset, *, strict: StrictDecoder | None = None, workers: int = 2, progress: bool = False
) -> list[Seen]:
    """Decode every image of a split, in the order of its records."""
    look = partial(_look, dataset=dataset, strict=strict)
    bar = partial(tqdm, total=len(dataset), desc=f"decoding {dataset.split}", unit="image", disable=not progress)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        return list(bar(pool.map(look, range(len(dataset)))))


def strict_decoder() -> StrictDecoder:
    """A decoder that raises ValueError for a JPEG that is damaged anywhere.

    Raises:
        MissingExtraError: simplejpeg is not installed.
    """
    try:
        simplejpeg = importlib.import_module("simplejpeg")
    except ImportError:
        problem = "simplejpeg is not installed, so damage inside JPEG files stays unseen"
        raise MissingExtraError(problem, place="--deep", remedy="pip install simplejpeg") from None

    def decode(data: bytes) -> None:
        if data.startswith(_JPEG_START):
            simplejpeg.decode_jpeg(data, strict=True)

    return decode


def find_copies(seen: Iterable[tuple[Split, Sequence[Seen]]]) -> list[Copies]:
    """Group the files that are equal byte by byte, leaks between splits first."""
    places: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for split, images in seen:
        for image in images:
            if image.digest is not None:
                places[image.digest].append((split.name, image.path))
    copies = [Copies(tuple(group)) for group in places.values() if len(group) > 1]
    return sorted(copies, key=lambda group: (not group.leaks, group.places))


def _look(index: int, *, dataset: Dataset, strict: StrictDecoder | None) -> Seen:
    record = dataset.records[index]
    path = folders.relative(Path(record.path), Path(dataset.name))
    try:
        dataset.load(index)  # also compares the annotated size
    except (ImageDecodeError, AnnotationError) as error:
        kind = "undecodable" if isinstance(error, ImageDecodeError) else "size_differs"
        problem = Problem(path, kind, error.problem, "file", image=record.path)
        with contextlib.suppress(ImageDecodeError):
            return Seen(path, None, problem, measure(read_image_bytes(record.path)))
        return Seen(path, None, problem)
    data = Path(record.path).read_bytes()
    damaged = None
    if strict is not None:
        try:
            strict(data)
        except ValueError as error:
            # Training accepts the image with its grey part.
            damaged = Problem(path, "damaged", f"is damaged inside ({error})", "note", image=record.path)
    return Seen(path, hashlib.sha256(data).hexdigest(), damaged, measure(data))
