"""torchvision's ssdlite320_mobilenet_v3_large: its checkpoints give the very detections that torchvision gives."""

from pathlib import Path

import pytest
import torch
from torchvision.models import mobilenet_v3_large
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.ssdlite import SSDLiteHead, _mobilenet_extractor

from ssd.errors import CheckpointError
from ssd.images.any_image import as_image
from ssd.inference.load import load
from ssd.model.factory import from_settings
from ssd.multibox.default_boxes import default_boxes
from ssd.settings import Settings
from ssd.weights.ports.class_names import coco_by_id
from ssd.weights.ports.registry import convert_checkpoint
from tests.weights.ports.test_torchvision import assert_parity, images_of


@torch.no_grad()
def random_ssdlite(outputs: int, paths: list[Path]) -> torch.nn.Module:
    """A network with random weights and the statistics of these images; its head is sure of something here and there.

    Without the statistics of photographs a random network of this depth magnifies the last bits of every sum.
    """
    torch.manual_seed(outputs)
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=outputs)
    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in norms:
        layer.momentum = None  # the statistics of the next pass
        layer.weight.uniform_(0.7, 1.3)
        layer.bias.normal_(std=0.2)
    pixels = [torch.from_numpy(as_image(path)).permute(2, 0, 1).float() / 255 for path in paths]
    images = model.transform(pixels)[0].tensors
    model.head(list(model.train().backbone(images).values()))
    model.eval()
    features = list(model.backbone(images).values())
    for heads, spread in ((model.head.classification_head, 1.5), (model.head.regression_head, 0.7)):
        for layer, level in zip(heads.module_list, features, strict=True):
            layer[1].weight /= layer(level).std() / spread
            layer[1].bias.normal_(std=0.1)
    return model


@pytest.fixture(scope="module", params=[91, 4])
def model(request, tiny_coco) -> torch.nn.Module:
    return random_ssdlite(request.param, images_of(tiny_coco)[:8])


def test_detections_are_torchvisions(model, tiny_coco):
    assert_parity(model, images_of(tiny_coco)[:3])


@pytest.mark.slow
def test_detections_are_torchvisions_on_every_image(model, tiny_coco):
    paths = images_of(tiny_coco)
    assert len(paths) == 100
    assert_parity(model, paths)


def test_raw_outputs_are_torchvisions_to_the_last_bits(model):
    foreign = convert_checkpoint(model.state_dict(), "x")
    network = from_settings(foreign.settings).eval()
    network.load_state_dict(foreign.state_dict)
    images = torch.randn(1, 3, 320, 320)
    with torch.inference_mode():
        theirs = model.head(list(model.backbone(images).values()))
        ours = network(images)
    assert theirs["cls_logits"].std() > 0.5, "the comparison would be empty"
    torch.testing.assert_close(ours.offsets, theirs["bbox_regression"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.logits, theirs["cls_logits"], rtol=1e-4, atol=1e-4)


def test_default_boxes_and_thresholds_are_torchvisions(model):
    settings = convert_checkpoint(model.state_dict(), "x").settings
    grids = [torch.Size([grid, grid]) for grid in settings.boxes.grids]
    cxcywh = model.anchor_generator._grid_default_boxes(grids, [320, 320])
    theirs = torch.cat([cxcywh[:, :2] - cxcywh[:, 2:] / 2, cxcywh[:, :2] + cxcywh[:, 2:] / 2], dim=1)
    torch.testing.assert_close(default_boxes(settings.boxes), theirs)
    assert len(theirs) == 3234
    rules = settings.postprocessing
    assert (rules.score_threshold, rules.iou_threshold) == (model.score_thresh, model.nms_thresh)
    assert (rules.top_k, rules.max_detections) == (model.topk_candidates, model.detections_per_img)
    assert [mean / 255 for mean in settings.preprocessing.mean] == model.transform.image_mean
    assert Settings.from_dict(settings.to_dict()) == settings


def test_batch_norms_have_torchvisions_eps_and_momentum():
    settings = convert_checkpoint(ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).state_dict(), "x")
    layers = from_settings(settings.settings).modules()
    assert {(x.eps, x.momentum) for x in layers if isinstance(x, torch.nn.BatchNorm2d)} == {(0.001, 0.03)}


def test_a_file_that_torch_saved_loads_and_names_its_classes(model, tmp_path):
    path = tmp_path / "model.pth"
    torch.save(model.state_dict(), path)
    detector = load(path, device="cpu", precision="fp32")
    if len(detector.class_names) == 90:
        assert detector.class_names == coco_by_id()
    else:
        assert load(path, class_names=("a", "b", "c"), device="cpu").class_names == ("a", "b", "c")
    assert detector.input_size == 320


def test_a_backbone_of_full_width_is_told_apart():
    """As torchvision builds it around ImageNet's weights, which have the whole last stage."""
    norm = torch.nn.BatchNorm2d
    backbone = _mobilenet_extractor(mobilenet_v3_large(weights=None), 6, norm)
    head = SSDLiteHead([672, 960, 512, 256, 256, 128], [6] * 6, 3, norm)
    state = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    state |= {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    assert convert_checkpoint(state, "x").settings.network.backbone == "mobilenet_v3_large"


def test_a_changed_network_is_named(model):
    state = dict(model.state_dict())
    state["backbone.extra.2.1.0.weight"] = torch.zeros(128, 2, 3, 3)
    with pytest.raises(CheckpointError, match=r"x\.pth: extras\.conv10_2\.weight has shape \(128, 2, 3, 3\), not"):
        convert_checkpoint(state, "x.pth")
    del state["backbone.extra.2.1.0.weight"]
    with pytest.raises(CheckpointError, match=r"lacks 'backbone\.extra\.2\.1\.0\.weight'"):
        convert_checkpoint(state, "x.pth")
