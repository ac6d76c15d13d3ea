"""A window that shows detections as they are made."""

import subprocess
import sys
from collections.abc import Callable

import cv2

from ssd.errors import ArgumentError
from ssd.images.drawing import shrink
from ssd.inference.bulk.sources import Source
from ssd.inference.detections import Detections

_TITLE = "ssd detect"
_LARGEST = 1200  # pixels of the longer side
_END = {ord("q"), 27}


def open_window() -> Callable[[Source, Detections], None]:
    """A function that shows one source's detections: an image until a key is pressed, a frame until the next.

    q, Esc or closing the window ends the detection like Ctrl-C.

    Raises:
        ArgumentError: there is no display, or this OpenCV has no windows.
    """
    # Tried in another process: without a display Qt does not raise, it aborts.
    trial = subprocess.run(
        [sys.executable, "-c", f"import cv2; cv2.namedWindow({_TITLE!r})"], capture_output=True, check=False
    )
    if trial.returncode != 0:
        raise ArgumentError(
            "no window can be opened here", place="--show", remedy="Leave it out: what is drawn is in the folder, too."
        )
    return _show


def _show(source: Source, found: Detections) -> None:
    cv2.imshow(_TITLE, cv2.cvtColor(shrink(found.plot(), _LARGEST), cv2.COLOR_RGB2BGR))
    key = cv2.waitKey(0 if source.kind == "image" else 1) & 0xFF
    if key in _END or cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1:
        raise KeyboardInterrupt
