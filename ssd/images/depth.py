"""Images with more than 8 bits a channel: their values as 8 bits, by the rule of the weights (`preprocessing.depth`).

`(low, high)` is a fixed window: low becomes 0, high 255, values between them in proportion, and those beyond 0 or 255.
"percentile" takes the window from each image. Images of 8 bits are never changed.
"""

import math

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from ssd.rules import Depth

PERCENTILES = (0.5, 99.5)
"""Of an image's values, all channels together: what "percentile" makes 0 and 255."""
_AT_ONCE = 1_000_000  # values that percentiles are taken of, or that are converted at once
_BITS_PER_SAMPLE = 258  # a tag of TIFF


def to_8bit(values: Shaped[np.ndarray, "H W *C"], depth: Depth) -> UInt8[np.ndarray, "H W 3"]:
    """Convert numbers of any kind, grey or with 1, 3 or 4 channels; 8 bits stay as they are, and a NaN becomes 0."""
    if values.dtype == np.uint8:
        return three_channels(values)
    values = values[..., None] if values.ndim == 2 else values[..., :3]
    pixels = np.empty((*values.shape[:2], 3), np.uint8)
    rows = max(1, _AT_ONCE // values[0].size)
    with np.errstate(all="ignore"):  # numbers near the end of their range, or not finite
        low, high = window(values, depth)
        for start in range(0, len(values), rows):
            part = values[start : start + rows].astype(np.float64)
            scaled = np.nan_to_num((part - low) * 255 / (high - low), posinf=255, neginf=0)
            pixels[start : start + rows] = np.rint(scaled.clip(0, 255))
    return pixels


def three_channels(pixels: UInt8[np.ndarray, "H W *C"]) -> UInt8[np.ndarray, "H W 3"]:
    """Repeat the one channel of a grey image, or drop the fourth."""
    grey = pixels.ndim == 2 or pixels.shape[2] == 1
    return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2) if grey else pixels[..., :3]


def window(values: Shaped[np.ndarray, "H W C"], depth: Depth) -> tuple[float, float]:
    """The values that become 0 and 255. An image of one value becomes black by its percentiles."""
    if depth != "percentile":
        return depth
    step = max(1, round((values.size / _AT_ONCE) ** 0.5))
    sampled = values[::step, ::step]
    sampled = sampled[np.isfinite(sampled)]
    if not sampled.size:
        return 0.0, math.inf
    low, high = np.percentile(sampled.astype(np.float64), PERCENTILES).tolist()
    return (low, high) if high > low else (low, math.inf)


def likely_window(low: float, high: float) -> str:
    """The window to suggest for these values, as text: all numbers of so many bits, or the values themselves."""
    if low >= 0 and high > 255 and high.is_integer():
        low, high = 0.0, 2.0 ** int(high).bit_length() - 1
    ends = f"{low:.10g}", f"{high:.10g}"
    if ends[0] == ends[1]:  # images of one value, where any window that starts there is as good
        ends = ends[0], f"{low + max(1.0, abs(low) / 1000):.10g}"
    return f"[{ends[0]}, {ends[1]}]"


def bits_of(header: Image.Image, data: bytes) -> int:
    """Bits a channel of an opened PNG or TIFF; 8 for the other formats, which have no more."""
    if header.format == "PNG":
        return data[24] if len(data) > 24 else 8
    if header.format == "TIFF":
        return max(map(int, header.tag_v2.get(_BITS_PER_SAMPLE, (8,))))  # type: ignore[attr-defined]
    return 8


def decode_values(data: bytes, bits: int) -> Shaped[np.ndarray, "H W *C"] | None:
    """The values of a PNG or TIFF, upright, grey or RGB; None where they cannot be decoded.

    Packed values, such as 12 bits without padding, come as they were stored: OpenCV shifts them to the upper end of 16.
    """
    # Not as RGB in one go: OpenCV 5.0 gives zeros for a TIFF of 16 bits.
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    if image is None:
        return None
    values = np.asarray(image)
    if values.dtype == np.uint16 and bits < 16:
        values >>= 16 - bits
    return values if values.ndim == 2 else values[..., ::-1]
