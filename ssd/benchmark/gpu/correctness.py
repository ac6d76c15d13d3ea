"""Checks that a GPU gives the results of the CPU, has no hidden waits, and resumes training bit for bit."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor

from ssd.benchmark.agreement import Answer, Tolerance, same_detections
from ssd.benchmark.gpu.sections import SkippedError
from ssd.benchmark.gpu.setup import Setup, no_hidden_wait, one_step
from ssd.inference.detector import Detector
from ssd.inference.pipelines import NetworkPipeline
from ssd.multibox.loss import multibox_loss
from ssd.multibox.matcher import match
from ssd.multibox.postprocess import postprocess, postprocess_without_waiting
from ssd.settings import LossRules, Postprocessing
from ssd.structures import BatchDetections, Predictions, Targets
from ssd.system.device import ieee_fp32
from ssd.system.environment import environment
from ssd.training.step import TrainStep

# Close scores may change places by rounding, so detections are looked up rather than compared in order.
_SAME = Tolerance(score=1e-4, iou=0.999, share=0.995)
_ROOT = Path(__file__).resolve().parents[3]


def facts(setup: Setup) -> dict[str, Any]:
    """The machine, and its measured limits: memory bandwidth and the rate of bf16 matrix products."""
    found: dict[str, Any] = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    found |= {"python": platform.python_version(), "cores": os.cpu_count(), "git": environment()["git_commit"]}
    if setup.device.type == "cuda":
        found |= {"card": torch.cuda.get_device_name(setup.device), "cuda": torch.version.cuda}
        found["memory_gb"] = torch.cuda.get_device_properties(setup.device).total_memory / 1e9
    side = 256 if setup.tiny else 8192
    a = torch.randn(side, side, device=setup.device, dtype=torch.bfloat16)
    found["bf16_tflops"] = 2 * side**3 / setup.milliseconds(lambda: a @ a) / 1e9
    found["copy_gb_per_s"] = 2 * a.numel() * a.element_size() / setup.milliseconds(a.clone) / 1e6
    return found


def tests(setup: Setup) -> dict[str, Any]:
    """The tests of the suite that are marked `gpu`."""
    if setup.device.type != "cuda":
        raise SkippedError("the tests marked gpu need a CUDA device")
    inference = _ROOT / "tests" / "inference"
    folders = [_ROOT / "tests" / "multibox", inference / "test_detector.py", inference / "test_device_steps.py"]
    if not all(folder.exists() for folder in folders):
        raise SkippedError("the tests are not installed; run the check in a clone")
    words = ["-m", "gpu", "-q", "-p", "no:cacheprovider", *map(str, folders)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 5), done.stdout[-2000:]
    return {"pytest": done.stdout.strip().splitlines()[-1]}


def matching_and_loss(setup: Setup) -> dict[str, Any]:
    """Check for equal matches, losses within 1e-5 and gradients within 1e-4, in float32."""
    images = 2 if setup.tiny else 8
    targets, host = setup.targets(images), setup.predictions(images, worst=True)
    sides = [_loss_on(torch.device("cpu"), setup, targets, host), _loss_on(setup.device, setup, targets, host)]
    (ours, theirs) = sides
    assert torch.equal(ours[0], theirs[0]), "the device matches other objects"
    for tolerance, a, b in zip((1e-5, 1e-4, 1e-4), ours[1:], theirs[1:], strict=True):  # loss, and both gradients
        torch.testing.assert_close(b, a, rtol=tolerance, atol=tolerance)
    return {"loss": float(ours[1]), "largest_gradient_difference": float((ours[3] - theirs[3]).abs().max())}


def _loss_on(device: torch.device, setup: Setup, targets: Targets, host: Predictions) -> list[Tensor]:
    predictions = Predictions(host.offsets.to(device).requires_grad_(), host.logits.to(device).requires_grad_())
    boxes, there = setup.default_boxes.to(device), targets.to(device)
    matches = match(boxes, there, LossRules())
    variances = setup.settings.boxes.variances
    parts = multibox_loss(predictions, there, matches, boxes, LossRules(), variances)
    gradients = torch.autograd.grad(parts.total, [predictions.offsets, predictions.logits])
    return [matches.object_index.cpu(), parts.total.detach().cpu(), *(gradient.cpu() for gradient in gradients)]


def postprocessing(setup: Setup) -> dict[str, Any]:
    """Check for equal counts, scores within 1e-5, and the same detections, with and without box voting."""
    unfinished = {}
    for worst in (False, True):
        host = setup.predictions(2 if setup.tiny else 8, worst=worst)
        there = Predictions(host.offsets.to(setup.device), host.logits.to(setup.device))
        boxes, variances = setup.default_boxes, setup.settings.boxes.variances
        for rules in (Postprocessing(), Postprocessing(box_voting=0.05, clip="before")):
            wanted = postprocess(host, boxes, rules, variances)
            found = postprocess(there, boxes.to(setup.device), rules, variances)
            assert found.counts.tolist() == wanted.counts.tolist(), "another number of detections"
            torch.testing.assert_close(found.scores.cpu(), wanted.scores, rtol=1e-5, atol=1e-5)
            same_detections(_answers(found), _answers(wanted), _SAME)
            flags = postprocess_without_waiting(there, boxes.to(setup.device), rules, variances)[1]
            case = f"{'worst' if worst else 'typical'}, voting {rules.box_voting:g}"
            unfinished[f"images left unfinished: {case}"] = int(flags.sum())
    return unfinished


def _answers(found: BatchDetections) -> list[Answer]:
    images = found.to_images()
    return [Answer(*(torch.from_numpy(column) for column in (i.boxes, i.scores, i.labels))) for i in images]


def detection(setup: Setup) -> dict[str, Any]:
    """Check `detect` in float32 against the CPU, and measure the lower precisions' distance."""
    images = [np.asarray(image.permute(1, 2, 0)) for image in setup.pixels(2 if setup.tiny else 8)]
    host = Detector(NetworkPipeline(setup.network, setup.settings, device="cpu", precision="fp32", backend="torch"))
    wanted = host.predict(host.preprocess(images))
    figures: dict[str, Any] = {}
    formats = ("fp32", "bf16", "fp16") if setup.device.type == "cuda" else ("fp32", "bf16")
    for precision in formats:
        pipeline = NetworkPipeline(
            setup.network, setup.settings, device=str(setup.device), precision=precision, backend="torch"
        )
        detector = Detector(pipeline)
        found = detector.predict(detector.preprocess(images))
        figures[f"{precision}: logits differ by"] = float((found.logits.cpu() - wanted.logits).abs().max())
        if precision == "fp32":
            ours, theirs = (
                [Answer(*map(torch.from_numpy, (found.boxes, found.scores, found.labels))) for found in rows]
                for rows in (detector.detect_batch(images), host.detect_batch(images))
            )
            figures["fp32"] = same_detections(ours, theirs, _SAME)
    return figures


def graphs(setup: Setup) -> dict[str, Any]:
    """Check that CUDA graphs give the detections of plain launches, also for batches that are padded."""
    plain, recorded = setup.steps("fp32", graphs=False), setup.steps("fp32", graphs=True)
    rules = Postprocessing(box_voting=0.05)
    texts = {}
    for count in (3,) if setup.tiny else (1, 3, 4):
        for seed in range(3):  # launched, recorded, replayed
            images = setup.inputs(count, seed)
            ours, theirs = (_answers(steps.detect(images, rules)) for steps in (recorded, plain))
            texts[f"batch {count}"] = same_detections(ours, theirs, _SAME)
    assert setup.device.type != "cuda" or recorded.graphs.enabled, "no CUDA graph could be recorded; see the log"
    return texts


def no_waiting(setup: Setup) -> dict[str, Any]:
    """Check that the host waits for the device only when it reads results, in training and in detection."""
    step = setup.train_step(setup.device, setup.dtype)
    pixels, targets = setup.pixels(4).to(setup.device), setup.targets(4).to(setup.device)
    one_step(step, pixels, targets, 1)  # the first call allocates and tunes
    with no_hidden_wait(setup.device):
        one_step(step, pixels, targets, 2)
    boxes = setup.default_boxes.to(setup.device)
    host = setup.predictions(4, worst=False)
    predictions = Predictions(host.offsets.to(setup.device), host.logits.to(setup.device))
    rules, variances = Postprocessing(box_voting=0.05), setup.settings.boxes.variances
    postprocess_without_waiting(predictions, boxes, rules, variances)
    with no_hidden_wait(setup.device), torch.inference_mode():
        postprocess_without_waiting(predictions, boxes, rules, variances)
    steps, images = setup.steps(graphs=False), setup.inputs(4)
    for _ in range(2):  # the second call of a size tunes cuDNN
        steps.launch(images, rules)
    with no_hidden_wait(setup.device):
        steps.launch(images, rules)
    if setup.device.type != "cuda":
        return {"note": "run, but a CPU has nothing to wait for"}
    return {"waits in a training step": 0, "waits in post-processing": 0, "waits in detection before the download": 0}


def fifty_steps(setup: Setup) -> dict[str, Any]:
    """Train on the same batches on both devices in float32: losses must agree within 1e-3 for ten steps."""
    count = 3 if setup.tiny else 50
    images = 2 if setup.tiny else 4
    curves = []
    with ieee_fp32():
        for device in (torch.device("cpu"), setup.device):
            small = Setup(device, tiny=True)  # the demo's network, since a large one takes minutes on the CPU
            step = small.train_step(device, torch.float32)
            pixels = [small.pixels(images, seed) for seed in range(count)]
            losses = [one_step(step, part, small.targets(images, seed), seed + 1) for seed, part in enumerate(pixels)]
            curves.append([float(loss) for loss in losses])
    for ours, theirs in list(zip(*curves, strict=True))[:10]:
        assert abs(ours - theirs) <= 1e-3 * abs(ours), f"losses part within ten steps: {curves}"
    return {"cpu, last": curves[0][-1], "device, last": curves[1][-1], "device": curves[1]}


def resume(setup: Setup) -> dict[str, Any]:
    """Check that three steps, a resume and three more steps equal six steps, bit for bit, if deterministic."""
    figures = {}
    for deterministic in (True, False):
        same = _resumed_equals(setup, deterministic)
        figures["deterministic" if deterministic else "as it comes"] = "bit-equal" if same else "differs"
        assert same or not deterministic, "a resumed run differs with deterministic algorithms"
    return figures


def _resumed_equals(setup: Setup, deterministic: bool) -> bool:
    images = 2 if setup.tiny else 8
    batches = [(setup.pixels(images, seed), setup.targets(images, seed)) for seed in range(6)]
    torch.use_deterministic_algorithms(deterministic)
    try:
        whole = setup.train_step(setup.device, setup.dtype)
        for number, (pixels, targets) in enumerate(batches, start=1):
            one_step(whole, pixels, targets, number)
            if number == 3:
                saved = [_copy(part.state_dict()) for part in _parts(whole)]
        resumed = setup.train_step(setup.device, setup.dtype)
        for part, state in zip(_parts(resumed), saved, strict=True):
            part.load_state_dict(state)
        for number, (pixels, targets) in enumerate(batches[3:], start=4):
            one_step(resumed, pixels, targets, number)
    finally:
        torch.use_deterministic_algorithms(False)
    pairs = zip(whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _parts(step: TrainStep) -> tuple[Any, ...]:
    """The parts of a training step that are in a run's state."""
    return step.network, step.optimizer, step.average.network


def _copy(value: Any) -> Any:
    """A copy of a state, which later steps do not change."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
