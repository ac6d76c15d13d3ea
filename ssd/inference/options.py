"""A decorator: the error for an unknown keyword argument names the nearest known one."""

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ssd.errors import UnknownOptionError

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

# Names of the same options in other packages.
_OTHER_NAMES = {
    "threshold": "score_threshold",
    "thresh": "score_threshold",
    "score": "score_threshold",
    "min_score": "score_threshold",
    "conf": "score_threshold",
    "conf_thres": "score_threshold",
    "confidence": "score_threshold",
    "confidence_threshold": "score_threshold",
    "iou": "iou_threshold",
    "nms": "iou_threshold",
    "overlap": "iou_threshold",
    "limit": "max_detections",
    "max_det": "max_detections",
    "batch": "batch_size",
    "classes": "class_names",
    "names": "class_names",
    "half": "precision",
    "dtype": "precision",
    "engine": "backend",
    "runtime": "backend",
    "format": "path_or_format",
    "out": "path_or_format",
    "model": "weights",
    "checkpoint": "weights",
    "bs": "batch_size",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
}


def named_options(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Raise `UnknownOptionError` for unknown keywords of a function; its signature stays."""
    known = [name for name in inspect.signature(function).parameters if name != "self"]

    @functools.wraps(function)
    def checked(*args: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        for name in options:
            if name not in known:
                raise UnknownOptionError(f"no option {name!r}", place=function.__name__, remedy=_remedy(name, known))
        return function(*args, **options)

    return checked


def _remedy(name: str, known: list[str]) -> str:
    other = _OTHER_NAMES.get(name.lower())
    close = [other] if other in known else difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]}?" if close else f"There are: {', '.join(known)}."
