"""SSD: the Single Shot MultiBox Detector. `ssd.detect(image)`, `ssd.load(weights).detect(image)`.

Names are loaded when they are first used, so that `import ssd` and `ssd --help` cost nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssd.api.evaluate import EvaluationResult, evaluate
    from ssd.inference.detections import Detections
    from ssd.inference.detector import Detector, detect, load
    from ssd.system.version import __version__


__all__ = ["Detections", "Detector", "EvaluationResult", "__version__", "detect", "evaluate", "load"]

_HOMES = {
    "__version__": "ssd.system.version",
    "Detections": "ssd.inference.detections",
    "Detector": "ssd.inference.detector",
    "EvaluationResult": "ssd.api.evaluate",
    "detect": "ssd.inference.detector",
    "evaluate": "ssd.api.evaluate",
    "load": "ssd.inference.detector",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ssd' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
