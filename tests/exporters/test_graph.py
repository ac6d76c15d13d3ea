import pytest
import torch
import torch.nn.functional as F
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from ssd.exporters.graph import Chosen, DetectionGraph, best_of_each_class, resize, suppress, suppress_by_torchvision
from ssd.inference.runtime.facts import Facts, as_found, join, stack
from ssd.model.factory import from_settings
from tests.exporters import made
from tests.inference.pretended_gpu import pretended_gpu


@pytest.mark.parametrize("size", [(48, 91), (64, 64), (200, 31), (2, 500)])
@pytest.mark.parametrize("side", [64, 75])
def test_resize_is_bilinear_interpolation_of_floats(size, side):
    images = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    expected = F.interpolate(images.permute(0, 3, 1, 2).float(), size=(side, side), mode="bilinear")
    torch.testing.assert_close(resize(images, side).permute(0, 3, 1, 2), expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("resize", ["uint8", "float", "antialias", "area"])
@pytest.mark.parametrize("top_k", [5, 50, 400])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_the_graph_computes_what_the_detector_does(resize, top_k, plain, sigma):
    settings = made.settings(resize, top_k=top_k, box_voting=sigma)
    detector, images = made.detector(settings), made.images()
    expected = detector.postprocess(detector.predict(detector.preprocess(images)))
    graph = DetectionGraph(made.network(), settings, suppress_by_torchvision if plain else None).eval()
    with torch.inference_mode():
        found = join([as_found(graph(torch.from_numpy(batch))) for batch in stack(images, Facts(settings))])
    assert found.counts.tolist() == expected.counts.tolist()
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.boxes, expected.boxes, atol=1e-4, rtol=0)


@pytest.mark.parametrize("resize", ["float", "area"])
def test_on_a_gpu_the_graph_makes_no_tensor_on_the_host_and_waits_for_nothing(resize):
    settings = made.settings(resize, top_k=5, box_voting=0.05)
    with pretended_gpu() as waits, torch.inference_mode():
        graph = DetectionGraph(from_settings(settings), settings).eval().to("cuda")
        images = torch.empty(2, 64, 64, 3, dtype=torch.uint8, device="cuda")
        waits.found.clear()  # `to` waits
        outputs = graph(images)
        assert {output.device.type for output in outputs} == {"cuda"}
        assert waits.found == []


def test_on_a_gpu_torchvisions_suppression_makes_no_tensor_on_the_host(monkeypatch):
    monkeypatch.setattr("ssd.exporters.graph.nms", lambda boxes, scores, threshold: scores.argsort())
    with pretended_gpu(ShapeEnv()) as waits:
        boxes, scores = torch.empty(2, 10, 4, device="cuda"), torch.empty(2, 3, 10, device="cuda")
        assert suppress_by_torchvision(boxes, scores, 0.5).device.type == "cuda"
        # The boxes above the threshold:
        assert waits.found == ["aten.nonzero.default gives a shape that depends on numbers"]


def test_suppression_goes_class_by_class_and_image_by_image():
    near, far = [0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]
    boxes = torch.tensor([[near, near, far], [near, far, far]])
    scores = torch.tensor([[[0.9, 0.8, 0.7], [0.0, 0.6, 0.5]], [[0.3, 0.2, 0.4], [0.0, 0.0, 0.0]]])
    expected = torch.tensor([[[0.9, 0.0, 0.7], [0.0, 0.6, 0.5]], [[0.3, 0.0, 0.4], [0.0, 0.0, 0.0]]])
    assert torch.equal(suppress(boxes, scores, 0.45), expected)


def test_nothing_above_the_threshold_is_all_padding():
    rules = made.settings(score_threshold=0.9, max_detections=3).postprocessing
    boxes, scores, labels, counts = Chosen(rules, suppress)(torch.rand(2, 10, 4), torch.full((2, 3, 10), 0.9))
    assert counts.tolist() == [0, 0]
    assert boxes.shape == (2, 3, 4)
    assert not boxes.any()
    assert not scores.any()
    assert not labels.any()


def test_only_the_best_of_a_crowded_class_stay():
    scores = torch.tensor([[[0.1, 0.4, 0.3, 0.2], [0.0, 0.0, 0.5, 0.0]]])
    expected = torch.tensor([[[0.0, 0.4, 0.3, 0.0], [0.0, 0.0, 0.5, 0.0]]])
    assert torch.equal(best_of_each_class(scores, 2), expected)
    assert torch.equal(best_of_each_class(scores, 4), scores)
