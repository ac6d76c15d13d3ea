import pytest
import torch
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from ssd.errors import CheckpointError
from ssd.settings import Settings
from ssd.weights.ports.class_names import COCO, coco_by_id
from ssd.weights.ports.registry import convert_checkpoint
from tests.weights import made, plain
from tests.weights.ports.foreign_mobilenets import Lufficc, Qfgaohao


def test_an_unknown_checkpoint_lists_its_keys_and_the_known_formats():
    state = {f"layer{i}.weight": torch.zeros(1) for i in range(9)}
    with pytest.raises(CheckpointError) as caught:
        convert_checkpoint(state, "strange.pth")
    text = str(caught.value)
    assert text.startswith("strange.pth: is no checkpoint known here; its keys are layer0.weight, layer1.weight")
    assert "and 4 more" in text
    for known in ("torchvision ssd300_vgg16", "amdegroot/ssd.pytorch (vgg.*, extras.*, loc.*, conf.*)", "lufficc/SSD"):
        assert known in text


def test_an_empty_state_is_unknown():
    with pytest.raises(CheckpointError, match="is no checkpoint known here"):
        convert_checkpoint({}, "x")


def test_our_own_state_without_settings_is_told_apart():
    with pytest.raises(CheckpointError, match="without their settings"):
        convert_checkpoint({"backbone.conv1_1.weight": torch.zeros(1)}, "state.pt")


def test_a_lacking_and_a_left_over_tensor_are_named():
    state = made.amdegroot()
    bias = state.pop("extras.3.bias")
    with pytest.raises(CheckpointError, match=r"looks like amdegroot/ssd\.pytorch, but lacks 'extras\.3\.bias'"):
        convert_checkpoint(state, "x.pth")
    state |= {"extras.3.bias": bias, "attention.weight": bias, "attention.bias": bias}
    with pytest.raises(CheckpointError, match=r"but also has 'attention\.weight' and 1 more"):
        convert_checkpoint(state, "x.pth")


@pytest.mark.parametrize("name", ["vgg.10.weight", "extras.2.weight", "loc.1.weight", "conf.5.bias", "L2Norm.weight"])
def test_a_tensor_of_another_shape_is_named(name):
    state = made.amdegroot()
    state[name] = torch.zeros(7, *state[name].shape[1:])
    with pytest.raises(CheckpointError, match=r"has shape \(7"):
        convert_checkpoint(state, "x.pth")


def test_half_precision_becomes_float32():
    state = {name: tensor.half() for name, tensor in made.amdegroot().items()}
    assert {tensor.dtype for tensor in convert_checkpoint(state, "x").state_dict.values()} == {torch.float32}


def test_class_names_must_fit_and_differ():
    state = made.amdegroot(4)
    with pytest.raises(CheckpointError, match="has 3 classes, and 2 class names were given"):
        convert_checkpoint(state, "x", ("a", "b"))
    with pytest.raises(CheckpointError, match="'a' is given twice"):
        convert_checkpoint(state, "x", ("a", "b", "a"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: plain.sgrvinod(4),
        lambda: Lufficc(4).state_dict(),
        lambda: Qfgaohao(4, lite=False).state_dict(),
        lambda: ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4).state_dict(),
    ],
)
def test_default_boxes_are_refused_where_a_checkpoint_has_only_its_own(make):
    state = make()
    assert convert_checkpoint(state, "x.pth").settings.num_classes == 3
    with pytest.raises(CheckpointError, match=r"x\.pth: has default boxes of its own, not those of voc\. Leave boxes"):
        convert_checkpoint(state, "x.pth", box_table="voc")


def test_the_settings_survive_a_weights_file():
    settings = convert_checkpoint(made.lufficc(81, 512), "x").settings
    assert Settings.from_dict(settings.to_dict()) == settings


def test_class_lists_are_torchvisions():
    from torchvision.models.detection import SSD300_VGG16_Weights

    categories = SSD300_VGG16_Weights.COCO_V1.meta["categories"][1:]
    assert tuple(name for name in categories if name != "N/A") == COCO
    expected = [f"unused_{i}" if name == "N/A" else name for i, name in enumerate(categories, start=1)]
    assert list(coco_by_id()) == expected
    assert len(set(coco_by_id())) == 90
