"""SSD: the Single Shot MultiBox Detector. `ssd.detect(image)`, `ssd.load(weights).detect(image)`.

Names are loaded when they are first used, so that `import ssd` and `ssd --help` cost nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssd.api.check_data import DataCheck, check_data
    from ssd.api.compare import ComparisonResult, compare
    from ssd.api.evaluate import EvaluationResult, evaluate
    from ssd.api.export import ExportResult, export
    from ssd.api.review import ReviewResult, review
    from ssd.api.shrink import ShrinkResult, shrink
    from ssd.api.train import TrainResult, train
    from ssd.api.why import WhyResult, why
    from ssd.inference.detections import Detections
    from ssd.inference.detector import Detector
    from ssd.inference.load import detect, detect_batch, detect_stream, load
    from ssd.system.version import __version__


__all__ = [
    "ComparisonResult",
    "DataCheck",
    "Detections",
    "Detector",
    "EvaluationResult",
    "ExportResult",
    "ReviewResult",
    "ShrinkResult",
    "TrainResult",
    "WhyResult",
    "__version__",
    "check_data",
    "compare",
    "detect",
    "detect_batch",
    "detect_stream",
    "evaluate",
    "export",
    "load",
    "review",
    "shrink",
    "train",
    "why",
]

_HOMES = {
    "__version__": "ssd.system.version",
    "Detections": "ssd.inference.detections",
    "Detector": "ssd.inference.detector",
    "ComparisonResult": "ssd.api.compare",
    "DataCheck": "ssd.api.check_data",
    "EvaluationResult": "ssd.api.evaluate",
    "check_data": "ssd.api.check_data",
    "compare": "ssd.api.compare",
    "ExportResult": "ssd.api.export",
    "detect": "ssd.inference.load",
    "detect_batch": "ssd.inference.load",
    "detect_stream": "ssd.inference.load",
    "evaluate": "ssd.api.evaluate",
    "export": "ssd.api.export",
    "load": "ssd.inference.load",
    "ReviewResult": "ssd.api.review",
    "review": "ssd.api.review",
    "ShrinkResult": "ssd.api.shrink",
    "shrink": "ssd.api.shrink",
    "TrainResult": "ssd.api.train",
    "train": "ssd.api.train",
    "WhyResult": "ssd.api.why",
    "why": "ssd.api.why",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ssd' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
