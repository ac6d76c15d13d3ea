"""From a config to what it describes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ssd import build, build_data
from ssd import config as configs
from ssd.checkpoint import save_weights
from ssd.data import Dataset
from ssd.errors import ConfigError, ImageDecodeError, MissingExtraError
from ssd.multibox.default_boxes import box_settings
from ssd.settings import Preprocessing
from ssd.structures import Record


@pytest.mark.parametrize("mistake", ["model.input_size=10", "model.backbone=resnet5"])
def test_a_network_that_cannot_be_is_named_before_weights_are_fetched(
    mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssd.weights.fetch.download", lambda *_, **__: pytest.fail("something was fetched"))
    with pytest.raises((ConfigError, MissingExtraError), match=mistake.partition("=")[0]):
        build.start(configs.resolve(configs.load(None, [mistake])), ("cat",))


def pictures(count: int, decoded: list[str], damaged: int | None = None) -> Dataset:
    """A data set of which one picture may be damaged; says what was decoded."""
    boxes, flags = np.zeros((0, 4), np.float32), np.zeros(0, bool)
    labels, areas = np.zeros(0, np.int64), np.zeros(0, np.float32)
    records = [Record(f"{index}.jpg", index, 4, 4, boxes, labels, flags, flags, areas) for index in range(count)]

    def read(record: Record) -> np.ndarray:
        decoded.append(record.path)
        if record.image_id == damaged:
            raise ImageDecodeError("cannot be decoded", place=record.path, remedy="Replace or remove it.")
        return np.zeros((4, 4, 3), np.uint8)

    return Dataset(tuple(records), ("a",), (1,), "name", "split", read=read)


def test_a_damaged_picture_stops_a_run_before_its_first_step() -> None:
    with pytest.raises(ImageDecodeError, match=r"1\.jpg.*data\.bad_images=skip"):
        build_data.check_pictures(pictures(3, []), pictures(2, [], damaged=1))


def test_of_a_large_set_only_what_is_evaluated_on_is_looked_through() -> None:
    trained: list[str] = []
    evaluated: list[str] = []
    build_data.check_pictures(pictures(9, trained, damaged=3), pictures(2, evaluated), limit=10)
    assert (trained, sorted(evaluated)) == ([], ["0.jpg", "1.jpg"])


AUTO = ("model.extras_norm=auto", "model.fc_norm=auto", "model.box_table=auto", "model.width=0.125")


@pytest.mark.parametrize("trained", [("model.box_table=coco",), ("model.extras_norm=group", "model.fc_norm=batch")])
def test_auto_is_what_the_given_detector_was_trained_with(tmp_path: Path, trained: tuple[str, ...]) -> None:
    usual = ("model.input_size=128", "model.backbone_weights=none", "loss.variances=[0.1,0.1,0.2,0.2]")
    first = configs.resolve(configs.load(None, [*usual, *AUTO[3:], *trained]))
    source = build.start(first, ("cat",))
    path = tmp_path / "first.safetensors"
    save_weights(path, source.network.state_dict(), source.settings)
    words = [*usual, *AUTO, f"model.weights={path}"]
    again = build.start(configs.resolve(configs.load(None, words)), ("cat",))
    assert again.settings == source.settings
    assert again.fresh == ()
    larger = build.start(configs.resolve(configs.load(None, [*words, "model.input_size=160"])), ("cat",))
    assert larger.settings.network.fc_norm == source.settings.network.fc_norm
    assert larger.settings.boxes == box_settings(160, larger.settings.boxes.grids, table="fine")


@pytest.mark.parametrize(
    ("words", "fc_trained", "norms"),
    [
        ((), False, ("group", "group")),
        ((), True, ("group", "none")),
        (("model.backbone=vgg11_bn",), False, ("group", "none")),
        (("model.backbone=resnet18",), False, ("group", "none")),
        (("model.extras_norm=none", "model.fc_norm=batch"), True, ("none", "batch")),
    ],
)
def test_fine_tuning_normalises_new_layers_where_nothing_else_does(
    words: tuple[str, ...], fc_trained: bool, norms: tuple[str, str]
) -> None:
    config = configs.resolve(configs.load(configs.builtin("finetune"), words))
    settings = build.build_settings(config, ("cat",), Preprocessing(), fc_trained=fc_trained)
    assert (settings.network.extras_norm, settings.network.fc_norm) == norms
    assert settings.boxes.min_sizes[:2] == pytest.approx((21, 60))


def test_what_starts_from_nothing_is_named_in_short(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = ("model.input_size=64", "model.backbone_weights=none", "model.width=0.125")
    source = build.start(configs.resolve(configs.load(None, small)), ("cat",))
    state = {name: tensor for name, tensor in source.network.state_dict().items() if name.startswith("backbone.conv1")}
    part = tmp_path / "part.safetensors"
    save_weights(part, state | {"head.boxes.0.bias": torch.zeros(16)}, source.settings)
    caplog.set_level("INFO", "ssd.build")
    build.start(
        configs.resolve(configs.load(None, [*small, f"model.weights={tmp_path / 'part.safetensors'}"])), ("cat",)
    )
    line = next(message for message in caplog.messages if message.startswith("initialised: "))
    names = line.removeprefix("initialised: ").split(", ")
    assert {"backbone.conv6", "extras", "first_norm", "head.boxes.1", "head.classes.0"} <= set(names)
    assert not [name for name in names if name.startswith(("extras.", "backbone.conv1"))]
