import pytest
import torch

from ssd.audit.fit_boxes import fit
from ssd.experiment import config_file as configs
from ssd.experiment.starting_settings import build_settings
from ssd.multibox.best_overlaps import best_overlaps
from ssd.multibox.default_boxes import default_boxes
from ssd.settings import Preprocessing
from tests.audit.made import boxes


def at(width: float, height: float, count: int = 40) -> torch.Tensor:
    """Boxes of one size at places that fit no grid."""
    places = torch.rand(count, 2, generator=torch.Generator().manual_seed(0)) * (1 - torch.tensor([width, height]))
    return torch.cat([places, places + torch.tensor([width, height])], dim=1)


def recall(objects: torch.Tensor, settings) -> float:
    return float((best_overlaps(objects, settings) >= 0.5).float().mean())


def test_small_objects_pull_the_sizes_down():
    objects = at(0.06, 0.06)
    fitted = fit(objects, boxes(), boxes(table="coco"))
    assert recall(objects, boxes()) < 0.5
    assert recall(objects, fitted.settings(boxes())) > 0.95
    assert fitted.sizes[0] < 0.08


def test_long_objects_change_the_ratios():
    objects = at(0.8, 0.16)
    fitted = fit(objects, boxes())
    assert best_overlaps(objects, fitted.settings(boxes())).mean() > best_overlaps(objects, boxes()).mean() + 0.05
    assert any(4.0 in ratios for ratios in fitted.ratios)


def test_the_networks_shape_stays():
    base = boxes()
    fitted = fit(at(0.8, 0.16), base)
    assert len(default_boxes(fitted.settings(base))) == 8732
    assert list(map(len, fitted.ratios)) == list(map(len, base.aspect_ratios))
    assert all(low < high for low, high in zip(fitted.sizes[:-1], fitted.sizes[1:], strict=True))


def test_objects_that_are_default_boxes_already_change_nothing():
    base = boxes(96)
    tiled = default_boxes(base)
    fitted = fit(tiled[:: len(tiled) // 50], base)
    assert fitted.settings(base).min_sizes == pytest.approx(base.min_sizes)
    assert fitted.ratios == base.aspect_ratios


def test_the_same_objects_give_the_same_fit():
    objects = at(0.3, 0.1)
    assert fit(objects, boxes()) == fit(objects, boxes())


def test_one_object_is_enough():
    assert recall(at(0.5, 0.5, count=1), fit(at(0.5, 0.5, count=1), boxes(96)).settings(boxes(96))) == 1


def test_the_config_values_say_the_same():
    base = boxes()
    fitted = fit(at(0.06, 0.09), base)
    config = configs.from_dict({"model": fitted.config()})
    again = build_settings(config, ("object",), Preprocessing()).boxes
    assert again.min_sizes == pytest.approx(fitted.settings(base).min_sizes)
    assert again.max_sizes == pytest.approx(fitted.settings(base).max_sizes)
    assert again.aspect_ratios == fitted.ratios
