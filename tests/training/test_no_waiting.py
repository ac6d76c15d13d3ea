"""The host never waits for a GPU in a training step, and once for a log row. Shown with tensors without numbers."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ssd.model import factory
from ssd.system import distributed
from ssd.training.saving import all_finite
from tests.training.pretended_gpu import SIZE, PretendedTensors, pretended_batch, pretended_step
from tests.training.runs import CHECKOUT, environment
from tests.waits import Waits

# Copying a network of pretended tensors asks where their numbers are.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
SETTINGS = factory.settings_for(("a", "b"), input_size=SIZE, width=0.05, backbone="vgg11")


def test_the_training_loop_waits_for_the_device_once_in_a_log_row_and_never_else() -> None:
    """Two epochs of four steps and two updates; the second with BatchNorm, a gradient scaler and masked classes."""
    command = [sys.executable, "-m", "tests.training.pretended_gpu"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment(), cwd=CHECKOUT, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    row = ["aten._to_copy.default to the host"]
    assert json.loads(done.stdout) == [[[], [], [], row]] * 2


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_forward_loss_and_update_wait_for_nothing_on_cuda_in_any_precision(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, masked: bool
) -> None:
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *_, **__: True)
    with PretendedTensors() as mode:
        step = pretended_step(mode, SETTINGS, "cuda", dtype=dtype)
    with mode, Waits("cuda") as waits:
        batch = pretended_batch(masked=masked)
        images, targets = step.to_device(batch.images, batch.targets)
        predictions = step.forward(images)
        assert predictions.logits.dtype == dtype
        losses = step.loss(predictions, targets, step.match(targets))
        assert (losses.total.dtype, losses.total.device.type) == (torch.float32, "cuda")
        for parameter in step.network.parameters():  # backward needs the program above
            parameter.grad = torch.empty_like(parameter)
        step.update(1)
    assert waits.found == []


def test_weights_are_checked_with_a_single_wait() -> None:
    with PretendedTensors() as mode:
        network = pretended_step(mode, SETTINGS, "cuda").network
    with mode, Waits("cuda") as waits:
        assert not all_finite(network)  # what is read is zero, so false
    assert len(waits.found) == 1


@pytest.mark.parametrize(
    "wait",
    [
        lambda on_gpu: on_gpu.sum().item(),
        lambda on_gpu: on_gpu.cpu(),
        lambda on_gpu: on_gpu.copy_(torch.ones(5)),
        lambda on_gpu: torch.ones(5).to(on_gpu.device),
        lambda on_gpu: torch.tensor([1.0, 2.0], device=on_gpu.device),
        lambda on_gpu: bool((on_gpu > 0).any()),
    ],
    ids=["item", "cpu", "copy into", "blocking copy", "constant", "truth"],
)
def test_the_count_sees_what_waits(wait: Callable[[Tensor], object]) -> None:
    with FakeTensorMode(), Waits("cuda") as waits:
        wait(torch.empty(5, device="cuda"))
    assert len(waits.found) == 1


@pytest.mark.parametrize(
    "mistake",
    [
        lambda on_gpu: on_gpu[torch.tensor([0, 1])],
        lambda on_gpu: on_gpu[on_gpu > 0],
        lambda on_gpu: on_gpu.nonzero(),
        lambda on_gpu: on_gpu + torch.ones(5),
    ],
    ids=["host index", "mask", "nonzero", "host operand"],
)
def test_the_count_refuses_shapes_that_depend_on_numbers_and_operands_of_the_host(
    mistake: Callable[[Tensor], object],
) -> None:
    with FakeTensorMode(), Waits("cuda"):
        on_gpu = torch.empty(5, device="cuda")
        with pytest.raises((AssertionError, RuntimeError)):
            mistake(on_gpu)


def test_what_is_handed_over_without_blocking_and_numbers_without_dimensions_wait_for_nothing() -> None:
    with FakeTensorMode(), Waits("cuda") as waits:
        on_gpu = torch.ones(5).to("cuda", non_blocking=True)
        on_gpu * torch.tensor(2.0) + 3
    assert waits.found == []


def test_ranks_on_gpus_agree_through_their_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags are tensors of the host, for which the group of GPUs has Gloo beside NCCL."""
    asked: dict[str, object] = {}
    seen: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.distributed.init_process_group", lambda backend, **_: asked.update(backend=backend))
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    with distributed.process_group(torch.device("cuda", 1)):
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        monkeypatch.setattr("torch.distributed.all_reduce", lambda flag: seen.append(flag.device.type))
        assert distributed.any_rank(flag=True)
    assert asked == {"backend": "cpu:gloo,cuda:nccl"}
    assert seen == ["cpu"]
