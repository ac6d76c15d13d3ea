"""Which network is chosen for a time budget. Times are given, not measured."""

import functools
from typing import Any

import numpy as np
import pytest

from ssd.benchmark import latency
from ssd.benchmark.latency import p95
from ssd.benchmark.smaller_networks import Candidate, Timed, candidates, choose, described, table, timed
from ssd.errors import ArgumentError, ConfigError
from ssd.experiment import config_file as configs
from ssd.experiment.starting_settings import build_settings
from ssd.settings import Preprocessing

NARROW = ("model.backbone=vgg11_bn", "model.width=0.25", "model.backbone_weights=none", "model.extras_norm=batch")


@functools.cache
def listed(*words: str, fixed: tuple[str, ...] = (), **options: Any) -> list[Candidate]:
    """The candidates for a detector trained by `words`, with overrides of its config."""
    settings = build_settings(configs.load(None, words), ("cat", "dog"), Preprocessing())
    keys = [word.partition("=")[0] for word in fixed]
    return candidates(configs.load(None, [*words, *fixed]), settings, "own.safetensors", keys, **options)


def names(found: list[Candidate]) -> list[tuple[str, int]]:
    return [(described(one.settings.network), one.settings.network.input_size) for one in found]


def test_candidates_are_the_own_network_at_smaller_sizes_narrower_and_small_ones_by_multiply_adds() -> None:
    found = listed(*NARROW, "model.input_size=96")
    counts = [one.multiply_adds for one in found]
    assert counts == sorted(counts, reverse=True)
    assert names(found)[:4] == [
        ("vgg11_bn, width 0.25", 96),
        ("vgg11_bn, width 0.1875", 96),
        ("vgg11_bn, width 0.25", 64),
        ("vgg11_bn, width 0.125", 96),
    ]
    starts = {one.config.model.weights for one in found if one.settings.network.width == 0.25}
    assert starts == {"own.safetensors"}
    assert {one.config.model.weights for one in found if one.settings.network.width != 0.25} == {None}


def test_mobilenet_is_a_candidate_where_the_detector_started_from_trained_weights() -> None:
    small = ("mobilenet_v3_large, lite", 64)
    assert names(listed("model.backbone=vgg11", "model.input_size=64"))[-1] == small
    assert small not in names(listed(*NARROW, "model.input_size=96"))


def test_at_the_own_size_default_boxes_are_the_detectors_own() -> None:
    words = (*NARROW, "model.input_size=96", "model.min_sizes=[0.1,0.2,0.4,0.8]")
    own = build_settings(configs.load(None, words), ("cat", "dog"), Preprocessing())
    for one in listed(*words):
        if one.settings.network.input_size == 96 and one.settings.network.backbone == "vgg11_bn":
            assert one.settings.boxes == own.boxes


def test_keys_that_are_given_limit_the_choice() -> None:
    own = listed(*NARROW, "model.input_size=96", fixed=("model.backbone=vgg11_bn",))
    assert names(own) == [("vgg11_bn, width 0.25", 96), ("vgg11_bn, width 0.25", 64)]
    assert {size for _, size in names(listed(*NARROW, fixed=("model.input_size=96",)))} == {96}
    one = listed(*NARROW, fixed=("model.backbone=resnet18", "model.width=1", "model.input_size=128"))
    assert names(one) == [("resnet18", 128)]
    with pytest.raises(ConfigError, match="comes in its own width alone"):
        listed(*NARROW, fixed=("model.backbone=resnet18", "model.input_size=128"))


def test_each_network_comes_in_8_bits_after_itself() -> None:
    found = listed(*NARROW, fixed=("model.input_size=96",), eight_bits=True)
    assert [one.precision for one in found[:4]] == ["auto", "int8", "auto", "int8"]
    assert found[0].settings == found[1].settings


@pytest.mark.parametrize(("limit", "place"), [(1000.0, 0), (100.0, 3), (99.9, 4)])
def test_the_largest_that_fits_is_chosen_and_nothing_after_it_is_timed(limit: float, place: int) -> None:
    found, done = listed(*NARROW, "model.input_size=96"), []
    times = dict(zip(map(id, found), [400.0, 300.0, 200.0, 100.0, *[50.0] * len(found)], strict=False))

    def timer(one: Candidate) -> Timed:
        return Timed(described(one.settings.network), 96, "fp32", one.multiply_adds, times[id(one)])

    assert choose(found, limit, timer, done.append) is found[place]
    assert len(done) == place + 1
    assert "yes" in table(done, limit).splitlines()[-1]


def test_a_time_that_nothing_fits_names_the_fastest_on_one_line() -> None:
    found = listed(*NARROW, fixed=("model.input_size=96",))

    def timer(one: Candidate) -> Timed:
        fastest = one.settings.network.width == 0.125
        return Timed(described(one.settings.network), 96, "fp32", one.multiply_adds, 20.0 if fastest else 30.0)

    with pytest.raises(ArgumentError) as error:
        choose(found, 5.0, timer, lambda _: None)
    assert str(error.value) == (
        "--ms: 5 ms: no network is that fast here; the fastest is vgg11_bn, width 0.125 at 96 pixels in fp32, "
        "with 20.0 ms. Use 22 or more."
    )


class _Slow:
    """A detector whose calls take the given milliseconds, by a clock of its own."""

    def __init__(self, *times: float) -> None:
        self.times, self.now, self.calls = times, 0.0, 0

    def detect(self, image: object) -> None:
        self.now += self.times[self.calls % len(self.times)] / 1000
        self.calls += 1

    def clock(self) -> float:
        return self.now


def test_p95_is_the_95th_percentile_of_the_calls_after_the_first_ones() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    steady = _Slow(1000, 1000, 1000, *[10.0] * 400)  # it warms up
    assert p95(steady.detect, [image], clock=steady.clock) == pytest.approx(10)
    sometimes = _Slow(*[10.0] * 9, 50.0)
    assert p95(sometimes.detect, [image], clock=sometimes.clock) == pytest.approx(50)
    too_slow = _Slow(200.0)
    assert p95(too_slow.detect, [image], 100.0, clock=too_slow.clock) == pytest.approx(200)
    assert too_slow.calls == 8


def test_an_untrained_candidate_can_be_timed() -> None:
    one = listed(*NARROW, fixed=("model.input_size=64",))[1]
    row = timed(one, [np.zeros((40, 60, 3), np.uint8)], limit=1e-6, device="cpu")
    assert row.multiply_adds == one.multiply_adds
    assert row.p95 > 0


@pytest.mark.parametrize(("load", "cores", "said"), [(0.9, 1, False), (1.2, 2, True), (1.2, 8, False), (4.0, 8, True)])
def test_other_work_on_the_machine_is_said(
    monkeypatch: pytest.MonkeyPatch, load: float, cores: int, said: bool
) -> None:
    monkeypatch.setattr(latency.os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.setattr(latency.os, "cpu_count", lambda: cores)
    why = latency.busy()
    assert (why is not None) == said
    if why is not None:
        assert f"load {load} on {cores} cores" in why
