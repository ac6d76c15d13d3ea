"""The argument `images` of a detector: any iterable of images, but not one image."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from ssd.errors import ArgumentError
from ssd.images.any_image import is_tensor


def groups(images: Iterator[object], batch_size: int) -> Iterator[list[object]]:
    """Yield `batch_size` images at a time, and at the end those that are left."""
    while group := list(islice(images, batch_size)):
        yield group


def each_image(images: Iterable[object]) -> Iterator[object]:
    """Yield the images; a single image is an error, since its characters, bytes or rows would be taken for images.

    Raises:
        ArgumentError: the argument is a single image, or not iterable.
    """
    if isinstance(images, str | Path | bytes | bytearray | memoryview | PILImage.Image) or _is_one_array(images):
        what = f"{images!r}"[:80] if isinstance(images, str | Path) else f"a {type(images).__name__}"
        raise ArgumentError(f"{what} is one image", place="images", remedy="Use detect(image), or a list: [image].")
    if not isinstance(images, Iterable) or isinstance(images, Mapping):
        problem = f"a {type(images).__name__} is no list of images"
        raise ArgumentError(problem, place="images", remedy="Give a list of paths, arrays or PIL images.")
    return iter(images)


def _is_one_array(images: object) -> bool:
    """Whether it is an array of less than four dimensions; B x H x W x 3 are many images."""
    if isinstance(images, np.ndarray):
        return images.dtype.kind not in "OUS" and images.ndim < 4
    return is_tensor(images) and images.ndim < 4  # type: ignore[attr-defined]
