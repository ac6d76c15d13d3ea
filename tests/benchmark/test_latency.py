"""The time of a detector in rounds. Times are given, not measured."""

import pytest

from ssd.benchmark import latency
from ssd.benchmark.latency import LEAST, ROUNDS, first_calls, p95, rounds_in_turns
from tests.benchmark.given_times import IMAGES, GivenClock, GivenTimes


def test_a_round_gives_the_95th_percentile_of_its_calls() -> None:
    clock = GivenClock()
    one_in_ten = GivenTimes(clock, [*[40.0] * 9, 90.0])
    (rounds,) = rounds_in_turns([one_in_ten], IMAGES, clock=clock)
    assert rounds == pytest.approx([90.0] * ROUNDS)
    assert one_in_ten.calls == ROUNDS * (1 + LEAST)  # the first call of a round is not timed


def test_a_fast_detector_is_called_more_often() -> None:
    clock = GivenClock()
    fast = GivenTimes(clock, [1.0])
    (rounds,) = rounds_in_turns([fast], IMAGES, clock=clock)
    assert rounds == pytest.approx([1.0] * ROUNDS)
    assert fast.calls >= ROUNDS * 800


@pytest.mark.parametrize(("disturbed", "told"), [(2, 50.0), (3, 400.0)])
def test_two_disturbed_rounds_of_five_leave_the_figure_as_it_is(disturbed: int, told: float) -> None:
    clock, calls = GivenClock(), 1 + LEAST
    detector = GivenTimes(clock, [*[400.0] * disturbed * calls, *[50.0] * (ROUNDS - disturbed) * calls])
    (rounds,) = rounds_in_turns([detector], IMAGES, clock=clock)
    assert p95(rounds) == pytest.approx(told)


def test_detectors_take_their_rounds_in_turns_so_that_a_disturbance_hits_few_rounds_of_each() -> None:
    clock = GivenClock()

    class Disturbed(GivenTimes):
        def detect(self, image: object) -> None:
            super().detect(image)
            if 0.5 < self.clock.now < 20.0:  # seconds in which calls take ten times as long
                self.clock.now += 0.36

    rounds = rounds_in_turns([Disturbed(clock, [40.0]), Disturbed(clock, [40.0])], IMAGES, clock=clock)
    assert [max(own) for own in rounds] == pytest.approx([400.0, 400.0])
    assert [p95(own) for own in rounds] == pytest.approx([40.0, 40.0])


def test_the_first_calls_are_timed_after_others_that_warm_up() -> None:
    clock = GivenClock()
    warm = GivenTimes(clock, [1000.0, 1000.0, 1000.0, 7.0, 8.0, 9.0, 10.0, 11.0])
    assert first_calls(warm, IMAGES[:1], clock=clock) == pytest.approx([7.0, 8.0, 9.0, 10.0, 11.0])


@pytest.mark.parametrize(("load", "cores", "said"), [(0.9, 1, False), (1.2, 2, True), (1.2, 8, False), (4.0, 8, True)])
def test_other_work_on_the_machine_is_said(
    monkeypatch: pytest.MonkeyPatch, load: float, cores: int, said: bool
) -> None:
    monkeypatch.setattr(latency.os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.setattr(latency.os, "cpu_count", lambda: cores)
    assert latency.busy() == (f"load {load} on {cores} cores in the last minute" if said else None)
