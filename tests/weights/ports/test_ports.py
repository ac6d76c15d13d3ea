"""amdegroot/ssd.pytorch and lufficc/SSD: the same numbers come out here as there."""

import pytest
import torch

from ssd.errors import CheckpointError
from ssd.model.factory import from_settings
from ssd.multibox.coder import decode
from ssd.multibox.default_boxes import default_boxes
from ssd.weights.ports.class_names import COCO, VOC
from ssd.weights.ports.layout import ConvertedCheckpoint
from ssd.weights.ports.registry import convert_checkpoint
from tests.weights import made
from tests.weights.ports import foreign_forward


def assert_same_numbers(
    foreign: ConvertedCheckpoint, theirs: dict[str, torch.Tensor], table: str, outputs: int
) -> None:
    size = foreign.settings.network.input_size
    network = from_settings(foreign.settings).eval()
    network.load_state_dict(foreign.state_dict)
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1)) * 60
    with torch.inference_mode():
        predictions = network(images)
        offsets, logits = foreign_forward.forward(theirs, images, outputs, size)
    assert logits.std() > 0.05, "the comparison would be empty"
    torch.testing.assert_close(predictions.offsets, offsets, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(predictions.logits, logits, rtol=1e-4, atol=1e-4)
    offsets = offsets / offsets.std()  # of a size where nothing is clamped
    boxes = decode(offsets, default_boxes(foreign.settings.boxes), foreign.settings.boxes.variances)
    expected = foreign_forward.decoded(offsets, foreign_forward.priors_of(table, size))
    assert (boxes - expected).abs().max() * size < 0.02  # pixels


@pytest.mark.parametrize(("outputs", "table", "names"), [(21, "voc", VOC), (81, "coco", COCO)])
def test_amdegroot_says_the_same_here(outputs, table, names):
    state = made.amdegroot(outputs)
    foreign = convert_checkpoint(state, "x.pth")
    assert foreign.format == "amdegroot/ssd.pytorch"
    assert foreign.settings.class_names == names
    assert_same_numbers(foreign, state, table, outputs)


def test_amdegroot_gives_cocos_boxes_to_any_number_of_classes_but_20():
    foreign = convert_checkpoint(made.amdegroot(4), "x.pth")
    assert foreign.settings.class_names == ("class_0", "class_1", "class_2")
    assert foreign.settings.boxes.min_sizes[0] == 21
    told = convert_checkpoint(made.amdegroot(4), "x.pth", ("a", "b", "c"), box_table="voc")
    assert told.settings.boxes.min_sizes[0] == 30
    assert told.settings.class_names == ("a", "b", "c")


def test_amdegroots_201_outputs_are_coco_and_the_rest_unused():
    names = convert_checkpoint(made.amdegroot(201), "x.pth").settings.class_names
    assert names[:80] == COCO
    assert names[80:] == tuple(f"unused_{n}" for n in range(81, 201))


def test_amdegroot_sees_rgb_minus_the_mean():
    settings = convert_checkpoint(made.amdegroot(), "x.pth").settings
    assert settings.preprocessing.mean == (123, 117, 104)
    assert settings.preprocessing.std == (1, 1, 1)
    assert settings.preprocessing.channels == "rgb"
    assert settings.preprocessing.resize == "uint8"


def with_amdegroots_names(outputs: int, size: int) -> dict[str, torch.Tensor]:
    trunk, heads = made.random_parts(outputs, size)
    return {**trunk, **heads, "L2Norm.weight": torch.linspace(5, 25, 512)}


def test_lufficc_300_says_the_same_here():
    foreign = convert_checkpoint(made.lufficc(21), "x.pth")
    assert foreign.format == "lufficc/SSD"
    assert foreign.settings.class_names == VOC
    assert foreign.settings.postprocessing.max_detections == 100
    assert_same_numbers(foreign, with_amdegroots_names(21, 300), "voc", 21)


def test_lufficcs_first_release_has_other_keys_for_the_same_thing():
    new, old = convert_checkpoint(made.lufficc(81), "x"), convert_checkpoint(made.lufficc(81, old=True), "x")
    assert new.settings == old.settings
    assert new.state_dict.keys() == old.state_dict.keys()
    assert all(torch.equal(new.state_dict[name], old.state_dict[name]) for name in new.state_dict)


def test_lufficc_512_has_the_boxes_of_its_configurations():
    for outputs, table in ((21, "voc"), (81, "coco")):
        boxes = default_boxes(convert_checkpoint(made.lufficc(outputs, 512), "x").settings.boxes)
        assert boxes.shape == (24564, 4)
        torch.testing.assert_close(
            boxes, foreign_forward.decoded(torch.zeros(24564, 4), foreign_forward.priors_of(table, 512))
        )


@pytest.mark.slow
@pytest.mark.parametrize(("outputs", "table"), [(21, "voc"), (81, "coco")])
def test_lufficc_512_says_the_same_here(outputs, table):
    foreign = convert_checkpoint(made.lufficc(outputs, 512), "x.pth")
    assert foreign.settings.network.input_size == 512
    assert_same_numbers(foreign, with_amdegroots_names(outputs, 512), table, outputs)


def test_lufficc_with_other_classes_asks_which_boxes_it_had():
    with pytest.raises(CheckpointError, match=r"x\.pth: has 3 classes, and does not say which default boxes"):
        convert_checkpoint(made.lufficc(4), "x.pth")
    foreign = convert_checkpoint(made.lufficc(4), "x.pth", box_table="coco")
    assert foreign.settings.boxes.min_sizes[0] == 21
