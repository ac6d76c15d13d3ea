"""A decorator of the public functions: unknown keyword arguments and arguments that are no paths are named."""

import difflib
import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar, get_args

from ssd.errors import ArgumentError, UnknownOptionError

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
    """Raise `UnknownOptionError` for unknown keywords, `ArgumentError` for what is no path; the signature stays."""
    parameters = inspect.signature(function).parameters
    known = [name for name in parameters if name != "self"]
    kinds = {name: get_args(parameter.annotation) for name, parameter in parameters.items()}
    paths = {name: kind for name, kind in kinds.items() if Path in kind and all(isinstance(one, type) for one in kind)}

    @functools.wraps(function)
    def checked(*args: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        for name in options:
            if name not in known:
                raise UnknownOptionError(f"no option {name!r}", place=function.__name__, remedy=_remedy(name, known))
        for name, value in (*zip(parameters, args, strict=False), *options.items()) if paths else ():
            if name in paths:
                _check_path(name, value, paths[name])
        return function(*args, **options)

    return checked


def _check_path(name: str, value: object, kinds: tuple[type, ...]) -> None:
    """Raise `ArgumentError` unless it can be a path, or is of another of the kinds."""
    if isinstance(value, str | os.PathLike):
        try:
            possible = str(value).strip() and "\0" not in os.fsdecode(os.fsencode(value))
        except UnicodeEncodeError:
            possible = False
    else:
        possible = isinstance(value, kinds)
    if not possible:
        others = [kind.__name__ for kind in kinds if kind not in (str, Path, type(None))]
        remedy = f"Use text or a Path{''.join(f', or a {other}' for other in others)}."
        raise ArgumentError(f"{value!r:.80} is no path", place=name, remedy=remedy)


def _remedy(name: str, known: list[str]) -> str:
    other = _OTHER_NAMES.get(name.lower())
    close = [other] if other in known else difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]}?" if close else f"There are: {', '.join(known)}."
