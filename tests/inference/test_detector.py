import dataclasses
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import ssd
from ssd.errors import ArgumentError, CheckpointError, ConfigError, ImageError
from ssd.inference.detector import Detector
from ssd.inference.pipelines import NetworkPipeline
from ssd.model import factory
from ssd.multibox.postprocess import postprocess
from ssd.rules import READABLE_SCORE
from ssd.structures import Predictions
from ssd.weights.native import save_weights

SETTINGS = factory.settings_for(("cat", "dog", "cow"), input_size=64, width=0.125)


def small_network() -> torch.nn.Module:
    """Loud random weights: it finds something in every image, with scores of every size."""
    torch.manual_seed(0)
    network = factory.from_settings(SETTINGS)
    for level in network.head.classes:
        torch.nn.init.normal_(level.weight, std=0.05)
        level.bias.data.view(-1, 4)[:, 0] = 5  # background
    return network


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(NetworkPipeline(small_network(), SETTINGS, device="cpu", precision="fp32"))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def same(a: ssd.Detections, b: ssd.Detections) -> bool:
    return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ("boxes", "scores", "labels"))


def test_detections_are_sorted_inside_the_image_and_typed(detector):
    found = detector.detect(picture(47, 91))
    assert len(found) > 10
    assert (np.diff(found.scores) <= 0).all()
    assert found.boxes.min() >= 0
    assert (found.boxes <= [91, 47, 91, 47]).all()
    assert (found.boxes[:, 2:] >= found.boxes[:, :2]).all()
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int64)
    assert found.image_size == (47, 91)
    assert set(found.names) <= {"cat", "dog", "cow"}


def test_detect_is_its_three_steps(detector):
    image = picture(47, 91)
    predictions = detector.predict(detector.preprocess([image]))
    found = postprocess(predictions, detector.default_boxes, SETTINGS.postprocessing, SETTINGS.boxes.variances)
    detections = detector.detect(image)
    count = int(found.counts[0])
    assert len(detections) == count
    scale = np.array([91, 47, 91, 47])
    np.testing.assert_allclose(detections.boxes, found.boxes[0, :count].numpy() * scale, atol=1e-3)
    np.testing.assert_array_equal(detections.labels, found.labels[0, :count].numpy())


def test_every_kind_of_image_gives_the_same_detections(detector, tmp_path):
    image = picture(40, 60)
    data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    path = tmp_path / "Bild ä.png"
    path.write_bytes(data)
    expected = detector.detect(image)
    for source in (path, str(path), data, Image.open(io.BytesIO(data)), image[..., [0, 1, 2, 2]]):
        assert same(detector.detect(source), expected)
    assert same(detector.detect(image[..., ::-1], bgr=True), expected)
    assert not same(detector.detect(image[..., ::-1]), expected)


def test_detections_know_their_image(detector, tmp_path):
    image = picture(40, 60)
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    assert detector.detect(path).source == path
    assert np.shares_memory(detector.detect(image).source, image)
    for source, options in ((path, {}), (image, {}), (path.read_bytes(), {}), (image[..., ::-1], {"bgr": True})):
        found = detector.detect(source, score_threshold=0.2, max_detections=1, **options)
        assert (found.crop()[0] == detector.detect(image, max_detections=1).crop()[0]).all()
        assert found.plot().shape == (40, 60, 3)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_a_batch_gives_what_each_image_gives_alone(detector, batch_size):
    images = [picture(40 + 7 * i, 60 - 5 * i, seed=i) for i in range(5)]
    together = detector.detect_batch(images, batch_size, score_threshold=0.2)
    assert [found.image_size for found in together] == [image.shape[:2] for image in images]
    for found, image in zip(together, images, strict=True):
        alone = detector.detect(image, score_threshold=0.2)
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-2)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)
        np.testing.assert_array_equal(found.labels, alone.labels)


def test_no_images_give_no_detections(detector):
    assert detector.detect_batch([]) == []


def test_a_stream_asks_for_one_batch_at_a_time(detector):
    asked = []

    def pictures():
        for index in range(6):
            asked.append(index)
            yield picture(30, 30, seed=index)

    stream = detector.detect_stream(pictures(), 2)
    assert asked == []
    next(stream)
    assert asked == [0, 1]
    assert len(list(stream)) == 5


class OnAnotherDevice(NetworkPipeline):
    """It says that the CPU has time to read ahead."""

    device = "elsewhere"


@pytest.fixture(scope="module")
def elsewhere() -> Detector:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnAnotherDevice, "device", "cpu")
        pipeline = OnAnotherDevice(small_network(), SETTINGS, device="cpu", precision="fp32")
    return Detector(pipeline)


def test_the_next_batch_is_read_while_a_device_computes(elsewhere, detector):
    asked = []
    images = [picture(30, 30, seed=index) for index in range(7)]

    def pictures():
        for index, image in enumerate(images):
            asked.append(index)
            yield image

    stream = elsewhere.detect_stream(pictures(), 2)
    assert asked == []
    first = next(stream)
    assert asked == [0, 1, 2, 3]
    found = [first, *stream]
    expected = detector.detect_batch(images, 2)
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))


def test_a_camera_is_not_asked_for_the_next_image_first(elsewhere):
    asked = []

    def camera():
        for index in range(3):
            asked.append(index)
            yield picture(30, 30)

    next(elsewhere.detect_stream(camera(), 1))
    assert asked == [0]


def test_an_image_that_cannot_be_read_does_not_stop_the_batch_before_it(elsewhere, tmp_path):
    stream = elsewhere.detect_stream([picture(30, 30), picture(20, 30), tmp_path / "missing.jpg"], 2)
    assert len([next(stream), next(stream)]) == 2
    with pytest.raises(ImageError, match=r"missing\.jpg"):
        next(stream)


def test_tiles_are_searched_on_a_device_too(elsewhere, detector):
    image = picture(90, 90)
    assert same(elsewhere.detect(image, tiles=2), detector.detect(image, tiles=2))


def test_thresholds_are_arguments_and_the_weights_own_otherwise(detector):
    image = picture(50, 50)
    everything = detector.detect(image)
    assert everything.scores.min() > SETTINGS.postprocessing.score_threshold
    assert same(detector.detect(image, score_threshold=0.01, iou_threshold=0.45, max_detections=200), everything)
    confident = detector.detect(image, score_threshold=0.4)
    assert 0 < len(confident) < len(everything)
    assert confident.scores.min() > 0.4
    assert len(detector.detect(image, max_detections=3)) == 3
    assert len(detector.detect(image, iou_threshold=0.05)) < len(everything)
    assert len(detector.detect(image, score_threshold=1.0)) == 0


def test_drawing_shows_all_only_where_a_threshold_was_chosen(detector):
    image = picture(50, 50)
    assert detector.detect(image).draw_from == READABLE_SCORE
    assert detector.detect(image, score_threshold=0.01).draw_from == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("score_threshold", -0.1), ("score_threshold", 1.1), ("iou_threshold", float("nan")), ("max_detections", 0)],
)
def test_a_threshold_out_of_range_is_named_before_any_image_is_read(detector, name, value):
    with pytest.raises(ArgumentError, match=name):
        detector.detect("nowhere.jpg", **{name: value})


def test_what_is_no_image_is_named(detector, tmp_path):
    with pytest.raises(ImageError, match=r"nowhere\.jpg"):
        detector.detect(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="int64"):
        detector.detect(np.zeros((5, 5, 3), np.int64))
    with pytest.raises(ArgumentError, match="batch_size"):
        detector.detect_batch([], 0)


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (8000, 10)])
def test_odd_sizes_give_finite_boxes_inside_the_image(detector, size):
    found = detector.detect(np.zeros((*size, 3), np.uint8))
    assert np.isfinite(found.boxes).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [size[1], size[0]] * 2).all()


def test_weights_that_are_not_numbers_are_an_error_not_an_empty_answer():
    network = small_network()
    with torch.no_grad():
        network.head.classes[0].bias[0] = float("nan")
    with pytest.raises(CheckpointError, match="not finite"):
        Detector(NetworkPipeline(network, SETTINGS, precision="fp32")).detect(picture(30, 30))


def test_an_infinite_output_is_an_error_too(detector):
    predictions = detector.predict(detector.preprocess([picture(30, 30)]))
    logits = predictions.logits.clone()
    logits[0, 0, 0], logits[0, 1, 1] = float("inf"), float("-inf")
    with pytest.raises(CheckpointError, match="fp32"):
        detector.postprocess(Predictions(predictions.offsets, logits))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_network_given_stays_as_it_was(precision):
    network = small_network().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    detector = Detector(NetworkPipeline(network, SETTINGS, precision=precision))
    detector.detect(picture(30, 30))
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name])
    with torch.no_grad():
        network.head.classes[0].bias += 100
    assert same(
        detector.detect(picture(30, 30)),
        Detector(NetworkPipeline(small_network(), SETTINGS, precision=precision)).detect(picture(30, 30)),
    )


def test_bf16_predictions_come_in_fp32_and_close_by():
    image = picture(64, 64)
    exact, fast = (
        Detector(NetworkPipeline(small_network(), SETTINGS, device="cpu", precision=p)) for p in ("fp32", "bf16")
    )
    predictions = [d.predict(d.preprocess([image])) for d in (exact, fast)]
    assert predictions[1].logits.dtype == predictions[1].offsets.dtype == torch.float32
    spread = predictions[0].logits.abs().max()
    assert (predictions[0].logits - predictions[1].logits).abs().max() < 0.05 * spread


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"device": "abacus"}, ArgumentError),
        ({"device": "cuda:99"}, ArgumentError),
        ({"backend": "abacus"}, ArgumentError),
        ({"precision": "int3"}, ConfigError),
        ({"device": "cpu", "precision": "fp16"}, ConfigError),
    ],
)
def test_what_this_machine_does_not_have_is_named(options, kind):
    with pytest.raises(kind):
        Detector(NetworkPipeline(small_network(), SETTINGS, **options))


def test_load_gives_the_detector_that_was_saved(detector, tmp_path):
    path = tmp_path / "run" / "best.safetensors"
    path.parent.mkdir()
    save_weights(path, small_network().state_dict(), SETTINGS)
    expected = detector.detect(picture(40, 50))
    for source in (path, str(path), path.parent):
        loaded = ssd.load(source, device="cpu", precision="fp32")
        assert loaded.class_names == ("cat", "dog", "cow")
        assert same(loaded.detect(picture(40, 50)), expected)
    renamed = ssd.load(path, class_names=["a", "b", "c"])
    assert renamed.class_names == ("a", "b", "c")
    assert "SSD64 vgg16, 3 classes" in repr(renamed)


def test_load_names_what_it_cannot_use(tmp_path):
    path = tmp_path / "a.safetensors"
    save_weights(path, small_network().state_dict(), SETTINGS)
    with pytest.raises(CheckpointError, match="3 classes"):
        ssd.load(path, class_names=["a"])
    (tmp_path / "empty").mkdir()
    for source, problem in ((tmp_path / "empty", "no weights in this folder"), (tmp_path / "b.safetensors", "no such")):
        with pytest.raises(CheckpointError, match=problem):
            ssd.load(source)


def test_load_names_tensors_that_do_not_fit(tmp_path):
    state = small_network().state_dict()
    for change in (state | {"extra": torch.zeros(1)}, {k: v for k, v in state.items() if k != "head.boxes.0.bias"}):
        save_weights(tmp_path / "a.safetensors", change, SETTINGS)
        with pytest.raises(
            CheckpointError, match=r"a\.safetensors: its tensors do not fit.*(extra|head\.boxes\.0\.bias)"
        ):
            ssd.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("backbone", ["vgg16_bn", "vgg11"])
def test_load_brings_every_tensor(backbone, tmp_path):
    settings = factory.settings_for(("cat",), input_size=64, width=0.125, backbone=backbone, extras_norm="batch")
    network = factory.from_settings(settings).eval()
    save_weights(tmp_path / "a.safetensors", network.state_dict(), settings)
    loaded = ssd.load(tmp_path / "a.safetensors", precision="fp32", device="cpu")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.predict(images).logits, network(images).logits, rtol=1e-4, atol=1e-4)


def test_the_one_liner_loads_the_default_weights_once(detector, monkeypatch):
    loads = []

    def load(*_: object, **__: object) -> Detector:
        loads.append(1)
        return detector

    monkeypatch.setattr("ssd.inference.load.load", load)
    ssd.inference.load.default_detector.cache_clear()
    try:
        assert same(ssd.detect(picture(40, 50)), detector.detect(picture(40, 50)))
        assert len(ssd.detect(picture(40, 50), max_detections=1)) == 1
        assert loads == [1]
    finally:
        ssd.inference.load.default_detector.cache_clear()


def test_real_photographs_can_be_searched(detector, tiny_coco):
    paths = sorted(Path(tiny_coco).rglob("*.jpg"))[:4]
    for path, found in zip(paths, detector.detect_batch(paths), strict=True):
        assert found.source == path
        assert len(found) > 0


@pytest.mark.gpu
def test_cuda_finds_what_the_cpu_finds(detector):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    on_cuda = Detector(NetworkPipeline(small_network(), SETTINGS, device="cuda", precision="fp32"))
    a, b = (d.detect(picture(50, 60), score_threshold=0.3) for d in (detector, on_cuda))
    np.testing.assert_allclose(a.boxes, b.boxes, atol=0.1)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-3)


def test_more_detections_than_the_weights_keep_may_all_be_of_one_class(detector) -> None:
    rules = detector.settings.postprocessing
    assert detector.rules(max_detections=rules.max_detections).top_k == rules.top_k
    assert detector.rules(max_detections=rules.max_detections + 1).top_k > 100_000
    assert detector.rules(max_detections=rules.max_detections + 1, top_k=7).top_k == 7


def test_thresholds_that_nobody_named_are_no_lower_than_those_of_an_exported_graph(detector) -> None:
    inside = dataclasses.replace(detector.settings.postprocessing, score_threshold=0.6, own_thresholds=())
    names = detector.class_names
    assert inside.with_threshold({names[0]: 0.8}, names).score_threshold == (0.6 if len(names) > 1 else 0.8)
