import time

import cv2
import pytest
import torch

from ssd.benchmark import timing
from ssd.benchmark.timing import Timing, clock, time_in_turns

CPU = torch.device("cpu")


def test_the_sides_take_turns_and_who_begins_alternates(monkeypatch):
    monkeypatch.setattr(timing, "_LEAST_SECONDS", 0)
    calls = []
    took = time_in_turns(clock(lambda: calls.append("o"), CPU), clock(lambda: calls.append("t"), CPU), 3)
    warm_up = "oott"
    assert "".join(calls) == warm_up + "ot" + "to" + "ot"
    assert len(took.ours) == len(took.theirs) == 3


def test_short_calls_are_repeated_and_the_time_is_of_one(monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks) / 1000)  # every look at it costs 1 ms
    calls = []
    took = time_in_turns(clock(lambda: calls.append(0), CPU), clock(lambda: None, CPU), 2)
    assert len(calls) == 2 + 2 * 50
    assert took.ours == pytest.approx((1 / 50, 1 / 50))


@pytest.mark.gpu
def test_on_cuda_the_time_is_that_of_the_kernels_and_not_of_their_launch():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda")
    matrix = torch.randn(4096, 4096, device=device)

    def work():
        for _ in range(20):
            matrix @ matrix

    timed = clock(work, device)
    timed(1)  # warm
    torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    launched = time.perf_counter() - begin
    torch.cuda.synchronize()
    finished = time.perf_counter() - begin
    assert launched < 0.5 * finished
    assert timed(1) == pytest.approx(finished, rel=0.3)


def test_one_core_means_one_thread_while_it_lasts():
    torch.set_num_threads(2)
    before = cv2.getNumThreads()
    seen = []
    clock(lambda: seen.append((torch.get_num_threads(), cv2.getNumThreads())), CPU, one_core=True)(1)
    assert set(seen) == {(1, 1)}
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, before)


def test_the_ratio_is_the_median_of_the_pairs():
    # The second pair was disturbed, both sides alike; the ratio of the medians would be 30 / 10.
    timing = Timing(ours=(10.0, 100.0, 10.0), theirs=(20.0, 200.0, 30.0))
    assert timing.medians() == (10, 30, 2)
