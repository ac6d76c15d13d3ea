import threading

import pytest

from ssd.system.threads import image_threads, map_ahead


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
