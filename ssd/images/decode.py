"""Images: from a file, bytes or array to upright uint8 RGB, and from there to what the network reads.

An image is decoded whole or not at all. Its header is read first, so that a file which is no image, or declares more
pixels than it should, is refused before memory is spent on it. `cv2.imdecode` does the decoding: unlike `cv2.imread` it
returns nothing for a truncated file, and it applies the EXIF orientation, drops alpha and scales 16 bits to 8.
"""

import io
import logging
import re
import stat
import sys
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from ssd.errors import ImageDecodeError, ImageError, printable
from ssd.images import kinds
from ssd.system.files import read_regular

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
_ACCEPTED = (
    "Give a path, bytes, a PIL image, a uint8 array HxW or HxWx1/3/4, or a float array or tensor CxHxW in [0, 1]."
)


def load_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image file: upright, RGB, 8 bits.

    Raises:
        ImageDecodeError: the file is missing, empty, no image, too large, truncated or damaged.
    """
    return decode(read_image_bytes(path), str(path), max_pixels=max_pixels)


def load_shrunk(path: str | Path, shrink: int) -> tuple[UInt8[np.ndarray, "H W 3"], int]:
    """`load_image` and `decode_shrunk` in one."""
    return decode_shrunk(read_image_bytes(path), shrink, str(path))


def decode(data: bytes, place: str = "image bytes", *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "H W 3"]:
    """Decode the bytes of an image file; `place` names it in errors."""
    return decode_shrunk(data, 1, place, max_pixels=max_pixels)[0]


def decode_shrunk(
    data: bytes, shrink: int, place: str = "image bytes", *, max_pixels: int = MAX_PIXELS
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
        shrink = shrink if header.format in ("JPEG", "MPO") else 1
        pages = kinds.count_pages(data)
    if width * height > max_pixels:
        remedy = f"The limit is {max_pixels:,} pixels; make the image smaller."
        raise ImageDecodeError(f"is too large: {width}x{height} pixels", place=place, remedy=remedy)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8, end), _DECODED_AT[shrink]) if end else None
    except cv2.error as error:
        raise ImageDecodeError(f"cannot be decoded: {kind} ({error.err})", place=place) from None
    if image is None:
        if kind.startswith(("JPEG", "MPO")) and _lacks_its_end(data):
            problem = f"cannot be decoded: {kind}, truncated, readable but for its end"
            raise ImageDecodeError(
                problem, place=place, remedy="Replace it, or open it in an editor and save it again."
            )
        problem = f"cannot be decoded: {kind}, truncated, damaged or of an unsupported kind"
        raise ImageDecodeError(problem, place=place, remedy="Replace or remove it.")
    if pages > 1:
        _say_pages(place, pages)
    if kind.startswith(("TIFF", "PNG")) and image.max(initial=0) < _DARK:
        _say_dark(data[:end], place)
    return np.asarray(image), shrink


def _say_dark(data: bytes, place: str) -> None:
    """Say, once for each number of bits, that an image of 16 bits uses only the lowest ones and comes out dark."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    except cv2.error:
        return
    if image is None or image.dtype != np.uint16 or not image.any():
        return
    low, high = int(image.min()), int(image.max())
    bits = high.bit_length()
    if bits not in _SAID:
        _SAID.add(bits)
        _log.warning(
            "%s: 16 bits, but its values are %d to %d (%d bits), so it is nearly black: the upper 8 bits are read. "
            "Scale all such images alike: magick mogrify -evaluate multiply %d FILES",
            printable(place), low, high, bits, 2 ** (16 - bits),
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


def as_image(source: object, *, bgr: bool = False) -> UInt8[np.ndarray, "H W 3"]:
    """Turn anything that people call an image into upright uint8 RGB.

    Arrays are RGB; `bgr=True` says that an array comes from OpenCV. It has no meaning for files and PIL images.

    Raises:
        ImageError: another kind, dtype, shape or range; the message names it.
    """
    if isinstance(source, str | Path):
        return load_image(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return decode(bytes(source))
    if isinstance(source, Image.Image):
        return _from_pil(source)
    if is_tensor(source):
        source = _array_of(source)
    if not isinstance(source, np.ndarray):
        raise ImageError(f"{type(source).__name__} is not an image", place="image", remedy=_ACCEPTED)
    image = _from_array(np.asarray(source))  # a matrix would keep two dimensions
    return np.ascontiguousarray(image[..., ::-1] if bgr else image)


def is_tensor(value: object) -> bool:
    """Whether it is a tensor. PyTorch is not imported for it: `ssd.light` does without."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


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
        start = file.read(64)
        if kinds.is_heif(start):
            raise ImageDecodeError("is HEIF, which is not read", place=place, remedy=f"{kinds.CONVERT}.") from None
        text = start.lstrip().lower()
        reason = "is text or HTML, not an image" if text.startswith((b"<", b"{")) else "is not an image"
        remedy = f"Known formats: {', '.join(FORMATS)}."
        raise ImageDecodeError(f"{reason} ({type(error).__name__})", place=place, remedy=remedy) from None


def _array_of(tensor: Any) -> np.ndarray:
    """A tensor on the host; NumPy has no bfloat16."""
    try:
        tensor = tensor.detach().cpu()
        array: np.ndarray = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    except (RuntimeError, TypeError, NotImplementedError) as error:  # sparse, quantised, without storage
        reason = str(error).partition("\n")[0][:80]
        problem = f"{tensor.dtype} tensor of shape {tuple(tensor.shape)} is no array of numbers ({reason})"
        raise ImageError(problem, place="image", remedy=_ACCEPTED) from None
    return array


def _from_pil(pil_image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    if 0 in pil_image.size:
        seen = f"a PIL image of {pil_image.width}x{pil_image.height} pixels"
        raise ImageError(f"{seen} is empty", place="image", remedy="Leave it out.")
    try:
        pil_image = ImageOps.exif_transpose(pil_image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageDecodeError(f"cannot be decoded ({error})", place="PIL image") from None
    if pil_image.mode.startswith("I;16"):
        high_bytes = (np.asarray(pil_image) >> 8).astype(np.uint8)
        return np.repeat(high_bytes[..., None], 3, axis=2)
    if pil_image.mode in ("I", "F"):
        raise ImageError(f"a PIL image of mode {pil_image.mode} has no known range", place="image", remedy=_ACCEPTED)
    if "transparency" in pil_image.info:
        pil_image = pil_image.convert("RGBA")  # PIL warns when a palette's transparency is dropped in one go
    return np.array(pil_image.convert("RGB"))


def _from_array(array: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    shape, seen = array.shape, f"{array.dtype} array of shape {array.shape}"
    if 0 in shape:
        raise ImageError(f"{seen} has no pixels", place="image", remedy=_ACCEPTED)
    if array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and shape[2] in (1, 3, 4))):
        grey = array.ndim == 2 or shape[2] == 1
        return np.repeat(array.reshape(*shape[:2], 1), 3, axis=2) if grey else array[..., :3]
    if np.issubdtype(array.dtype, np.floating) and array.ndim == 3 and shape[0] in (1, 3):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # also catches NaN
            raise ImageError(f"{seen} has values from {low:g} to {high:g}", place="image", remedy=_ACCEPTED)
        pixels = np.rint(array.transpose(1, 2, 0) * 255).astype(np.uint8)
        return np.repeat(pixels, 3, axis=2) if shape[0] == 1 else pixels
    raise ImageError(f"{seen} is not an image", place="image", remedy=_ACCEPTED)
