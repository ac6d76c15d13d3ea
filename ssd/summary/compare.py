"""Networks side by side: counts, published figures, accuracy of trained ones, latency."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.errors import at_least
from ssd.summary import tables
from ssd.summary.layers import Survey
from ssd.summary.networks import Network, find, latencies
from ssd.summary.plot import draw
from ssd.system.files import refuse_existing


@dataclass(frozen=True)
class Comparison:
    """Networks, their layers, and milliseconds per image (None: not timed)."""

    networks: tuple[Network, ...]
    surveys: tuple[Survey, ...]
    latencies: tuple[float | None, ...]

    def to_text(self) -> str:
        """A table with one line per network."""
        return tables.comparison(self.networks, self.surveys, self.latencies)

    def to_dict(self) -> list[dict[str, Any]]:
        """The table in plain JSON types."""
        rows = zip(self.networks, self.surveys, self.latencies, strict=True)
        return [tables.to_json(network, survey) | {"latency_ms": ms} for network, survey, ms in rows]

    def plot(self, path: str | Path, *, force: bool = False) -> None:
        """Draw accuracy against latency of the trained networks; `force` replaces a file that is there.

        Raises:
            MissingExtraError: matplotlib is not installed.
            ArgumentError: no network has both figures, or the file is neither .svg nor .png, or is there already.
        """
        refuse_existing(path, force=force)
        draw(self.networks, self.latencies, path)


def compare(
    names: Sequence[str],
    *,
    size: int | None = None,
    classes: int | None = None,
    channels: int | None = None,
    repeat: int = 5,
) -> Comparison:
    """Survey the networks of these names, and time `repeat` forward passes of each, in turn; 0: no timing.

    Raises:
        SSDError: no such network or weights, or an unsupported size or number of channels.
    """
    at_least(0, repeat=repeat)
    networks = tuple(find(name, size=size, classes=classes, channels=channels) for name in names)
    surveys = tuple(network.survey() for network in networks)
    return Comparison(networks, surveys, tuple(latencies(networks, repeat)))
