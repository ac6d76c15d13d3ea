"""From a config to what it describes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from ssd.data.dataset import Dataset
from ssd.errors import ConfigError, ImageDecodeError, MissingExtraError
from ssd.experiment import config_file as configs
from ssd.experiment import data as experiment_data
from ssd.experiment import start as starting
from ssd.experiment.starting_settings import build_settings, starting_settings
from ssd.model.factory import from_settings
from ssd.model.norm import Norm
from ssd.multibox.default_boxes import box_settings
from ssd.settings import Preprocessing
from ssd.structures import Record
from ssd.weights.native import save_weights


@pytest.mark.parametrize("mistake", ["model.input_size=10", "model.backbone=resnet5"])
def test_a_network_that_cannot_be_is_named_before_weights_are_fetched(
    mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssd.weights.fetch.download", lambda *_, **__: pytest.fail("something was fetched"))
    with pytest.raises((ConfigError, MissingExtraError), match=mistake.partition("=")[0]):
        starting.start(configs.load(None, [mistake]), ("cat",))


def images(count: int, decoded: list[str], damaged: int | None = None) -> Dataset:
    """A data set of which one image may be damaged; says what was decoded."""
    boxes, flags = np.zeros((0, 4), np.float32), np.zeros(0, bool)
    labels, areas = np.zeros(0, np.int64), np.zeros(0, np.float32)
    records = [Record(f"{index}.jpg", index, 4, 4, boxes, labels, flags, flags, areas) for index in range(count)]

    def read(record: Record) -> np.ndarray:
        decoded.append(record.path)
        if record.image_id == damaged:
            raise ImageDecodeError("cannot be decoded", place=record.path, remedy="Replace or remove it.")
        return np.zeros((4, 4, 3), np.uint8)

    return Dataset(tuple(records), ("a",), (1,), "name", "split", read=read)


def test_a_damaged_image_stops_a_run_before_its_first_step() -> None:
    with pytest.raises(ImageDecodeError, match=r"1\.jpg.*data\.bad_images=skip"):
        experiment_data.check_images(images(3, [], damaged=1), images(2, []))


def test_a_damaged_image_to_evaluate_on_cannot_be_passed_over() -> None:
    with pytest.raises(ImageDecodeError, match=r"1\.jpg: cannot be decoded\. Replace or remove it\.$"):
        experiment_data.check_images(images(3, []), images(2, [], damaged=1))


def test_of_a_large_set_only_what_is_evaluated_on_is_looked_through() -> None:
    trained: list[str] = []
    evaluated: list[str] = []
    experiment_data.check_images(images(9, trained, damaged=3), images(2, evaluated), limit=10)
    assert (trained, sorted(evaluated)) == ([], ["0.jpg", "1.jpg"])


AUTO = ("model.extras_norm=auto", "model.fc_norm=auto", "model.box_table=auto", "model.width=0.125")
PLAIN = ("model.extras_norm=none", "model.fc_norm=none", "model.box_table=voc")


@pytest.mark.parametrize(
    "trained",
    [
        ("model.box_table=coco",),
        ("model.extras_norm=group", "model.fc_norm=batch"),
        ("model.levels=[16,8,4]",),
    ],
)
def test_auto_is_what_the_given_detector_was_trained_with(tmp_path: Path, trained: tuple[str, ...]) -> None:
    usual = ("model.input_size=128", "model.backbone_weights=none")
    first = configs.load(None, [*usual, *PLAIN, *AUTO[3:], *trained])
    source = starting.start(first, ("cat",))
    path = tmp_path / "first.safetensors"
    save_weights(path, source.network.state_dict(), source.settings)
    words = [*usual, *AUTO, f"model.weights={path}"]
    again = starting.start(configs.load(None, words), ("cat",))
    assert again.settings == source.settings
    assert again.fresh == ()
    larger = starting.start(configs.load(None, [*words, "model.input_size=160"]), ("cat",))
    assert larger.settings.network.fc_norm == source.settings.network.fc_norm
    boxes = source.settings.boxes
    fine = box_settings(160, larger.settings.boxes.grids, table="fine", clip=boxes.clip, variances=boxes.variances)
    assert larger.settings.boxes == fine


@pytest.mark.parametrize(
    ("words", "trained", "norms"),
    [
        ((), None, ("group", "group")),
        ((), "none", ("group", "none")),
        ((), "batch", ("group", "batch")),
        (("model.backbone=vgg11_bn",), None, ("group", "none")),
        (("model.backbone=resnet18",), None, ("group", "none")),
        (("model.extras_norm=none", "model.fc_norm=batch"), "none", ("none", "batch")),
    ],
)
def test_fine_tuning_normalises_new_layers_where_nothing_else_does(
    words: tuple[str, ...], trained: Norm | None, norms: tuple[str, str]
) -> None:
    config = configs.load(None, words)
    settings = build_settings(config, ("cat",), Preprocessing(), trained_fc_norm=trained)
    assert (settings.network.extras_norm, settings.network.fc_norm) == norms
    assert settings.boxes.min_sizes[:2] == pytest.approx((21, 60))


def test_what_starts_from_nothing_is_named_in_short(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = ("model.input_size=64", "model.backbone_weights=none", "model.width=0.125")
    source = starting.start(configs.load(None, small), ("cat",))
    state = {name: tensor for name, tensor in source.network.state_dict().items() if name.startswith("backbone.conv1")}
    part = tmp_path / "part.safetensors"
    save_weights(part, state | {"head.boxes.0.bias": torch.zeros(16)}, source.settings)
    caplog.set_level("INFO", "ssd.experiment.start")
    starting.start(configs.load(None, [*small, f"model.weights={tmp_path / 'part.safetensors'}"]), ("cat",))
    line = next(message for message in caplog.messages if message.startswith("initialised: "))
    names = line.removeprefix("initialised: ").split(", ")
    assert {"backbone.conv6", "extras", "first_norm", "head.boxes.1", "head.classes.0"} <= set(names)
    assert not [name for name in names if name.startswith(("extras.", "backbone.conv1"))]


SMALL = ("model.input_size=64", "model.backbone_weights=none", "model.width=0.125", *PLAIN)


def saved_detector(folder: Path, *words: str) -> Path:
    """A detector of one class with random weights, and settings as `words` say."""
    begin = starting.start(configs.load(None, [*SMALL, *words]), ("cat",))
    path = folder / "detector.safetensors"
    save_weights(path, begin.network.state_dict(), begin.settings)
    return path


def begun(*words: str) -> starting.Initialised:
    return starting.start(configs.load(None, [*SMALL, *words]), ("cat",))


def test_what_no_key_names_is_as_the_given_detector_was_trained(tmp_path: Path) -> None:
    source = begun()
    foreign = dataclasses.replace(
        source.settings,
        network=dataclasses.replace(source.settings.network, first_level_norm="batch", l2_eps=1e-5),
        boxes=dataclasses.replace(
            source.settings.boxes,
            steps=tuple(0.9 * step for step in source.settings.boxes.steps),
            clip="centre",
            variances=(0.1, 0.1, 0.1, 0.3),
        ),
    )
    path = tmp_path / "foreign.safetensors"
    save_weights(path, from_settings(foreign).state_dict(), foreign)
    again = begun(*AUTO[:3], f"model.weights={path}")
    assert again.settings == foreign
    assert "first_norm.running_mean" in again.network.state_dict()


def test_the_mode_says_how_images_are_resized_and_whether_boxes_vote(tmp_path: Path) -> None:
    ours, paper = begun().settings, begun("mode=paper").settings
    assert (ours.preprocessing.resize, ours.postprocessing.box_voting) == ("area", 0.1)
    assert (paper.preprocessing.resize, paper.postprocessing.box_voting) == ("uint8", 0.0)
    chosen = begun("mode=paper", "model.box_voting=0.1").settings
    assert (chosen.preprocessing.resize, chosen.postprocessing.box_voting) == ("uint8", 0.1)
    older = begun(f"model.weights={saved_detector(tmp_path, 'mode=paper')}").settings
    assert older.preprocessing.resize == "area", "training filters what it shows, so detection does"


def test_a_library_backbone_is_shown_filtered_images_too(tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    words = ("model.backbone=resnet18", "model.width=1", f"model.backbone_weights={path}")
    assert begun(*words).settings.preprocessing.resize == "area"
    assert begun(*words, "mode=paper").settings.preprocessing.resize == "uint8"


@pytest.mark.parametrize(
    ("trained", "word", "then"),
    [
        ("float", "mode=default", "area"),  # torchvision's
        ("antialias", "mode=default", "antialias"),  # a filter too
        ("float", "mode=paper", "float"),
        ("area", "mode=paper", "uint8"),
    ],
)
def test_the_resize_of_a_detector_to_start_from_is_kept_where_it_suits(
    trained: str, word: str, then: str, tmp_path: Path
) -> None:
    source = begun()
    preprocessing = dataclasses.replace(source.settings.preprocessing, resize=trained)
    path = tmp_path / "trained.safetensors"
    settings = dataclasses.replace(source.settings, preprocessing=preprocessing)
    save_weights(path, source.network.state_dict(), settings)
    assert begun(f"model.weights={path}", word).settings.preprocessing.resize == then


def test_a_sigma_that_cannot_be_is_named() -> None:
    for sigma in ("-0.1", "2", ".nan"):
        with pytest.raises(ConfigError, match=r"model\.box_voting = .*a number from 0 to 1"):
            begun(f"model.box_voting={sigma}")
    with pytest.raises(ConfigError, match=r"model\.box_voting.*0\.000001 to 1"):
        begun("model.box_voting=1e-40")


def test_a_detector_of_which_nothing_fits_is_refused_and_says_what_would(tmp_path: Path) -> None:
    path = saved_detector(tmp_path, "model.backbone=vgg11_bn")
    with pytest.raises(
        ConfigError, match=r"is a vgg11_bn of width 0\.125.*fits a vgg11_bn of width 0\.25.*width=0\.125"
    ):
        begun(f"model.weights={path}", "model.backbone=vgg11_bn", "model.width=0.25")


def test_the_settings_of_a_start_are_known_before_it(tmp_path: Path) -> None:
    words = (*AUTO[:3], f"model.weights={saved_detector(tmp_path, 'model.box_table=coco')}")
    expected = starting_settings(configs.load(None, [*SMALL, *words]), ("cat",))
    assert expected == begun(*words).settings
    assert expected != begun(*AUTO[:3]).settings


def test_conv6_of_another_kind_starts_from_nothing_and_is_normalised(tmp_path: Path) -> None:
    path = saved_detector(tmp_path, "model.atrous=false")
    assert begun(*AUTO[:3], f"model.weights={path}").settings.network.fc_norm == "group"


def test_layers_that_two_vggs_share_keep_their_norm(tmp_path: Path) -> None:
    path = saved_detector(tmp_path, "model.backbone=vgg11", "model.extras_norm=batch")
    larger = begun(*AUTO[:3], "model.backbone=vgg13", f"model.weights={path}")
    assert (larger.settings.network.fc_norm, larger.settings.network.extras_norm) == ("none", "batch")
    assert larger.fresh == tuple(f"backbone.conv{stage}_2" for stage in (1, 2))


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_a_detector_that_serves_as_a_backbone_keeps_the_norm_of_its_fc_layers(tmp_path: Path, norm: str) -> None:
    path = saved_detector(tmp_path, f"model.fc_norm={norm}", "model.width=1")
    begin = begun("model.fc_norm=auto", "model.width=1", f"model.backbone_weights={path}")
    assert begin.settings.network.fc_norm == norm
    assert not [name for name in begin.fresh if name.startswith("backbone.")]


def test_a_wrong_number_of_sizes_is_told_of_the_levels_that_there_are(tmp_path: Path) -> None:
    path = saved_detector(tmp_path, "model.levels=[8,4]")
    three = "model.min_sizes=[0.2,0.4,0.6]", "model.max_sizes=[0.4,0.6,0.8]"
    with pytest.raises(ConfigError, match="3 for 2 levels"):
        begun(*AUTO[:3], f"model.weights={path}", *three)


@pytest.mark.parametrize(
    ("missing", "words", "stages"),
    [
        ((), ("model.freeze_stages=auto",), {"1", "2"}),
        (("backbone.conv2_2.bias",), ("model.freeze_stages=auto",), set()),
        (("backbone.conv5_1.weight",), ("model.freeze_stages=auto",), {"1", "2"}),
        ((), ("model.freeze_stages=3",), {"1", "2", "3"}),
        ((), ("model.freeze_stages=auto", "model.backbone=resnet18", "model.width=1"), set()),
    ],
)
def test_the_first_two_stages_are_frozen_where_all_of_them_was_loaded(
    missing: tuple[str, ...], words: tuple[str, ...], stages: set[str]
) -> None:
    config = configs.load(None, [*SMALL, *words])
    network = starting.start(config, ("cat",)).network
    loaded = {name for name, _ in network.named_parameters() if name not in missing}
    starting.freeze(network, config.model.freeze_stages, loaded)
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert {name.removeprefix("backbone.conv")[0] for name in frozen} == stages
    whole = tuple(f"backbone.conv{stage}_" for stage in stages)
    assert frozen == [name for name, _ in network.named_parameters() if name.startswith(whole)]
