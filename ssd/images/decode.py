"""Image files: from a path or bytes to upright uint8 RGB.

An image is decoded whole or not at all. Its header is read first, so that a file which is no image, or declares more
pixels than it should, is refused before memory is spent on it. `cv2.imdecode` does the decoding: unlike `cv2.imread` it
returns nothing for a truncated file, and it applies the EXIF orientation, drops alpha and takes the upper 8 bits of 16,
unless `depth` says otherwise (`ssd.images.depth`).
"""

import io
import logging
import re
import stat
import warnings
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ssd.errors import ImageDecodeError, printable
from ssd.images import kinds
from ssd.images.depth import bits_of, decode_values, likely_window, to_8bit
from ssd.images.value_range import measure
from ssd.rules import Depth
from ssd.system.files import read_regular
from ssd.system.other_content import LENGTH, refuse_other_content

_log = logging.getLogger(__name__)

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 100_000_000
MAX_BYTES = 900_000_000  # MAX_PIXELS uncompressed, with alpha, in 16 bits, and a little more
# OpenCV names the reduced ones for BGR alone; the flag for RGB excludes the one for BGR.
_DECODED_AT = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2 & ~cv2.IMREAD_COLOR | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_COLOR_4 & ~cv2.IMREAD_COLOR | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_COLOR_8 & ~cv2.IMREAD_COLOR | cv2.IMREAD_COLOR_RGB,
}
_DARK = 32  # of 255: an image of 16 bits that stays below uses 13 bits or fewer
_SAID: set[int] = set()  # numbers of bits of dark images that have been named
_URL = re.compile(r"(https?|ftp|file|s3|gs|data):", re.IGNORECASE)
_ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 turn the image on its side


def load_image(
    path: str | Path, *, max_pixels: int = MAX_PIXELS, depth: Depth | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image file: upright, RGB, 8 bits.

    Raises:
        ImageDecodeError: the file is missing, empty, no image, too large, truncated or damaged.
    """
    return decode(read_image_bytes(path), str(path), max_pixels=max_pixels, depth=depth)


def load_shrunk(path: str | Path, shrink: int, depth: Depth | None = None) -> tuple[UInt8[np.ndarray, "H W 3"], int]:
    """`load_image` and `decode_shrunk` in one."""
    return decode_shrunk(read_image_bytes(path), shrink, str(path), depth=depth)


def decode(
    data: bytes, place: str = "image bytes", *, max_pixels: int = MAX_PIXELS, depth: Depth | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """Decode the bytes of an image file; `place` names it in errors."""
    return decode_shrunk(data, 1, place, max_pixels=max_pixels, depth=depth)[0]


def decode_shrunk(
    data: bytes,
    shrink: int,
    place: str = "image bytes",
    *,
    max_pixels: int = MAX_PIXELS,
    depth: Depth | None = None,
) -> tuple[UInt8[np.ndarray, "H W 3"], int]:
    """Decode a JPEG at 1/`shrink` of its size (1, 2, 4, 8), rounded up; gives the shrink too.

    Pixel i of the result covers `shrink` pixels of the whole image, from `shrink * i` on. A JPEG's blocks are decoded
    small, which takes half the time or less; other formats come whole, with 1.
    """
    if not data:
        raise ImageDecodeError("is empty (0 bytes)", place=place, remedy="Replace or remove it.")
    with _open_header(io.BytesIO(data), place) as header:
        width, height = header.size
        kind = f"{header.format} of {width}x{height} pixels, mode {header.mode}"
        end = _end_of_png(data) if header.format == "PNG" else len(data)
        bits = bits_of(header, data)
        shrink = shrink if header.format in ("JPEG", "MPO") else 1
        pages = kinds.count_pages(data)
    if width * height > max_pixels:
        remedy = f"The limit is {max_pixels:,} pixels; make the image smaller."
        raise ImageDecodeError(f"is too large: {width}x{height} pixels", place=place, remedy=remedy)
    try:
        image = _decoded(data[:end], shrink, bits, depth) if end else None
    except cv2.error as error:
        raise ImageDecodeError(f"cannot be decoded: {kind} ({error.err})", place=place) from None
    if image is None:
        if kind.startswith(("JPEG", "MPO")) and _lacks_its_end(data):
            problem = f"cannot be decoded: {kind}, truncated, readable but for its end"
            raise ImageDecodeError(
                problem, place=place, remedy="Replace it, or open it in an editor and save it again."
            )
        if bits > 8 and depth is None and (found := measure(data)) is not None:
            remedy = f"Train with preprocessing.depth={likely_window(found.low, found.high)} or percentile; "
            remedy += "for other weights, save it with 8 bits."
            raise ImageDecodeError(f"has {bits} bits a channel: {kind}", place=place, remedy=remedy)
        problem = f"cannot be decoded: {kind}, truncated, damaged or of an unsupported kind"
        raise ImageDecodeError(problem, place=place, remedy="Replace or remove it.")
    if pages > 1:
        _say_pages(place, pages)
    if bits > 8 and depth is None and image.max(initial=0) < _DARK:
        _say_dark(data[:end], bits, place)
    return np.asarray(image), shrink


def _decoded(data: bytes, shrink: int, bits: int, depth: Depth | None) -> UInt8[np.ndarray, "H W 3"] | None:
    if bits <= 8 or depth is None:
        return cv2.imdecode(np.frombuffer(data, np.uint8), _DECODED_AT[shrink])
    values = decode_values(data, bits)
    return None if values is None else to_8bit(values, depth)


def _say_dark(data: bytes, bits: int, place: str) -> None:
    """Say, once for each number of bits, that an image of 16 bits uses only the lowest ones and comes out dark."""
    try:
        values = decode_values(data, bits)
    except cv2.error:
        return
    if values is None or values.dtype != np.uint16 or not values.any():
        return
    low, high = int(values.min()), int(values.max())
    used = high.bit_length()
    if used not in _SAID:
        _SAID.add(used)
        _log.warning(
            "%s: 16 bits, but its values are %d to %d (%d bits), so it is nearly black: the upper 8 bits are read. "
            "Train with preprocessing.depth=%s; for other weights: magick mogrify -evaluate multiply %d FILES",
            printable(place), low, high, used, likely_window(float(low), float(high)), 2 ** (16 - used),
        )  # fmt: skip


@lru_cache(maxsize=10_000)
def _say_pages(place: str, pages: int) -> None:
    """Say that only the first page is read, once for each file."""
    _log.warning("%s: has %d pages or frames; only the first is read", printable(place), pages)


def _lacks_its_end(data: bytes) -> bool:
    """Whether a JPEG is decoded once the marker of its end is put there; the rest of the image comes out grey."""
    end = b"\xff\xd9"
    if data.rstrip(b"\0").endswith(end):
        return False
    try:
        return cv2.imdecode(np.frombuffer(data + end, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None
    except cv2.error:
        return False


def _end_of_png(data: bytes) -> int:
    """Where the last chunk of a PNG ends; 0 if one is longer than the file.

    OpenCV takes memory for what a chunk declares, and may read on behind the last.
    """
    start = 8
    while start + 12 <= len(data):  # length, kind and checksum
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if data[start + 4 : start + 8] == b"IEND":
            return end if end <= len(data) else 0
        start = end
    return 0


def read_size(path: str | Path) -> tuple[int, int]:
    """Read `(width, height)` of the upright image from its header alone."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_size > MAX_BYTES:
            raise ValueError(f"it has {status.st_size:,} bytes, more than {MAX_BYTES:,}")
        if status.st_size == 0:
            raise ImageDecodeError("is empty (0 bytes)", place=path, remedy="Replace or remove it.")
        with Path(path).open("rb") as file, _open_header(file, str(path)) as header:
            # TIFF sizes come upright already; the other formats keep the orientation in their EXIF block.
            exif = Image.Exif()
            exif.load(header.info.get("exif", b""))
            width, height = header.size
            return (height, width) if exif.get(_ORIENTATION) in (5, 6, 7, 8) else (width, height)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def read_image_bytes(path: str | Path) -> bytes:
    """The bytes of an image file, undecoded.

    Raises:
        ImageDecodeError: the file is missing, no regular file, or too large.
    """
    try:
        return read_regular(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str | Path, error: Exception) -> ImageDecodeError:
    if isinstance(error, ImageDecodeError):
        return error
    if _URL.match(str(path)):
        remedy = "Download it first, or give its bytes: detect(urllib.request.urlopen(url).read())."
        return ImageDecodeError("is a URL, not a file", place=path, remedy=remedy)
    if isinstance(error, FileNotFoundError):
        return ImageDecodeError("no such image file", place=path, remedy="Check the path.")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ImageDecodeError(f"cannot be read ({reason})", place=path)


def _open_header(file: io.BytesIO | io.BufferedReader, place: str) -> Image.Image:
    """Parse the header; PIL decodes no pixels before it is asked to."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `decode` has a limit of its own
            return Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageDecodeError(f"is too large: {error}", place=place, remedy="Make the image smaller.") from None
    except Exception as error:  # a damaged header makes PIL's parsers raise nearly anything
        file.seek(0)
        start = file.read(LENGTH)
        refuse_other_content(start, place, ImageDecodeError)
        if kinds.is_heif(start):
            raise ImageDecodeError("is HEIF, which is not read", place=place, remedy=f"{kinds.CONVERT}.") from None
        if start.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
            remedy = "Save it with 8 or 16 bits, or with one channel of 32 bits."
            raise ImageDecodeError("is a TIFF of a kind that is not read", place=place, remedy=remedy) from None
        reason = "is text, not an image" if start.lstrip().startswith((b"<", b"{")) else "is not an image"
        remedy = f"Known formats: {', '.join(FORMATS)}."
        raise ImageDecodeError(f"{reason} ({type(error).__name__})", place=place, remedy=remedy) from None
