"""A run whose loader or evaluation is slow says so once, with a remedy that works."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ssd.experiment import config_file
from ssd.training import bounds
from ssd.training.bounds import Advice, LoaderWait


class Clock:
    """A clock that the test advances."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(bounds.time, "monotonic", lambda: self.now)

    def slow(self, seconds: list[float]) -> Iterator[int]:
        """Batches that take so long to come."""
        for number, wait in enumerate(seconds):
            self.now += wait
            yield number


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_the_share_of_waiting_leaves_out_the_first_batch(clock: Clock) -> None:
    wait = LoaderWait(torch.device("cpu"))
    seen = []
    for batch in wait.batches(clock.slow([100.0, 3.0, 3.0])):
        clock.now += 3.0  # the step
        seen.append(batch)
    assert seen == [0, 1, 2]
    assert wait.share() == pytest.approx(6 / 15)


def test_an_epoch_of_seconds_is_not_judged(clock: Clock) -> None:
    wait = LoaderWait(torch.device("cpu"))
    for _ in wait.batches(clock.slow([1.0, 3.0, 3.0])):
        clock.now += 1.0
    assert wait.share() == 0
    assert list(LoaderWait(torch.device("cpu")).batches([])) == []


def test_on_cuda_the_clock_of_the_device_counts(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host waits 3 s for each batch, during which the device computes for 2 s."""

    class Event:
        def __init__(self, **_: bool) -> None:
            self.at = 0.0

        def record(self) -> None:
            self.at = max(clock.now, device["free"])

        def elapsed_time(self, other: Any) -> float:
            return 1000 * float(other.at - self.at)

    device = {"free": 0.0}
    monkeypatch.setattr("torch.cuda.Event", Event)
    wait = LoaderWait(torch.device("cuda"))
    for _ in wait.batches(clock.slow([0.0, 3.0, 3.0, 3.0, 3.0])):
        device["free"] = clock.now + 2.0
    assert wait.share() == pytest.approx(4 * 1.0 / 12)


def test_a_slow_loader_is_said_once_with_the_workers_that_fit(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "choose_workers", lambda *_: 14)
    advice = Advice()
    with caplog.at_level(logging.WARNING):
        advice.about_loader(0.2, workers=2)
        assert caplog.messages == []
        for _ in range(2):
            advice.about_loader(0.63, workers=2)
        assert caplog.messages == ["63% of the epoch was waiting for images: data.workers=14 uses more cores"]
        Advice().about_loader(0.63, workers=14)
    assert "all cores are in use" in caplog.messages[1]
    assert config_file.load(None, ["data.workers=14"]).data.workers == 14


def test_an_evaluation_longer_than_the_training_is_said_once_with_what_to_set(caplog: pytest.LogCaptureFixture) -> None:
    advice = Advice()
    with caplog.at_level(logging.WARNING):
        advice.about_evaluation(9.0, 3.0, every=2, epochs=100)  # too short to matter
        advice.about_evaluation(40.0, 41.0, every=2, epochs=100)
        advice.about_evaluation(40.0, 3.0, every=5, epochs=5)  # once in the run already
        assert caplog.messages == []
        for _ in range(2):
            advice.about_evaluation(40.0, 12.0, every=2, epochs=100)
    (message,) = caplog.messages
    assert message.endswith("training between two evaluations takes 12 s: train.eval_every=7 evaluates less often")
    assert config_file.load(None, ["train.eval_every=7"]).train.eval_every == 7
