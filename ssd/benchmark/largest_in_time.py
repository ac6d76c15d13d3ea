"""The largest of several networks that detects within a time on this machine."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ssd.benchmark.latency import Clock, Detects, Image, first_calls, p95, rounds_in_turns
from ssd.errors import ArgumentError
from ssd.report.blocks import MISSING
from ssd.report.text_table import aligned

_IN_TURNS = 3  # networks at most whose rounds are taken in turns
_ROOM = 1.2  # between the fastest network's time and the limit that the error names


@dataclass(frozen=True)
class Entrant:
    """A network that may be chosen, and how to make its detector."""

    name: str
    input_size: int
    multiply_adds: int  # for one image
    open: Callable[[], Detects]


@dataclass(frozen=True)
class Timed:
    """A network and its 95th percentile in milliseconds."""

    name: str
    input_size: int
    precision: str
    multiply_adds: int
    p95: float  # the median of the rounds; of the first calls, where even the fastest was above the limit
    rounds: tuple[float, ...] = ()  # the 95th percentile of each


@dataclass(frozen=True)
class _Opened:
    place: int
    detector: Detects
    calls: Sequence[float]  # milliseconds of the first ones
    timed: Timed  # by these


def choose(
    entrants: Sequence[Entrant],
    images: Sequence[Image],
    limit: float,
    done: Callable[[Timed], None],
    *,
    load: str | None = None,
    clock: Clock = time.perf_counter,
) -> tuple[Timed, ...]:
    """The entrants, timed, up to the first whose 95th percentile is within `limit` milliseconds; the largest are first.

    An entrant is passed over where the fastest of its first calls is above the limit. The others are timed in rounds
    (`ssd.benchmark.latency`): up to three in turns, of which the last is the first whose first calls are all within the
    limit. Where all are passed over, the fastest is timed in rounds. `done` gets each that was timed, as it is; `load`
    is named in the error.

    Raises:
        ArgumentError: none is within the limit; names the fastest, and a limit that it keeps.
    """
    rows: dict[int, Timed] = {}

    def add(place: int, timed: Timed) -> None:
        rows[place] = timed
        done(timed)

    for group in _groups(entrants, images, limit, clock, lambda one: add(one.place, one.timed)):
        for one, timed in zip(group, _in_turns(group, images, clock), strict=True):
            add(one.place, timed)
            if timed.p95 <= limit:
                return tuple(rows[number] for number in range(one.place + 1))
    raise _too_little(limit, min((row for row in rows.values() if row.rounds), key=lambda row: row.p95), load)


def _groups(
    entrants: Sequence[Entrant],
    images: Sequence[Image],
    limit: float,
    clock: Clock,
    pass_over: Callable[[_Opened], None],
) -> Iterator[list[_Opened]]:
    """The entrants to time in turns, opened one after the other; those that are passed over go to `pass_over`."""
    group: list[_Opened] = []
    fastest: _Opened | None = None  # of those that are passed over
    none_yet = True
    for place, entrant in enumerate(entrants):
        opened = _opened(place, entrant, images, clock)
        if min(opened.calls) > limit:
            pass_over(opened)
            fastest = min(fastest or opened, opened, key=lambda one: min(one.calls))  # the others are closed
            continue
        group.append(opened)
        if max(opened.calls) <= limit or len(group) == _IN_TURNS:
            yield group
            group, none_yet = [], False
    if group:
        yield group
    elif fastest is not None and none_yet:
        yield [fastest]


def _opened(place: int, entrant: Entrant, images: Sequence[Image], clock: Clock) -> _Opened:
    detector = entrant.open()
    calls = first_calls(detector, images, clock=clock)
    figure = float(np.percentile(calls, 95))
    timed = Timed(entrant.name, entrant.input_size, detector.precision, entrant.multiply_adds, figure)
    return _Opened(place, detector, calls, timed)


def _in_turns(opened: Sequence[_Opened], images: Sequence[Image], clock: Clock) -> list[Timed]:
    found = rounds_in_turns([one.detector for one in opened], images, clock=clock)
    return [
        dataclasses.replace(one.timed, p95=p95(rounds), rounds=rounds)
        for one, rounds in zip(opened, found, strict=True)
    ]


def _too_little(limit: float, fastest: Timed, load: str | None) -> ArgumentError:
    what = f"{fastest.name} at {fastest.input_size} pixels in {fastest.precision}, with {fastest.p95:.1f} ms"
    enough = f"{_rounded_up(_ROOM * fastest.p95):g} or more"
    if load is None:
        remedy = f"Use {enough}."
    else:
        what += f" beside other programs ({load})"
        remedy = f"Stop them and repeat the command; if they are to go on, use {enough}."
    problem = f"{limit:g} ms: no network is that fast here; the fastest is {what}"
    return ArgumentError(problem, place="--ms", remedy=remedy)


def _rounded_up(number: float) -> float:
    """The next number of two digits, such as 1400 for 1387."""
    step = 10.0 ** (math.floor(math.log10(number)) - 1)
    return math.ceil(round(number / step, 6)) * step


def table(rows: Sequence[Timed], limit: float) -> str:
    """The timed networks as a table."""
    head = ["network", "input", "precision", "multiply-adds", "p95", "rounds", f"within {limit:g} ms"]
    cells = [
        [
            one.name,
            str(one.input_size),
            one.precision,
            f"{one.multiply_adds / 1e9:.2f} billion",
            f"{one.p95:.1f} ms",
            f"{min(one.rounds):.1f} to {max(one.rounds):.1f}" if one.rounds else MISSING,
            "yes" if one.p95 <= limit else "no",
        ]
        for one in rows
    ]
    return aligned([head, *cells])
