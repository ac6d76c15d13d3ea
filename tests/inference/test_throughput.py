"""Many images on a CPU: several at once, with the results of one after the other; OpenVINO in other processes."""

import copy
import multiprocessing
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch

import ssd
from ssd.errors import ImageError
from ssd.inference.detector import Detector
from ssd.inference.pipelines import NetworkPipeline
from tests.inference.test_detector import SETTINGS, picture, small_network


@pytest.fixture(scope="module", params=["openvino", "torch"])
def detector(request, tmp_path_factory) -> Detector:
    if request.param == "openvino":
        pytest.importorskip("openvino")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSD_HOME", str(tmp_path_factory.mktemp("cache")))
        return Detector(NetworkPipeline(small_network(), SETTINGS, backend=request.param, precision="fp32"))


@pytest.fixture
def two_streams(monkeypatch):
    """OpenVINO makes as many streams as PyTorch has threads, and PyTorch computes as many images at once."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def assert_same(found: list[ssd.Detections], expected: list[ssd.Detections]) -> None:
    assert [len(each) for each in found] == [len(each) for each in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        assert (one.labels == other.labels).all()


IMAGES = [picture(40 + 3 * index, 70 - index, index) for index in range(9)]


def test_many_images_are_computed_at_once_with_the_results_of_one_by_one(detector, two_streams):
    many, callers = copy.deepcopy(detector).for_throughput()
    assert callers >= 2
    expected = [detector.detect(image) for image in IMAGES]
    assert_same(detector.detect_batch(IMAGES), expected)
    assert_same(many.detect_batch(IMAGES, 2), expected)
    assert_same(detector.detect_batch(IMAGES, tiles=2), [detector.detect(image, tiles=2) for image in IMAGES])


def test_single_images_and_batches_of_one_stay_with_the_fast_answer(detector, monkeypatch):
    monkeypatch.setattr(type(detector.pipeline), "for_throughput", lambda self: pytest.fail("for many images"))
    assert len(detector.detect_batch(IMAGES[:1])) == 1
    assert len(detector.detect_batch(IMAGES[:3], 1)) == 3


@pytest.mark.parametrize(("images", "batch_size", "each"), [(9, 8, 1), (2, 8, 2), (9, 2, 4), (1, 8, 4)])
def test_the_images_at_once_divide_the_threads_of_pytorch(images, batch_size, each, monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        detector = Detector(NetworkPipeline(small_network(), SETTINGS, backend="torch", precision="fp32"))
        seen: list[int] = []
        predict = detector.pipeline._runtime.predict
        monkeypatch.setattr(
            detector.pipeline._runtime, "predict", lambda batch: seen.append(torch.get_num_threads()) or predict(batch)
        )
        detector.detect_batch(IMAGES[:images], batch_size)
        assert seen == [each] * images
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_no_more_images_are_taken_than_the_batch_size(detector, two_streams):
    taken: list[int] = []

    def images():
        for index in range(50):
            taken.append(index)
            yield IMAGES[0]

    stream = copy.deepcopy(detector).detect_stream(images(), batch_size=3)
    for number in range(1, 5):
        next(stream)
        assert len(taken) <= number + 3
    stream.close()


def test_an_unreadable_image_is_raised_after_those_before_it(detector, two_streams):
    stream = copy.deepcopy(detector).detect_stream([IMAGES[0], IMAGES[1], b"no image", IMAGES[2]])
    assert [next(stream).image_size for _ in range(2)] == [image.shape[:2] for image in IMAGES[:2]]
    with pytest.raises(ImageError):
        next(stream)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda detector: pickle.loads(pickle.dumps(detector))])
def test_a_copy_finds_the_same(copied, detector, two_streams):
    twin = copied(detector)
    twin = copied(twin)  # OpenVINO exports no model that it has imported
    assert_same([twin.detect(IMAGES[0])], [detector.detect(IMAGES[0])])
    assert_same(twin.detect_batch(IMAGES), detector.detect_batch(IMAGES))
    assert_same(copied(twin).detect_batch(IMAGES), detector.detect_batch(IMAGES))  # which has both kinds of models


def test_threads_that_share_a_detector_find_the_same(detector):
    expected, found = detector.detect_batch(IMAGES), {}
    threads = [
        threading.Thread(target=lambda key=key: found.update({key: detector.detect_batch(IMAGES)})) for key in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    for each in found.values():
        assert_same(each, expected)


@pytest.mark.slow
def test_a_detector_works_in_a_pool_of_spawned_processes(detector):
    expected = [detector.detect(image) for image in IMAGES[:4]]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert_same(list(pool.map(detector.detect, IMAGES[:4])), expected)
