"""Anything that people call an image as upright uint8 RGB: files, bytes, PIL images, arrays and tensors."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from ssd.errors import ImageDecodeError, ImageError
from ssd.images.decode import decode, load_image
from ssd.images.depth import three_channels, to_8bit
from ssd.rules import Depth

_ACCEPTED = (
    "Give a path, bytes, a PIL image, a uint8 array HxW or HxWx1/3/4, or a float array or tensor CxHxW in [0, 1]."
)
_WITH_DEPTH = "Scale it to uint8, or use weights that were trained with preprocessing.depth."


def as_image(source: object, *, bgr: bool = False, depth: Depth | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """Turn anything that people call an image into upright uint8 RGB.

    Arrays are RGB; `bgr=True` says that an array comes from OpenCV. It has no meaning for files and PIL images.
    `depth` says how more than 8 bits become 8: see `ssd.images.depth`. With it, arrays of other numbers are accepted in
    the shapes of uint8 ones.

    Raises:
        ImageError: another kind, dtype, shape or range; the message names it.
    """
    if isinstance(source, str | Path):
        return load_image(source, depth=depth)
    if isinstance(source, bytes | bytearray | memoryview):
        return decode(bytes(source), depth=depth)
    if isinstance(source, Image.Image):
        return _from_pil(source, depth)
    if is_tensor(source):
        source = _array_of(source)
    if not isinstance(source, np.ndarray):
        raise ImageError(f"{type(source).__name__} is not an image", place="image", remedy=_ACCEPTED)
    image = _from_array(np.asarray(source), depth)  # a matrix would keep two dimensions
    return np.ascontiguousarray(image[..., ::-1] if bgr else image)


def is_tensor(value: object) -> bool:
    """Whether it is a tensor. PyTorch is not imported for it: `ssd.light` does without."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


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


def _from_pil(pil_image: Image.Image, depth: Depth | None) -> UInt8[np.ndarray, "H W 3"]:
    if 0 in pil_image.size:
        seen = f"a PIL image of {pil_image.width}x{pil_image.height} pixels"
        raise ImageError(f"{seen} is empty", place="image", remedy="Leave it out.")
    try:
        pil_image = ImageOps.exif_transpose(pil_image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageDecodeError(f"cannot be decoded ({error})", place="PIL image") from None
    if depth is not None and pil_image.mode.startswith(("I", "F")):
        return to_8bit(np.asarray(pil_image), depth)
    if pil_image.mode.startswith("I;16"):
        high_bytes = (np.asarray(pil_image) >> 8).astype(np.uint8)
        return np.repeat(high_bytes[..., None], 3, axis=2)
    if pil_image.mode in ("I", "F"):
        raise ImageError(f"a PIL image of mode {pil_image.mode} has no known range", place="image", remedy=_WITH_DEPTH)
    if "transparency" in pil_image.info:
        pil_image = pil_image.convert("RGBA")  # PIL warns when a palette's transparency is dropped in one go
    return np.array(pil_image.convert("RGB"))


def _from_array(array: np.ndarray, depth: Depth | None) -> UInt8[np.ndarray, "H W 3"]:
    shape, seen = array.shape, f"{array.dtype} array of shape {array.shape}"
    if 0 in shape:
        raise ImageError(f"{seen} has no pixels", place="image", remedy=_ACCEPTED)
    channels_last = array.ndim == 2 or (array.ndim == 3 and shape[2] in (1, 3, 4))
    if array.dtype == np.uint8 and channels_last:
        return three_channels(array)
    if np.issubdtype(array.dtype, np.floating) and array.ndim == 3 and shape[0] in (1, 3):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # also catches NaN
            raise ImageError(f"{seen} has values from {low:g} to {high:g}", place="image", remedy=_ACCEPTED)
        pixels = np.rint(array.transpose(1, 2, 0) * 255).astype(np.uint8)
        return np.repeat(pixels, 3, axis=2) if shape[0] == 1 else pixels
    if channels_last and array.dtype.kind in "iuf":
        if depth is not None:
            return to_8bit(array, depth)
        raise ImageError(f"{seen} has no known range", place="image", remedy=_WITH_DEPTH)
    raise ImageError(f"{seen} is not an image", place="image", remedy=_ACCEPTED)
