"""Timings of a GPU: network, post-processing, images to detections, training, compared with torchvision's SSD300."""

import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from ssd.benchmark import torchvision_baseline
from ssd.benchmark.gpu.sections import SkippedError
from ssd.benchmark.gpu.setup import Setup, one_step
from ssd.data.augment.transforms import TrainTransform
from ssd.data.loading.loader import TrainLoader
from ssd.data.shapes.dataset import shapes
from ssd.images.preprocess import mean_colour
from ssd.inference.detector import Detector
from ssd.inference.pipelines import NetworkPipeline
from ssd.multibox.postprocess import postprocess_without_waiting
from ssd.settings import Postprocessing
from ssd.structures import Predictions
from ssd.system.device import ieee_fp32

_GFLOP_91 = 69.7  # of SSD300 with 91 columns, an image


def network(setup: Setup) -> dict[str, Any]:
    """The network alone, in every format, compared with torchvision's in its default format."""
    figures: dict[str, Any] = {}
    for name, dtype, graph in _formats(setup):
        switch = ieee_fp32() if name == "fp32" else contextlib.nullcontext()
        ours = setup.network.to(setup.device, dtype).to(memory_format=torch.channels_last)
        for batch in setup.batches:
            images = torch.randn(batch, 3, *[setup.settings.network.input_size] * 2, device=setup.device, dtype=dtype)
            call = _inference(ours, images.to(memory_format=torch.channels_last), captured=graph)
            with switch:
                figures |= rate(setup, f"ours {name}", batch, setup.milliseconds(call))
        setup.network.to("cpu", torch.float32)
    if not setup.tiny:
        theirs = torchvision_baseline.new_model().to(setup.device).eval()
        for batch in setup.batches:
            pixels = torch.randn(batch, 3, 300, 300, device=setup.device)
            call = _inference(nn.Sequential(theirs.backbone), pixels)
            figures |= rate(setup, "torchvision's backbone, as it comes", batch, setup.milliseconds(call))
    return figures


def _formats(setup: Setup) -> list[tuple[str, torch.dtype, bool]]:
    if setup.device.type != "cuda":
        return [("fp32", torch.float32, False)]
    rows = [("fp32", torch.float32), ("TF32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
    return [(name, dtype, False) for name, dtype in rows] + [("bf16 CUDA graph", torch.bfloat16, True)]


def _inference(module: nn.Module, images: Tensor, *, captured: bool = False) -> Callable[[], object]:
    """A call of the network, or the replay of its CUDA graph."""

    @torch.inference_mode()
    def call() -> object:
        return module(images)

    if not captured:
        return call
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        module(images)
    return graph.replay


def rate(setup: Setup, name: str, batch: int, milliseconds: float) -> dict[str, float]:
    """Milliseconds, images per second and TFLOP/s of a batch."""
    figures = {
        f"{name}, batch {batch}: ms": milliseconds,
        f"{name}, batch {batch}: images/s": 1000 * batch / milliseconds,
    }
    if not setup.tiny:
        figures[f"{name}, batch {batch}: TFLOP/s"] = _GFLOP_91 * batch / milliseconds
    return figures


def postprocessing(setup: Setup) -> dict[str, Any]:
    """From predictions on the device to detections on the device."""
    figures: dict[str, Any] = {}
    boxes, variances = setup.default_boxes.to(setup.device), setup.settings.boxes.variances
    for worst in (False, True):
        for batch in setup.batches:
            host = setup.predictions(min(batch, 8), worst=worst)
            repeat = -(-batch // len(host.logits))
            there = Predictions(
                host.offsets.to(setup.device).repeat(repeat, 1, 1)[:batch],
                host.logits.to(setup.device).repeat(repeat, 1, 1)[:batch],
            )

            @torch.inference_mode()
            def call(there: Predictions = there) -> object:
                return postprocess_without_waiting(there, boxes, Postprocessing(box_voting=0.05), variances)

            figures |= {f"{'worst' if worst else 'typical'}, batch {batch}: ms": setup.milliseconds(call)}
    return figures


def detection(setup: Setup) -> dict[str, Any]:
    """JPEG bytes to detections on the host, by the wall clock, compared with torchvision."""
    figures: dict[str, Any] = {}
    files = setup.jpegs(2 if setup.tiny else 64)
    detector = Detector(NetworkPipeline(setup.network, setup.settings, device=str(setup.device), backend="torch"))
    for batch in (1, len(files) // 2):
        figures[f"ours, batch {batch}: images/s"] = _wall(partial(detector.detect_batch, files, batch), len(files))
    if not setup.tiny:
        baseline = torchvision_baseline.new_model().to(setup.device).eval()

        @torch.inference_mode()
        def theirs() -> None:
            for file in files[:16]:
                baseline([torchvision_baseline.as_float(torchvision_baseline.decode(file)).to(setup.device)])

        figures["torchvision, batch 1: images/s"] = _wall(theirs, 16)
    return figures


def _wall(call: Callable[[], object], images: int) -> float:
    call()
    began = time.perf_counter()
    call()
    return images / (time.perf_counter() - began)


def training(setup: Setup) -> dict[str, Any]:
    """Whole training steps on batches on the device, and the peak GPU memory."""
    figures: dict[str, Any] = {}
    for batch in setup.batches[1:]:
        for frozen in (0, 2):
            if setup.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            step = setup.train_step(setup.device, setup.dtype, frozen=frozen)
            pixels, targets = setup.pixels(batch).to(setup.device), setup.targets(batch).to(setup.device)
            ms = setup.milliseconds(partial(one_step, step, pixels, targets, 1))
            name = f"batch {batch}" + (f", {frozen} stages frozen" if frozen else "")
            figures[f"{name}: images/s"] = 1000 * batch / ms
            if setup.device.type == "cuda":
                figures[f"{name}: peak GB"] = torch.cuda.max_memory_allocated() / 1e9
            del step
    return figures


def loader(setup: Setup) -> dict[str, Any]:
    """Augmented batches per second by number of workers."""
    figures: dict[str, Any] = {}
    data = shapes("train", 32 if setup.tiny else 1500, 96 if setup.tiny else 640)
    side = setup.settings.network.input_size
    for workers in (0,) if setup.tiny else (2, 8, 14):
        transform = TrainTransform(side, fill=mean_colour(setup.settings.preprocessing))
        batches = TrainLoader(data, transform, batch_size=8, seed=0, workers=workers, timeout=120.0)
        with contextlib.closing(batches):
            epoch = iter(batches.epoch(0))
            next(epoch)
            began, count = time.perf_counter(), 0
            for batch in epoch:
                count += len(batch)
            figures[f"{workers} workers: images/s"] = count / (time.perf_counter() - began)
    return figures


def nvjpeg(setup: Setup) -> dict[str, Any]:
    """Whether the GPU decodes JPEGs, how fast, and how much its pixels differ from the CPU's."""
    if setup.device.type != "cuda":
        raise SkippedError("nvJPEG needs a CUDA device")
    files = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in setup.jpegs(32)]
    decode = torchvision.io.decode_jpeg
    images = decode(files, device=setup.device)
    first = torchvision_baseline.decode(bytes(files[0].numpy()))
    difference = int((images[0].cpu().int() - first.int()).abs().max())
    return {"largest difference": difference, "images/s": _wall(lambda: decode(files, device=setup.device), len(files))}


def compiled(setup: Setup) -> dict[str, Any]:
    """The compiled network at one batch size, and the seconds of its compilation."""
    if setup.device.type != "cuda":
        raise SkippedError("on a CPU, compiled steps were slower; see docs/lab-notes.md")
    ours = setup.network.to(setup.device, torch.bfloat16).to(memory_format=torch.channels_last)
    try:
        images = torch.randn(32, 3, 300, 300, device=setup.device, dtype=torch.bfloat16)
        call = _inference(torch.compile(ours), images.to(memory_format=torch.channels_last))  # type: ignore[arg-type]
        began = time.perf_counter()
        call()
        seconds = time.perf_counter() - began
        return {"seconds to compile": seconds, "batch 32: images/s": 32000 / setup.milliseconds(call)}
    finally:
        setup.network.to("cpu", torch.float32)
