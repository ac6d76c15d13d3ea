"""Which networks may take the place of a detector."""

import functools
from typing import Any

import numpy as np
import pytest
import torch

from ssd.benchmark.smaller_networks import Candidate, candidates, described, opened
from ssd.errors import ConfigError
from ssd.experiment import config_file as configs
from ssd.experiment.config import Config
from ssd.experiment.start import freeze
from ssd.experiment.starting_settings import build_settings
from ssd.model.factory import from_settings
from ssd.settings import Preprocessing, Settings

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


def frozen(config: Config, settings: Settings) -> int:
    """The number of frozen parameters; fails where training would."""
    with torch.device("meta"):  # computes nothing
        network = from_settings(settings, auxiliary=config.loss.auxiliary_weight > 0)
    freeze(network, config.model.freeze_stages, frozenset())
    return sum(not parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("words", [
    ("model.backbone=vgg11_bn", "model.freeze_stages=2"),
    ("model.backbone=vgg11", "model.freeze_stages=2", "model.fc_norm=group", "model.atrous=false"),
    ("model.backbone=googlenet", "loss.auxiliary_weight=0.3"),
])  # fmt: skip
def test_another_network_has_no_key_of_the_runs_weights_or_of_its_kind(words: tuple[str, ...]) -> None:
    found = [one for one in listed(*words, "model.input_size=64") if one.config.model.weights is None]
    assert "mobilenet_v3_large, lite" in [name for name, _ in names(found)]
    assert [frozen(one.config, one.settings) for one in found] == [0] * len(found)
    own = listed(*words, "model.input_size=64", fixed=("model.input_size=64",))[0].config
    key = words[1].partition("=")[0].split(".")
    assert getattr(getattr(own, key[0]), key[1]) in (2, 0.3)


def test_a_network_that_is_named_has_no_key_of_the_runs_either_but_those_that_are_given() -> None:
    words = ("model.backbone=vgg16", "model.backbone_weights=imagenet_features", "model.freeze_stages=2")
    words = (*words, "model.atrous=false", "model.fc_norm=group")
    (one,) = listed(*words, fixed=("model.backbone=resnet18", "model.input_size=128", "model.extras_norm=none"))
    model = one.config.model
    assert (model.backbone_weights, model.freeze_stages, model.extras_norm) == ("auto", "auto", "none")
    (one,) = listed(*words, fixed=("model.backbone=vgg11_bn", "model.input_size=128", "model.freeze_stages=1"))
    assert one.config.model.freeze_stages == 1


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


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


def test_an_untrained_candidate_detects_about_as_many_boxes_as_usual(image: np.ndarray) -> None:
    one = listed(*NARROW, fixed=("model.input_size=64",))[1]
    detector = opened(one, [image], device="cpu")
    assert detector.settings == one.settings
    assert 20 <= len(detector.detect(image)) <= 200  # of which suppression leaves some


def test_an_untrained_candidate_is_not_kept_for_openvino(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    class ConversionError(Exception):
        pass

    def converted(*_: object, keep: bool) -> None:
        raise ConversionError(keep)

    monkeypatch.setattr("ssd.benchmark.smaller_networks.choose_backend", lambda *_, **__: "openvino")
    monkeypatch.setattr("ssd.inference.runtime.openvino.converted", converted)
    with pytest.raises(ConversionError, match="False"):
        opened(listed(*NARROW, fixed=("model.input_size=64",))[1], [image], device="cpu")
