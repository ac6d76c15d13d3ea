"""Which of several networks is chosen for a time. Times are given, not measured."""

from collections.abc import Sequence

import pytest

from ssd.benchmark.largest_in_time import Entrant, Timed, choose, table
from ssd.errors import ArgumentError
from tests.benchmark.given_times import IMAGES, GivenClock, GivenTimes


class Race:
    """Entrants a, b, c with the given milliseconds of their calls; what was timed and opened."""

    def __init__(self, *times: float | Sequence[float]) -> None:
        self.clock = GivenClock()
        self.opened: list[GivenTimes] = []
        self.done: list[Timed] = []
        self.entrants = [
            Entrant(name, 96, 10**9, lambda given=given: self._open(given))
            for name, given in zip("abcdefgh", times, strict=False)
        ]

    def _open(self, given: float | Sequence[float]) -> GivenTimes:
        self.opened.append(GivenTimes(self.clock, [given] if isinstance(given, float) else given))
        return self.opened[-1]

    def choose(self, limit: float, load: str | None = None) -> tuple[Timed, ...]:
        return choose(self.entrants, IMAGES, limit, self.done.append, load=load, clock=self.clock)


@pytest.mark.parametrize(
    ("limit", "names"),
    [
        (1000.0, "a"),  # everything fits
        (250.0, "a"),  # exactly
        (249.0, "ab"),
        (62.5, "abc"),
        (62.0, "abcd"),
        (31.25, "abcd"),  # only the last
    ],
)
def test_the_largest_that_fits_is_chosen_and_nothing_after_it_is_opened(limit: float, names: str) -> None:
    times = [250.0, 125.0, 62.5, 31.25]  # binary fractions of a second, which a clock adds up exactly
    race = Race(*times)
    rows = race.choose(limit)
    assert "".join(row.name for row in rows) == names
    assert [row.p95 for row in rows] == times[: len(names)]
    assert len(race.opened) == len(names)
    assert "yes" in table(rows, limit).splitlines()[-1]


def test_of_two_that_take_as_long_the_first_is_chosen() -> None:
    assert [row.name for row in Race(90.0, 40.0, 40.0).choose(40.1)] == ["a", "b"]


def test_a_slow_network_gets_a_few_calls_and_no_round() -> None:
    race = Race(900.0, 40.0)
    slow, fits = race.choose(50.0)
    assert race.opened[0].calls == 8
    assert slow.rounds == ()
    assert fits.rounds == pytest.approx([40.0] * 5)


def test_one_that_is_mostly_within_the_time_is_timed_in_turns_with_the_next() -> None:
    """The first calls of `a` are disturbed, its rounds are not; `b` is too slow once in ten calls."""
    race = Race([*[50.0] * 3, 50.0, *[200.0] * 4, *[50.0] * 2000], [*[30.0] * 9, 70.0], 20.0)
    rows = race.choose(60.0)
    assert [row.name for row in rows] == ["a"]
    assert rows[0].p95 == pytest.approx(50)
    rows = Race([*[30.0] * 5, 70.0], [*[30.0] * 5, 70.0], 20.0).choose(60.0)
    assert [(row.name, round(row.p95)) for row in rows] == [("a", 70), ("b", 70), ("c", 20)]


def test_no_more_than_three_are_timed_in_turns() -> None:
    sometimes = [*[30.0] * 5, 70.0]
    race = Race(*[sometimes] * 4, 20.0)
    assert [row.name for row in race.choose(60.0)] == list("abcde")
    first = [row.name for row in race.done[:3]]
    assert first == ["a", "b", "c"]


def test_rows_stand_in_the_order_listed_though_a_smaller_one_was_given_up_earlier() -> None:
    race = Race([*[30.0] * 5, 70.0], 500.0, 20.0)
    rows = race.choose(60.0)
    assert [row.name for row in race.done] == ["b", "a", "c"]
    assert [row.name for row in rows] == ["a", "b", "c"]


def test_where_all_first_calls_are_too_slow_the_fastest_is_timed_in_rounds_and_may_be_chosen() -> None:
    """The first eight calls of `b` are disturbed; `c` is slow."""
    race = Race(300.0, [*[90.0] * 8, *[30.0] * 2000], 200.0)
    rows = race.choose(50.0)
    assert [row.name for row in rows] == ["a", "b"]
    assert rows[-1].p95 == pytest.approx(30)


@pytest.mark.parametrize(
    ("times", "fastest"),
    [((30.0, 20.0, 25.0), "b"), (([4.0, 4.0, 4.0, 20.0], [4.0, *[30.0] * 3]), "a")],
)
def test_a_time_that_nothing_fits_names_the_fastest_and_a_limit_that_it_keeps(times, fastest: str) -> None:
    with pytest.raises(ArgumentError) as error:
        Race(*times).choose(5.0)
    assert str(error.value) == (
        f"--ms: 5 ms: no network is that fast here; the fastest is {fastest} at 96 pixels in fp32, with 20.0 ms. "
        "Use 24 or more."
    )
    assert Race(*times).choose(24.0)[-1].p95 == pytest.approx(20)


def test_the_error_on_a_busy_machine_says_to_stop_the_other_programs_first() -> None:
    with pytest.raises(ArgumentError) as error:
        Race(1156.0).choose(60.0, load="load 9.5 on 2 cores in the last minute")
    assert str(error.value) == (
        "--ms: 60 ms: no network is that fast here; the fastest is a at 96 pixels in fp32, with 1156.0 ms beside other "
        "programs (load 9.5 on 2 cores in the last minute). Stop them and repeat the command; if they are to go on, "
        "use 1400 or more."
    )
