"""The path of a batch on a CUDA device: it waits once, and gives the CPU's detections. Proven without such a device."""

import contextlib
import dataclasses
import pickle
from unittest import mock

import numpy as np
import pytest
import torch

from ssd.errors import CheckpointError
from ssd.inference import cuda_graphs, device_steps
from ssd.inference.cuda_graphs import CudaGraphs
from ssd.inference.device_steps import DeviceSteps
from ssd.inference.pipelines import NetworkPipeline
from ssd.inference.runtime.torch import TorchRuntime
from ssd.model import factory
from ssd.multibox import postprocess
from ssd.settings import Postprocessing
from tests.inference.pretended_gpu import pretended_gpu
from tests.inference.test_detector import SETTINGS, picture, small_network

IMAGES = [picture(40, 60, seed=seed) for seed in range(3)]
RULES = Postprocessing(max_detections=30, box_voting=0.05)
FLOATS = dataclasses.replace(SETTINGS, preprocessing=dataclasses.replace(SETTINGS.preprocessing, resize="float"))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> DeviceSteps:
    """The steps for a device, with their fixed shapes, on the CPU."""
    monkeypatch.setattr(postprocess, "on_cpu", lambda tensor: False)
    steps = DeviceSteps(TorchRuntime(small_network(), torch.device("cpu")), SETTINGS)
    steps.graphs.enabled = False
    return steps


def wanted(rules: Postprocessing, settings=SETTINGS) -> list:
    pipeline = NetworkPipeline(small_network(), settings, device="cpu", precision="fp32", backend="torch")
    return pipeline.detect(pipeline.preprocess(IMAGES), rules).to_images()


def assert_same(found: list, expected: list) -> None:
    assert [len(image) for image in found] == [len(image) for image in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.labels.tolist() == theirs.labels.tolist()
        # The CPU's own path computes some convolutions by another method.
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-5)


@pytest.mark.parametrize(
    ("precision", "dtype", "rules"),
    [
        ("bf16", torch.uint8, RULES),
        ("fp16", torch.float32, Postprocessing(clip="before", top_k=20)),
        ("fp32", torch.uint8, Postprocessing(max_detections=300)),
    ],
)
def test_a_batch_waits_for_the_device_once(precision, dtype, rules):
    with pretended_gpu() as waits:
        network = factory.from_settings(SETTINGS)
        pipeline = NetworkPipeline(network, SETTINGS, device="cuda", precision=precision, backend="torch")
        inputs = torch.empty(3, 64, 64, 3, dtype=dtype).permute(0, 3, 1, 2)
        waits.found.clear()  # loading may wait
        launched = pipeline._on_device.launch(inputs, rules)
        assert launched.packed.is_cuda
        assert launched.packed.shape == (3, 6 * rules.max_detections + 3)
        assert launched.predictions.logits.dtype == torch.float32
        assert waits.found == []
        found = pipeline.detect(inputs, rules)
        assert waits.found == ["aten._to_copy.default to the host"]
        assert found.boxes.shape == (3, rules.max_detections, 4)
        pipeline.postprocess(pipeline.predict(inputs), rules)  # as the evaluation does
        assert len(waits.found) == 2


@pytest.mark.parametrize(
    "mistake",
    [
        lambda on_gpu: on_gpu[on_gpu > 0],
        lambda on_gpu: on_gpu.sum().item(),
        lambda on_gpu: on_gpu.nonzero(),
        lambda on_gpu: on_gpu.cpu(),
        lambda on_gpu: on_gpu + torch.ones(5),
        lambda on_gpu: torch.ones(5).to("cuda"),
        lambda on_gpu: on_gpu[torch.tensor([0, 1])],
    ],
    ids=["mask", "item", "nonzero", "download", "host operand", "upload", "host index"],
)
def test_the_list_of_waits_sees_each_kind(mistake):
    with pretended_gpu() as waits, torch.inference_mode():
        on_gpu = torch.empty(5, device="cuda")
        try:
            mistake(on_gpu)
        except (RuntimeError, AssertionError):
            return
        assert waits.found


@pytest.mark.parametrize("rules", [RULES, Postprocessing(clip="before", iou_threshold=0.2)], ids=["voting", "original"])
def test_the_detections_are_those_of_the_cpu(steps, rules):
    assert_same(steps.detect(steps.preprocess(IMAGES), rules).to_images(), wanted(rules))
    predictions = steps.predict(steps.preprocess(IMAGES))
    assert_same(steps.postprocess(predictions, rules).to_images(), wanted(rules))


def test_weights_that_want_a_resize_in_floats_get_floats(monkeypatch):
    monkeypatch.setattr(postprocess, "on_cpu", lambda tensor: False)
    steps = DeviceSteps(TorchRuntime(small_network(), torch.device("cpu")), FLOATS)
    inputs = steps.preprocess(IMAGES)
    assert inputs.dtype == torch.float32
    assert_same(steps.detect(inputs, RULES).to_images(), wanted(RULES, FLOATS))


def test_8_bit_images_go_up_as_they_are(steps):
    inputs = steps.preprocess(IMAGES)
    assert inputs.dtype == torch.uint8
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_images_left_unfinished_are_completed(steps, monkeypatch):
    quick = device_steps.postprocess_without_waiting
    done = []

    def leaves_the_second(predictions, *words):
        found, unfinished = quick(predictions, *words)
        found.counts[1] = 0
        found.scores[1] = 0
        return found, unfinished | (torch.arange(len(unfinished)) == 1)

    def finish(found, again, *words):
        done.append(again.tolist())
        return postprocess.finish(found, again, *words)

    monkeypatch.setattr(device_steps, "postprocess_without_waiting", leaves_the_second)
    monkeypatch.setattr(device_steps, "finish", finish)
    assert_same(steps.detect(steps.preprocess(IMAGES), RULES).to_images(), wanted(RULES))
    assert done == [[1]]


def test_predictions_that_are_not_finite_are_an_error(steps):
    predictions = steps.predict(steps.preprocess(IMAGES))
    with torch.inference_mode():
        predictions.logits[1, 0, 0] = torch.nan
    with pytest.raises(CheckpointError, match="not finite"):
        steps.postprocess(predictions, RULES)


def test_the_steps_can_be_pickled(steps):
    twin = pickle.loads(pickle.dumps(steps))
    assert_same(twin.detect(twin.preprocess(IMAGES), RULES).to_images(), wanted(RULES))


class Recorder:
    """Replays by computing again from the recorded input into the recorded output, as a CUDA graph does."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, call, device):
        outputs = call()
        self.sizes.append(len(outputs))
        return lambda: outputs.copy_(call()), outputs


def brightness(images, rules):
    return images.float().mean(dim=(1, 2, 3)) + rules.score_threshold


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def graphs_with(record) -> CudaGraphs:
    return CudaGraphs(brightness, torch.device("cpu"), record)


def test_a_batch_size_is_recorded_when_it_comes_again_and_then_replayed():
    record = Recorder()
    graphs = graphs_with(record)
    for seed in range(4):
        images = pixels(4, seed)
        assert torch.equal(graphs(images, RULES), brightness(images, RULES))
    assert record.sizes == [4]


def test_batches_are_padded_to_a_power_of_two():
    record = Recorder()
    graphs = graphs_with(record)
    for seed, count in enumerate((5, 8, 7, 1, 1, 64, 33, 65, 65)):
        images = pixels(count, seed)
        assert torch.equal(graphs(images, RULES)[:count], brightness(images, RULES))
    assert record.sizes == [8, 1, 64]


def test_other_rules_are_another_graph():
    record = Recorder()
    graphs = graphs_with(record)
    for rules in (RULES, RULES, Postprocessing(score_threshold=0.3), Postprocessing(score_threshold=0.3)):
        assert torch.equal(graphs(pixels(2), rules), brightness(pixels(2), rules))
    assert record.sizes == [2, 2]


def test_the_oldest_of_many_graphs_goes(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "_MOST_GRAPHS", 2)
    record = Recorder()
    graphs = graphs_with(record)
    for count in (1, 1, 2, 2, 4, 4, 2, 1, 1):
        graphs(pixels(count), RULES)
    assert record.sizes == [1, 2, 4, 1]


def test_where_recording_fails_everything_is_launched_as_usual(caplog):
    def fails(call, device):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    graphs = graphs_with(fails)
    for seed in range(4):
        images = pixels(3, seed)
        assert torch.equal(graphs(images, RULES), brightness(images, RULES))
    assert [record.message for record in caplog.records] == [
        "no CUDA graphs, which makes small batches slower: operation not permitted when stream is capturing"
    ]


def test_a_failure_frees_the_graphs_that_are_no_longer_replayed():
    record = Recorder()
    graphs = graphs_with(lambda call, device: record(call, device) if len(record.sizes) < 2 else out_of_memory())
    for count in (1, 1, 2, 2, 4, 4, 2):
        assert torch.equal(graphs(pixels(count), RULES)[:count], brightness(pixels(count), RULES))
    assert record.sizes == [1, 2]
    assert not graphs.enabled
    assert not graphs._graphs


def out_of_memory():
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_graphs_share_a_pool_of_memory_and_a_failed_capture_gives_the_thread_its_stream_back(monkeypatch):
    class Stream:
        def wait_stream(self, other) -> None: ...

    own, pools, streams = Stream(), [], []

    @contextlib.contextmanager
    def capture(graph, pool, stream, capture_error_mode):
        pools.append(pool)
        yield
        if len(pools) == 3:
            raise RuntimeError("capture failed")

    cuda = torch.cuda
    for name, value in {
        "device": lambda _: contextlib.nullcontext(),
        "stream": lambda _: contextlib.nullcontext(),
        "current_stream": lambda: own,
        "Stream": Stream,
        "CUDAGraph": mock.Mock,
        "graph_pool_handle": lambda: (0, 7),
        "graph": capture,
        "set_stream": streams.append,
    }.items():
        monkeypatch.setattr(cuda, name, value)
    record = cuda_graphs.CudaGraphRecorder()
    for _ in range(2):
        assert record(lambda: 3, torch.device("cpu"))[1] == 3
    with pytest.raises(RuntimeError, match="capture failed"):
        record(lambda: 3, torch.device("cpu"))
    assert pools == [(0, 7)] * 3
    assert streams == [own] * 3
    assert not cuda_graphs._ONE_AT_A_TIME.locked()


def test_replayed_steps_give_the_same_detections(steps):
    def record(call, device):
        outputs = call()

        def replay() -> None:
            again = call()
            outputs.packed.copy_(again.packed)
            outputs.predictions.logits.copy_(again.predictions.logits)
            outputs.predictions.offsets.copy_(again.predictions.offsets)

        return replay, outputs

    steps.graphs = CudaGraphs(steps.launch, torch.device("cpu"), record)
    for _ in range(3):
        assert_same(steps.detect(steps.preprocess(IMAGES), RULES).to_images(), wanted(RULES))
    assert_same(steps.detect(steps.preprocess(IMAGES[::-1]), RULES).to_images()[::-1], wanted(RULES))


def test_a_variable_turns_graphs_off(monkeypatch):
    runtime = TorchRuntime(small_network(), torch.device("cpu"))
    assert DeviceSteps(runtime, SETTINGS).graphs.enabled
    monkeypatch.setenv("SSD_CUDA_GRAPHS", "0")
    assert not DeviceSteps(runtime, SETTINGS).graphs.enabled


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_gpu_records_graphs_and_finds_what_the_cpu_finds():
    pipeline = NetworkPipeline(small_network(), SETTINGS, device="cuda", precision="fp32", backend="torch")
    rules = Postprocessing(score_threshold=0.2, max_detections=30)
    expected = wanted(rules)
    for _ in range(3):  # launched, recorded, replayed
        found = pipeline.detect(pipeline.preprocess(IMAGES), rules).to_images()
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    assert pipeline._on_device.graphs.enabled
