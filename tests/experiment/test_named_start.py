"""What training starts from: `--start`, the weights named, and what is on this machine."""

from pathlib import Path

import pytest
import torch
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from ssd.errors import CheckpointError, ConfigError, DownloadError
from ssd.experiment import config_file as configs
from ssd.experiment import named_start
from ssd.experiment import start as starting
from ssd.experiment.named_start import chosen, start_keys, with_default_start, with_keys_of_weights
from ssd.experiment.training_config import training_config
from ssd.weights.native import save_weights
from ssd.weights.ports.class_names import coco_by_id
from tests.weights.ports.foreign_mobilenets import Qfgaohao


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """A detector of one class: narrow, and 96 pixels wide."""
    words = ("model.input_size=96", "model.backbone=vgg11_bn", "model.width=0.125", "model.backbone_weights=none")
    begin = starting.start(configs.load(None, words), ("cat",))
    path = tmp_path / "detector.safetensors"
    save_weights(path, begin.network.state_dict(), begin.settings)
    return path


def test_a_start_is_short_for_config_keys(detector):
    assert start_keys("coco") == [("model.weights", "coco")]
    assert start_keys("ssdlite") == [("model.weights", "ssdlite")]
    assert start_keys("imagenet") == [("model.weights", None), ("model.backbone_weights", "imagenet")]
    assert start_keys("none") == [("model.weights", None), ("model.backbone_weights", "none")]
    assert start_keys(str(detector)) == [("model.weights", str(detector))]


def test_a_file_of_a_classifier_is_for_the_backbone_alone(tmp_path):
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    assert start_keys(str(path))[1] == ("model.backbone_weights", str(path))
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: no such weights file"):
        start_keys(str(tmp_path / "nowhere.pth"))


@pytest.mark.parametrize("change", ["model.weights=other.pth", "model.backbone_weights=none", ("model.weights", "x")])
def test_two_starts_are_an_error(change):
    with pytest.raises(ConfigError, match=r"--start: coco and model\.(backbone_)?weights=.*both name what training"):
        training_config(None, "folder", [change], start="coco")


def test_a_start_replaces_that_of_a_config_file(detector, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("model:\n  weights: gone.pth\n  input_size: 128\n")
    config = training_config(file, "folder", (), start=str(detector))
    assert (config.model.weights, config.model.input_size, config.model.width) == (str(detector), 128, 0.125)
    assert training_config(file, "folder", (), start="none").model.weights is None


def test_network_and_input_size_are_those_of_the_weights_named(detector):
    model = training_config(None, "folder", [f"model.weights={detector}"]).model
    assert (model.backbone, model.width, model.input_size) == ("vgg11_bn", 0.125, 96)
    explicit = training_config(None, "folder", [f"model.weights={detector}", "model.input_size=300"]).model
    assert (explicit.backbone, explicit.input_size) == ("vgg11_bn", 300)
    other = training_config(None, "folder", [f"model.weights={detector}", "model.backbone=resnet18"]).model
    assert (other.backbone, other.width) == ("resnet18", 1)
    assert configs.load(None, [f"model.weights={detector}"]).model.backbone == "vgg16", "a file alone reads no weights"


def test_without_weights_the_defaults_stay():
    config, given = configs.load_with_keys(None, ["seed=3", "model.width=0.5"])
    assert given == {"seed", "model.width"}
    assert with_keys_of_weights(config, given) == config


# What a download says where there is no network.
FAILED = DownloadError("cannot be fetched (no network)", place="https://example.org/vgg16.pth", remedy="Fetch it.")


@pytest.fixture
def offline(monkeypatch):
    """No network; the test says what is on the machine."""
    there: set[str] = set()
    tried: list[str] = []

    def fail(source: str, backbone: str) -> Path:
        tried.append(backbone)
        raise FAILED

    monkeypatch.setattr(named_start, "fetch_vgg", fail)
    monkeypatch.setattr(named_start, "is_fetched", lambda url: any(name in url for name in there))
    return there, tried


@pytest.mark.parametrize(
    ("names", "weights", "backbone_weights"),
    [
        (("vgg16_features", "ssd300"), None, "imagenet_features"),
        (("ssd300",), "coco", "imagenet"),
    ],
)
def test_the_default_falls_back_to_what_is_on_this_machine(offline, caplog, names, weights, backbone_weights):
    offline[0].update(names)
    model = chosen(training_config(None, "folder")).model
    assert (model.weights, model.backbone_weights) == (weights, backbone_weights)
    (line,) = caplog.messages
    other = weights or backbone_weights
    assert line == (
        f"ImageNet weights: cannot be fetched (no network); starting from {other}, which is on this machine"
    )


@pytest.mark.parametrize("words", [(), ("model.backbone=vgg11",)])
def test_where_nothing_fits_the_error_is_that_of_the_download(offline, words):
    if words:
        offline[0].add("ssd300")
    with pytest.raises(DownloadError, match="no network"):
        chosen(training_config(None, "folder", words))


@pytest.mark.parametrize(
    "words", [("model.backbone_weights=imagenet",), ("model.backbone_weights=none",), ("model.weights=x",)]
)
def test_a_named_start_is_kept(offline, words):
    offline[0].add("ssd300")
    config = with_default_start(*configs.load_with_keys(None, words))
    assert chosen(config) == config
    assert offline[1] == []


def test_the_default_is_imagenet_where_it_can_be_fetched(monkeypatch):
    monkeypatch.setattr(named_start, "fetch_vgg", lambda source, backbone: Path("vgg16.pth"))
    assert chosen(training_config(None, "folder")).model == configs.load().model
    resnet = training_config(None, "folder", ["model.backbone=resnet18"])
    assert chosen(resnet).model.backbone_weights == "imagenet"


def test_a_port_without_the_first_level_stays_without_it_at_another_size(tmp_path):
    """mb1-ssd predicts from stride 16 on, and its extra layers halve every level."""
    path = tmp_path / "mb1-ssd.pth"
    torch.save(Qfgaohao(3, lite=False).state_dict(), path)
    config = training_config(None, "folder", ["model.input_size=256"], start=str(path))
    begin = starting.start(config, ("class_0", "other"))
    assert (begin.settings.network.backbone, begin.settings.network.variant) == ("mobilenet_v1", "qfgaohao")
    assert begin.settings.boxes.grids == (16, 8, 4, 2, 1)
    assert begin.network.seen == (1, 2, 3, 4, 5)


def test_training_starts_from_ssdlite_with_known_classes(tmp_path, monkeypatch):
    """The published file under its name, here with random weights and the address of no server."""
    torch.manual_seed(0)
    path = tmp_path / "ssdlite.pth"
    torch.save(ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).state_dict(), path)
    monkeypatch.setattr("ssd.weights.resolve.fetch_detector", lambda name: {"ssdlite": path}[name])
    config = training_config(None, "folder", (), start="ssdlite")
    assert (config.model.backbone, config.model.input_size) == ("mobilenet_v3_large_reduced", 320)
    begin = starting.start(config, ("cat", "unicorn"))
    settings, state = begin.settings, begin.network.state_dict()
    assert (settings.network.head, settings.network.extras_norm) == ("lite", "batch")
    assert settings.boxes.aspect_ratios == ((2.0, 3.0),) * 6
    theirs = torch.load(path, weights_only=True)
    rows = theirs["head.classification_head.module_list.0.1.weight"].view(6, 91, -1)
    ours = state["head.classes.0.pointwise.weight"].view(6, 3, -1)
    assert torch.equal(ours[:, 0], rows[:, 0])
    assert torch.equal(ours[:, 1], rows[:, 1 + coco_by_id().index("cat")])
    depthwise = theirs["head.classification_head.module_list.0.0.0.weight"]
    assert torch.equal(state["head.classes.0.depthwise.weight"], depthwise), "it sees no class, and is copied whole"
    assert begin.fresh == ()
