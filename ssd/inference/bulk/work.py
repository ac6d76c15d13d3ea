"""What is done with every source of a bulk detection."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ssd.inference.bulk.results import Results
from ssd.inference.bulk.sources import Source
from ssd.inference.detections import Detections
from ssd.inference.detector import Detector

Show = Callable[[Source, Detections], None]


@dataclass(frozen=True)
class Work:
    """The detector with its options, where results go, and what is shown."""

    detector: Detector
    results: Results
    batch_size: int
    options: dict[str, Any]  # of `Detector.detect_stream`
    show: Show | None = None
    progress: bool = False

    def shown(self, source: Source, found: Detections) -> None:
        """Show what was found, where that is asked for."""
        if self.show is not None:
            self.show(source, found)
