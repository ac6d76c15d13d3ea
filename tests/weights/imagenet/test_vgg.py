import json

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from ssd.errors import CheckpointError, ConfigError, DownloadError
from ssd.model.factory import from_settings, settings_for
from ssd.model.vgg import CHANNELS
from ssd.settings import Preprocessing
from ssd.weights import native
from ssd.weights.imagenet import vgg
from ssd.weights.imagenet.vgg import MEAN_ONLY, PORTS_MEAN, PUBLISHED, TORCHVISION, vgg16_backbone_state
from ssd.weights.ports.layout import convolution_shapes, convolutions
from tests.weights import made

FC = ("backbone.conv6", "backbone.conv7")


def features(backbone: str = "vgg16", *, norm: bool = False) -> dict[str, torch.Tensor]:
    """The convolutions of torchvision's VGG, tiny numbers everywhere."""
    torch.manual_seed(0)
    state, inputs = {}, 3
    for name, place in convolutions(backbone, batch_norm=norm).items():
        outputs = CHANNELS[int(name[0]) - 1]
        state[f"features.{place}.weight"] = torch.randn(outputs, inputs, 3, 3) * 0.1
        state[f"features.{place}.bias"] = torch.randn(outputs)
        if norm:
            for part in ("weight", "bias", "running_mean", "running_var"):
                state[f"features.{place + 1}.{part}"] = torch.rand(outputs) + 0.5
            state[f"features.{place + 1}.num_batches_tracked"] = torch.tensor(5)
        inputs = outputs
    return state


def save(path, state, **metadata):
    safetensors.torch.save_file(state, path, metadata or None)
    return path


@pytest.mark.parametrize("backbone", PUBLISHED)
@pytest.mark.parametrize("norm", [False, True])
def test_convolutions_stand_where_torchvision_has_them(backbone, norm):
    import torchvision

    with torch.device("meta"):
        network = getattr(torchvision.models, f"{backbone}{'_bn' if norm else ''}")()
    places = [i for i, layer in enumerate(network.features) if isinstance(layer, torch.nn.Conv2d)]
    assert list(convolutions(backbone, batch_norm=norm).values()) == places


def test_the_real_convolutions_of_vgg16_bring_their_own_mean(vgg_weights):
    start = vgg16_backbone_state(vgg_weights)
    assert start.preprocessing == Preprocessing(mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0))
    assert start.missing == FC
    assert len(start.state) == 26
    network = from_settings(settings_for(("a",), input_size=300))
    left = network.load_state_dict(start.state, strict=False)
    assert not left.unexpected_keys
    assert not [key for key in left.missing_keys if key.startswith("backbone.conv") and not key.startswith(FC)]


def test_the_size_of_the_first_weights_does_not_tell_how_images_were_scaled(vgg_weights):
    # One would expect weights for undivided images to be 58 times smaller than those for images divided by their
    # spread. They are not: training settles the scale elsewhere. So the metadata decides, or else the file's layout.
    start = vgg16_backbone_state(vgg_weights)
    assert 0.1 < start.state["backbone.conv1_1.weight"].abs().mean() < 0.3


def test_convolutions_alone_are_the_originals(tmp_path):
    path = save(tmp_path / "x.safetensors", features())
    start = vgg16_backbone_state(path)
    assert start.preprocessing == MEAN_ONLY
    assert torch.equal(start.state["backbone.conv5_3.bias"], features()["features.28.bias"])


def test_metadata_says_how_images_are_scaled(tmp_path):
    path = save(tmp_path / "x.safetensors", features(), input="BGR, 0..255, minus (1, 2.5, 3), divided by (4, 5, 6)")
    assert vgg16_backbone_state(path).preprocessing == Preprocessing((1.0, 2.5, 3.0), (4.0, 5.0, 6.0), "bgr")
    save(path, features(), input="RGB, 0..255, minus (1, 2)")
    with pytest.raises(CheckpointError, match=r"\(1, 2\) in its metadata is not three numbers"):
        vgg16_backbone_state(path)


def whole(fc6: str = "classifier.0", fc7: str = "classifier.3") -> dict[str, torch.Tensor]:
    """All of VGG16, fc6 and fc7 in bytes."""
    # Bytes that differ from tap to tap, channel to channel and unit to unit.
    unit, channel = torch.arange(4096)[:, None], torch.arange(512)[None, :]
    code, taps = (unit * 31 + channel * 7).to(torch.uint8), torch.arange(49, dtype=torch.uint8)
    weight6 = (code[..., None] + taps).reshape(4096, 512 * 49)
    weight7 = (unit * 3 + torch.arange(4096)[None, :] * 5).to(torch.uint8)
    return features() | {
        f"{fc6}.weight": weight6,
        f"{fc7}.weight": weight7,
        f"{fc6}.bias": torch.arange(4096.0),
        f"{fc7}.bias": torch.arange(4096.0),
        "classifier.6.weight": torch.zeros(1),
    }


@pytest.mark.parametrize("names", [("classifier.0", "classifier.3"), ("pre_logits.fc1", "pre_logits.fc2")])
def test_fc6_and_fc7_are_thinned_out_to_every_fourth_unit_and_third_tap(monkeypatch, tmp_path, names):
    tensors = whole(*names)
    monkeypatch.setattr(vgg, "read_tensors", lambda path: tensors)
    weight6, weight7 = (tensors[f"{name}.weight"] for name in names)
    start = vgg16_backbone_state(tmp_path / "vgg16.pth")
    assert start.missing == ()
    assert start.preprocessing == TORCHVISION
    conv6, conv7 = start.state["backbone.conv6.weight"], start.state["backbone.conv7.weight"]
    assert conv6.shape == (1024, 512, 3, 3)
    assert conv7.shape == (1024, 1024, 1, 1)
    for o, c, y, x in ((0, 0, 0, 0), (5, 77, 1, 2), (1023, 511, 2, 2), (300, 3, 2, 0)):
        assert conv6[o, c, y, x] == weight6[4 * o, c * 49 + 3 * y * 7 + 3 * x]
        assert conv7[o, c, 0, 0] == weight7[4 * o, 4 * c]
    assert torch.equal(start.state["backbone.conv6.bias"], torch.arange(0, 4096.0, 4))


def test_without_atrous_fc6_and_fc7_are_taken_whole(monkeypatch, tmp_path):
    tensors = whole()
    monkeypatch.setattr(vgg, "read_tensors", lambda path: tensors)
    start = vgg16_backbone_state(tmp_path / "vgg16.pth", atrous=False)
    assert start.missing == ()
    conv6, conv7 = start.state["backbone.conv6.weight"], start.state["backbone.conv7.weight"]
    assert (conv6.shape, conv7.shape) == ((4096, 512, 7, 7), (4096, 4096, 1, 1))
    assert torch.equal(conv6.flatten(1), tensors["classifier.0.weight"])
    assert torch.equal(conv7.flatten(1), tensors["classifier.3.weight"])
    assert torch.equal(start.state["backbone.conv7.bias"], torch.arange(4096.0))
    with torch.device("meta"):
        network = from_settings(settings_for(("a",), input_size=300, atrous=False))
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    assert {name: tensor.shape for name, tensor in start.state.items()}.items() <= shapes.items()


def test_a_file_that_is_thinned_out_already_or_not_says_which_key_to_set(monkeypatch, tmp_path):
    trunk, _ = made.random_parts(21)
    thin = {name.removeprefix("vgg."): tensor for name, tensor in trunk.items() if name.startswith("vgg.")}
    monkeypatch.setattr(vgg, "read_tensors", lambda path: thin)
    with pytest.raises(CheckpointError, match=r"conv6 has shape \(1024, 512, 3, 3\), .* Set model.atrous=true"):
        vgg16_backbone_state(tmp_path / "x.pth", atrous=False)
    shapes = convolution_shapes(atrous=False)
    full = {f"backbone.{name}.weight": torch.empty(shape, device="meta") for name, shape in shapes}
    monkeypatch.setattr(vgg, "read_tensors", lambda path: full)
    monkeypatch.setattr(vgg, "stated_preprocessing", lambda path: None)
    with pytest.raises(CheckpointError, match=r"conv6 has shape \(4096, 512, 7, 7\), .* Set model.atrous=false"):
        vgg16_backbone_state(tmp_path / "x.pth")
    assert vgg16_backbone_state(tmp_path / "x.pth", atrous=False).missing == ()


def test_convolutions_alone_serve_the_full_network_too(tmp_path):
    start = vgg16_backbone_state(save(tmp_path / "x.safetensors", features()), atrous=False)
    assert start.missing == FC
    assert start.preprocessing == MEAN_ONLY


def test_the_nan_classifier_of_imagenet1k_features_counts_as_absent(monkeypatch, tmp_path):
    hollow = features() | {
        f"classifier.{i}.{p}": torch.full((2, 2), torch.nan) for i in (0, 3) for p in ("weight", "bias")
    }
    monkeypatch.setattr(vgg, "read_tensors", lambda path: hollow)
    monkeypatch.setattr(vgg, "fetch", lambda url: tmp_path / url.rsplit("/", 1)[-1])
    start = vgg16_backbone_state("imagenet_features")
    assert start.missing == FC
    assert start.preprocessing == PORTS_MEAN


def test_the_names_imagenet_and_imagenet_features_are_torchvisions_files(monkeypatch, tmp_path):
    asked = []

    def fetch(url):
        asked.append(url.rsplit("/", 1)[-1])
        return save(tmp_path / "x.safetensors", features("vgg19" if "19" in url else "vgg16", norm="bn" in url))

    monkeypatch.setattr(vgg, "fetch", fetch)
    vgg16_backbone_state("imagenet")
    vgg16_backbone_state("imagenet_features")
    vgg16_backbone_state("imagenet", backbone="vgg19_bn")
    assert asked == ["vgg16-397923af.pth", "vgg16_features-amdegroot-88682ab5.pth", "vgg19_bn-c79401a0.pth"]
    with pytest.raises(ConfigError, match="there is no 'imagenet_features' for vgg19"):
        vgg16_backbone_state("imagenet_features", backbone="vgg19")


def test_the_thinned_out_file_of_the_ports_has_everything(tmp_path):
    trunk, _ = made.random_parts(21)
    state = {name.removeprefix("vgg."): tensor for name, tensor in trunk.items() if name.startswith("vgg.")}
    path = tmp_path / "vgg16_reducedfc.pth"
    torch.save(state, path)
    start = vgg16_backbone_state(path)
    assert start.missing == ()
    assert start.preprocessing == PORTS_MEAN
    assert torch.equal(start.state["backbone.conv6.weight"], state["31.weight"])
    assert torch.equal(start.state["backbone.conv4_3.bias"], state["21.bias"])


def test_a_weights_file_of_this_package_lends_its_backbone_and_its_scaling(tmp_path):
    settings = settings_for(("a",), input_size=300)
    mine = Preprocessing(mean=(1.0, 2.0, 3.0))
    settings = type(settings)(settings.network, settings.boxes, settings.class_names, mine)
    network = from_settings(settings)
    native.save_weights(tmp_path / "best.safetensors", network.state_dict(), settings)
    start = vgg16_backbone_state(tmp_path / "best.safetensors")
    assert start.preprocessing == mine
    assert start.missing == ()
    assert set(start.state) == {name for name in network.state_dict() if name.startswith("backbone.")}


def test_batch_norm_swallows_the_bias_before_it(tmp_path):
    state = features(norm=True)
    start = vgg16_backbone_state(save(tmp_path / "x.safetensors", state), backbone="vgg16_bn")
    assert start.missing == (FC[0], "backbone.norm6", FC[1], "backbone.norm7")
    assert start.preprocessing == TORCHVISION
    image = torch.randn(1, 3, 8, 8)
    ours = {name.removeprefix("backbone."): value for name, value in start.state.items()}

    def normed(x, state, at):
        mean, var, weight, bias = (state[f"{at}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias)

    theirs = normed(F.conv2d(image, state["features.0.weight"], state["features.0.bias"]), state, "features.1")
    torch.testing.assert_close(normed(F.conv2d(image, ours["conv1_1.weight"]), ours, "norm1_1"), theirs)
    left = from_settings(settings_for(("a",), input_size=300, backbone="vgg16_bn")).load_state_dict(
        start.state, strict=False
    )
    assert not left.unexpected_keys


@pytest.mark.parametrize(("norm", "backbone", "has"), [(True, "vgg16", "vgg16_bn"), (False, "vgg16_bn", "vgg16")])
def test_a_file_with_or_without_batch_norm_is_not_taken_for_the_other(tmp_path, norm, backbone, has):
    path = save(tmp_path / "x.safetensors", features(norm=norm))
    with pytest.raises(CheckpointError, match=f"is a {has}, not a {backbone}. Set model.backbone={has}"):
        vgg16_backbone_state(path, backbone=backbone)


def test_what_is_no_vgg16_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match=r"is no VGG known here; its keys are layer1\.weight"):
        vgg16_backbone_state(save(path, {"layer1.weight": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match="lacks conv3_3"):
        vgg16_backbone_state(save(path, {k: v for k, v in features().items() if k != "features.14.weight"}))
    with pytest.raises(CheckpointError, match=r"conv1_1 has shape \(64, 1, 3, 3\), not \(64, 3, 3, 3\)"):
        vgg16_backbone_state(save(path, features() | {"features.0.weight": torch.zeros(64, 1, 3, 3)}))
    with pytest.raises(CheckpointError, match="nowhere: no such file"):
        vgg16_backbone_state("nowhere")
    with pytest.raises(ConfigError, match=r"model\.width: 0\.5: ImageNet weights fit the full width alone"):
        vgg16_backbone_state(path, 0.5)


def test_a_damaged_header_of_ours_is_an_error(tmp_path):
    path = save(tmp_path / "x.safetensors", features(), ssd=json.dumps({"settings": {"network": 1}}))
    with pytest.raises(CheckpointError):
        vgg16_backbone_state(path)


def test_without_internet_the_error_says_how_to_train_all_the_same(monkeypatch):
    def offline(url):
        raise DownloadError("cannot be fetched (no route)", place=url, remedy="Fetch it elsewhere.")

    monkeypatch.setattr(vgg, "fetch", offline)
    with pytest.raises(DownloadError, match=r"Fetch it elsewhere\. Or name a file: model\.backbone_weights=FILE"):
        vgg16_backbone_state("imagenet")
