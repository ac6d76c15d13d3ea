"""The range of values in images with more than 8 bits a channel, and what is said about it."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ssd.images.depth import bits_of, decode_values, likely_window
from ssd.rules import Depth


@dataclass(frozen=True)
class ValueRange:
    """The lowest and the highest value in some images with more than 8 bits."""

    low: float
    high: float
    images: int = 1

    def plus(self, other: "ValueRange | None") -> "ValueRange":
        """The range of both."""
        if other is None:
            return self
        return ValueRange(min(self.low, other.low), max(self.high, other.high), self.images + other.images)

    def about(self, depth: Depth | None) -> str:
        """What is there, and how it is read."""
        count = "1 image has" if self.images == 1 else f"{self.images} images have"
        seen = f"{count} more than 8 bits, with values from {self.low:.10g} to {self.high:.10g}"
        keeps = f"preprocessing.depth={likely_window(self.low, self.high)} or percentile keeps their range"
        if depth is None:
            return f"{seen}: only the upper 8 bits of 16 are read; {keeps}"
        if depth == "percentile":
            return f"{seen}: read by preprocessing.depth=percentile"
        read = f"{seen}: read by preprocessing.depth=[{depth[0]:.10g}, {depth[1]:.10g}]"
        beyond = self.low < depth[0] or self.high > depth[1]
        return f"{read}, and values beyond become black or white" if beyond else read

    def loses(self, depth: Depth | None) -> bool:
        """Whether some values are not told apart because of the rule."""
        return depth is None or (depth != "percentile" and (self.low < depth[0] or self.high > depth[1]))


def measure(data: bytes) -> ValueRange | None:
    """The range of an image file; None for 8 bits, and for what cannot be decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "TIFF")) as header:
            bits = bits_of(header, data)
        values = decode_values(data, bits) if bits > 8 else None
    except Exception:  # a damaged header makes PIL's parsers raise nearly anything
        return None
    if values is None or values.dtype == np.uint8:
        return None
    values = values[np.isfinite(values)]
    return ValueRange(float(values.min()), float(values.max())) if values.size else None
