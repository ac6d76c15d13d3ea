"""torchvision's ssd300_vgg16: its checkpoints give the very detections that torchvision gives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection import ssd300_vgg16

from ssd.boxes import iou_of_arrays
from ssd.images.any_image import as_image
from ssd.inference.detections import Detections
from ssd.inference.detector import Detector
from ssd.inference.load import load
from ssd.inference.pipelines import NetworkPipeline
from ssd.model.factory import from_settings
from ssd.multibox.default_boxes import default_boxes
from ssd.weights.ports.class_names import coco_by_id
from ssd.weights.ports.registry import convert_checkpoint


@torch.no_grad()
def random_torchvision(outputs: int) -> torch.nn.Module:
    """A network whose random head is loud enough to be sure of something here and there."""
    torch.manual_seed(outputs)
    model = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=outputs).eval()
    features = list(model.backbone(torch.randn(1, 3, 300, 300) * 50).values())
    for heads, spread in ((model.head.classification_head, 2.5), (model.head.regression_head, 1.0)):
        for layer, level in zip(heads.module_list, features, strict=True):
            layer.weight /= layer(level).std() / spread
    return model


@pytest.fixture(scope="module", params=[91, 4])
def model(request) -> torch.nn.Module:
    return random_torchvision(request.param)


def images_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*2017/*.jpg"))


def assert_same_detections(ours: Detections, theirs: dict[str, Tensor], suppressed_above: float) -> None:
    """As many, and each has its counterpart: same label, boxes within 0.1 pixel, scores within 1e-4.

    Rounding alone decides about a box whose IoU with one of its class is the threshold of the suppression. Where that
    has happened, it and the detections that take its place and follow from it, four at most, may have no counterpart.
    """
    boxes, scores, labels = (theirs[key].numpy() for key in ("boxes", "scores", "labels"))
    assert len(ours) == len(boxes)
    assert len(np.unique(scores.round(4))) > 5, "the comparison would be empty"
    free, alone = np.ones(len(boxes), bool), []
    for row, (box, score, label) in enumerate(zip(ours.boxes, ours.scores, ours.labels, strict=True)):
        close = np.abs(boxes - box).max(axis=1) <= 0.1
        fits = free & close & (labels == label + 1) & (np.abs(scores - score) <= 1e-4)
        if fits.any():
            free[fits.argmax()] = False
        else:
            alone.append(row)
    if alone:
        rows = [*alone, *(len(ours) + np.flatnonzero(free))]
        both, classes = np.concatenate([ours.boxes, boxes]), np.concatenate([ours.labels + 1, labels])
        overlaps = iou_of_arrays(both[rows].astype(np.float32), both.astype(np.float32))
        tied = (np.abs(overlaps - suppressed_above) < 1e-5) & (classes[rows][:, None] == classes)
        assert tied.any(), f"nothing like {ours[alone[:1]]}, {ours.boxes[alone[0]]}"
        assert len(rows) <= 4


def assert_parity(model: torch.nn.Module, paths: list[Path]) -> None:
    foreign = convert_checkpoint(model.state_dict(), "torchvision")
    network = from_settings(foreign.settings)
    network.load_state_dict(foreign.state_dict)
    detector = Detector(NetworkPipeline(network, foreign.settings, device="cpu", precision="fp32", backend="torch"))
    for path in paths:
        image = as_image(path)
        with torch.inference_mode():
            (theirs,) = model([torch.from_numpy(image).permute(2, 0, 1).float() / 255])
        assert_same_detections(detector.detect(image), theirs, model.nms_thresh)


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
    images = torch.randn(1, 3, 300, 300) * 60
    with torch.inference_mode():
        theirs = model.head(list(model.backbone(images).values()))
        ours = network(images)
    torch.testing.assert_close(ours.offsets, theirs["bbox_regression"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.logits, theirs["cls_logits"], rtol=1e-4, atol=1e-4)


def test_default_boxes_are_torchvisions(model):
    foreign = convert_checkpoint(model.state_dict(), "x")
    grids = [torch.Size([grid, grid]) for grid in (38, 19, 10, 5, 3, 1)]
    cxcywh = model.anchor_generator._grid_default_boxes(grids, [300, 300])
    theirs = torch.cat([cxcywh[:, :2] - cxcywh[:, 2:] / 2, cxcywh[:, :2] + cxcywh[:, 2:] / 2], dim=1)
    torch.testing.assert_close(default_boxes(foreign.settings.boxes), theirs)


def test_a_file_that_torch_saved_loads_and_names_its_classes(model, tmp_path):
    path = tmp_path / "model.pth"
    torch.save(model.state_dict(), path)
    detector = load(path, device="cpu", precision="fp32")
    if model.head.classification_head.num_columns == 91:
        assert detector.class_names == coco_by_id()
        assert detector.class_names[16] == "cat"
    else:
        assert detector.class_names == ("class_0", "class_1", "class_2")
        assert load(path, class_names=("a", "b", "c"), device="cpu").class_names == ("a", "b", "c")
