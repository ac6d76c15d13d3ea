"""Messages at the start of a run: counts, durations, and an estimate of the remaining time."""

import logging
import time

from ssd.errors import counted

log = logging.getLogger(__name__)

_STEPS = 10  # least number of timed steps, after the first one, which is slower
_SECONDS = 5.0  # least duration of the timed steps


class Pace:
    """Times the first steps of this process and estimates the duration of the others."""

    def __init__(self, steps_left: int) -> None:
        self._left = steps_left
        self._done = 0
        self._began: float | None = None
        self._told = False

    def step(self) -> None:
        """Count one step."""
        self._done += 1
        if self._began is None:
            self._began = time.monotonic()  # after the first step
            return
        seconds, timed = time.monotonic() - self._began, self._done - 1
        if not self._told and timed >= _STEPS and seconds >= _SECONDS:
            self._told = True
            left = (self._left - self._done) * seconds / timed
            log.info("about %s of training to go, and evaluations", spoken(left))


def spoken(seconds: float) -> str:
    """A duration with two digits: 40 seconds, 12 minutes, 3.5 hours."""
    if seconds < 90:
        return counted(max(1, round(seconds)), "second")
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} minutes"
    hours = seconds / 3600
    return f"{hours:.1f} hours" if hours < 36 else f"{hours / 24:.1f} days"
