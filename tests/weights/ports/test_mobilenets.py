"""qfgaohao's mb1-ssd and mb2-ssd-lite, and lufficc's MobileNet v2: the same numbers come out here as there."""

import pytest
import torch

from ssd.errors import CheckpointError
from ssd.inference.load import load
from ssd.model.factory import from_settings
from ssd.multibox.default_boxes import default_boxes
from ssd.settings import Settings
from ssd.weights.ports.class_names import COCO, VOC
from ssd.weights.ports.registry import convert_checkpoint
from tests.weights.ports.foreign_forward import decoded
from tests.weights.ports.foreign_mobilenets import Lufficc, Qfgaohao, priors, randomised

GRIDS = {300: (19, 10, 5, 3, 2, 1), 320: (20, 10, 5, 3, 2, 1)}
MAKERS = {
    "mb1-ssd": (lambda outputs: Qfgaohao(outputs, lite=False), 300, "qfgaohao/pytorch-ssd with MobileNet"),
    "mb2-ssd-lite": (lambda outputs: Qfgaohao(outputs, lite=True), 300, "qfgaohao/pytorch-ssd with MobileNet"),
    "lufficc": (Lufficc, 320, "lufficc/SSD with MobileNet v2"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_it_says_the_same_here(name):
    torch.manual_seed(0)
    make, size, kind = MAKERS[name]
    theirs = randomised(make(21), size)
    foreign = convert_checkpoint(theirs.state_dict(), "x.pth")
    settings = foreign.settings
    assert (foreign.format, settings.network.input_size, settings.class_names) == (kind, size, VOC)
    network = from_settings(settings).eval()
    network.load_state_dict(foreign.state_dict)
    images = torch.randn(1, 3, size, size)
    with torch.inference_mode():
        offsets, logits = theirs(images)
        ours = network(images)
    assert min(offsets.std(), logits.std()) > 0.1, "the comparison would be empty"
    torch.testing.assert_close(ours.offsets, offsets, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ours.logits, logits, rtol=1e-3, atol=1e-3)
    boxes = default_boxes(settings.boxes)
    torch.testing.assert_close(boxes, decoded(torch.zeros(len(boxes), 4), priors(size, GRIDS[size])))
    assert Settings.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize("name", MAKERS)
def test_a_saved_file_loads_with_any_number_of_classes(name, tmp_path):
    make, size, _ = MAKERS[name]
    torch.save(make(4).state_dict(), tmp_path / "x.pth")
    detector = load(tmp_path / "x.pth", class_names=("a", "b", "c"), device="cpu", backend="torch")
    assert (detector.input_size, detector.class_names) == (size, ("a", "b", "c"))
    with pytest.raises(CheckpointError, match="has 3 classes, and 2 class names"):
        load(tmp_path / "x.pth", class_names=("a", "b"))


def test_each_has_its_own_preprocessing():
    qfgaohao = convert_checkpoint(Qfgaohao(21, lite=True).state_dict(), "x").settings
    assert (qfgaohao.preprocessing.mean, qfgaohao.preprocessing.std) == ((127,) * 3, (128,) * 3)
    assert (qfgaohao.preprocessing.resize, qfgaohao.postprocessing.top_k) == ("uint8", 200)
    lufficc = convert_checkpoint(Lufficc(81).state_dict(), "x").settings
    assert (lufficc.preprocessing.mean, lufficc.preprocessing.std) == ((123, 117, 104), (1, 1, 1))
    assert (lufficc.class_names, lufficc.postprocessing.max_detections) == (COCO, 100)


def test_files_older_than_the_counter_of_batches_load():
    state = {name: x for name, x in Lufficc(4).state_dict().items() if not name.endswith("num_batches_tracked")}
    assert convert_checkpoint(state, "x").settings.num_classes == 3


def test_another_width_is_named():
    state = dict(Qfgaohao(4, lite=True).state_dict())
    state["base_net.2.conv.3.weight"] = torch.zeros(48, 1, 3, 3)
    with pytest.raises(CheckpointError, match=r"x\.pth: backbone\.2\.conv\.1\.0\.weight has shape \(48, 1, 3, 3\)"):
        convert_checkpoint(state, "x.pth")
