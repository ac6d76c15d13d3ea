import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ssd.system.threads import compute_with, image_threads, map_ahead, map_at_once, single_threads


def test_results_come_in_the_order_of_the_items():
    assert list(map_ahead(lambda n: n * n, range(20), threads=3)) == [n * n for n in range(20)]
    assert list(map_ahead(str, [])) == []


@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_items_as_threads_are_taken_ahead(threads):
    taken = []

    def items():
        for number in range(6):
            taken.append((number, threading.current_thread() is threading.main_thread()))
            yield number

    results = map_ahead(str, items(), threads=threads)
    assert taken == []
    assert next(results) == "0"
    assert taken == [(number, True) for number in range(1 + threads)]
    results.close()
    assert len(taken) == 1 + threads


def test_an_error_comes_in_its_turn():
    results = map_ahead(lambda n: 1 // n, [1, 1, 0, 1])
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_error_of_the_iterable_comes_after_the_results_before_it():
    def items():
        yield from "ab"
        raise OSError("the camera is gone")

    results = map_ahead(str.upper, items(), threads=4)
    assert [next(results), next(results)] == ["A", "B"]
    with pytest.raises(OSError, match="camera"):
        next(results)


def test_no_thread_is_left_when_the_results_are_not_wanted_any_more():
    results = map_ahead(str, range(100), threads=2)
    next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ssd-ahead")]


def test_the_threads_for_images_are_started_once():
    assert image_threads() is image_threads()


def test_single_threads_compute_with_one_thread_each(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        pool = single_threads(2)
        both = threading.Barrier(2)  # a thread that starts late would set the number of the next test's threads
        assert list(pool.map(lambda _: (both.wait(30), torch.get_num_threads())[1], range(4))) == [1, 1, 1, 1]
        assert torch.get_num_threads() == 3
        assert single_threads(2) is pool
        monkeypatch.setattr("os.getpid", lambda: 1)  # as after a fork, where no thread of the parent goes on
        assert single_threads(2) is not pool
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def four_compute_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def compute_threads(_: object = None) -> int:
    return torch.get_num_threads()


def test_threads_at_once_divide_the_compute_threads_and_leave_those_of_others(four_compute_threads):
    assert list(map_at_once(compute_threads, range(6), threads=2)) == [2] * 6
    assert list(map_at_once(compute_threads, range(6), threads=3)) == [1] * 6
    assert list(map_at_once(compute_threads, range(9), threads=8)) == [1] * 9
    assert compute_threads() == 4
    assert list(map_ahead(compute_threads, range(2))) == [4, 4]  # a thread started later


def test_the_number_of_compute_threads_is_of_the_calling_thread(four_compute_threads):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(compute_with, 1).result()
        assert pool.submit(compute_threads).result() == 1
        compute_with(3)
        assert pool.submit(compute_threads).result() == 1
    assert compute_threads() == 3
