import pytest
import torch

from ssd.errors import ArgumentError, ConfigError
from ssd.system import device, distributed
from ssd.system.device import (
    choose_device,
    choose_dtype,
    cpu_features,
    cpu_has_bf16,
    ieee_fp32,
    training_switches,
    tuned_convolutions,
)
from ssd.system.distributed import local_device

CPU, CUDA, OTHER = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


@pytest.mark.parametrize(
    ("flags", "bf16"),
    [
        ((), False),
        (("_is_avx512_supported",), False),
        (("_is_avx512_bf16_supported",), True),
        (("_is_amx_tile_supported",), True),
    ],
)
def test_auto_on_a_cpu_is_bf16_where_there_are_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], bf16: bool
) -> None:
    monkeypatch.setattr(device, "_cpu_flag", lambda name: name in flags)
    assert cpu_has_bf16() is bf16
    assert choose_dtype("auto", CPU) == (torch.bfloat16 if bf16 else torch.float32)
    assert choose_dtype("auto", OTHER) == torch.float32


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_on_a_gpu_is_bf16_or_else_fp16(monkeypatch: pytest.MonkeyPatch, bf16: bool, dtype: torch.dtype) -> None:
    # Emulated bf16 is slower than fp16: it does not count.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16 or including_emulation)
    assert choose_dtype("auto", CUDA) == dtype


def test_a_named_precision_is_taken_at_its_word() -> None:
    assert choose_dtype("fp32", CUDA) == torch.float32
    assert choose_dtype("bf16", CPU) == torch.bfloat16
    assert choose_dtype("fp16", CUDA) == torch.float16


@pytest.mark.parametrize(("name", "device"), [("fp16", CPU), ("fp8", CUDA), ("", CPU)])
def test_a_precision_that_does_not_work_is_an_error(name: str, device: torch.device) -> None:
    with pytest.raises(ConfigError, match=f"{name!r} does not work on {device.type}"):
        choose_dtype(name, device)


def test_a_pytorch_that_does_not_know_a_feature_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert cpu_features()["amx"] is False
    assert set(cpu_features()) == {"avx2", "avx512", "vnni", "avx512_bf16", "amx"}


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_try", lambda _: None)
    for available, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert choose_device().type == kind


def test_a_card_that_pytorch_has_no_code_for_is_not_chosen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(where: torch.device) -> None:
        if where.type == "cuda":
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nand more")

    monkeypatch.setattr(device, "_try", fails)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device() == local_device() == CPU
    no_kernel = "cannot be used, so the CPU is: CUDA error: no kernel image is available for execution on the device"
    assert [record.getMessage() for record in caplog.records] == [f"cuda {no_kernel}", f"cuda:1 {no_kernel}"]
    with pytest.raises(ArgumentError, match=r"no code for the card of 'cuda'\. Use cpu, or install a build"):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["toaster", "cuda:99"])
def test_a_device_that_is_not_there_is_an_error(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"there is no '{name}' here"):
        choose_device(name)


def test_mps_is_the_cpu_with_a_message_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("mps") == CPU
    assert "mps is not available here: the CPU is used" in caplog.text


def test_ieee_fp32_holds_until_the_last_one_leaves() -> None:
    conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul  # type: ignore[attr-defined]
    before = conv.fp32_precision, matmul.fp32_precision
    assert before[0] == "tf32"  # PyTorch's default, which this is about
    assert torch.backends.cudnn.allow_tf32
    with ieee_fp32():
        with ieee_fp32():
            assert (conv.fp32_precision, matmul.fp32_precision) == ("ieee", "ieee")
        assert (conv.fp32_precision, matmul.fp32_precision) == ("ieee", "ieee")
        assert not torch.backends.cudnn.allow_tf32  # readable: `torch.compile` reads it
    assert (conv.fp32_precision, matmul.fp32_precision) == before
    assert torch.backends.cudnn.allow_tf32


def test_a_choice_of_the_users_own_comes_back() -> None:
    """Convolutions in float32 and RNNs in TF32, where PyTorch refuses to tell `allow_tf32`."""
    conv, rnn = torch.backends.cudnn.conv, torch.backends.cudnn.rnn  # type: ignore[attr-defined]
    conv.fp32_precision = "ieee"
    try:
        with ieee_fp32():
            assert (conv.fp32_precision, rnn.fp32_precision) == ("ieee", "ieee")
        assert (conv.fp32_precision, rnn.fp32_precision) == ("ieee", "tf32")
    finally:
        conv.fp32_precision = "tf32"
    assert torch.backends.cudnn.allow_tf32


def test_tuned_convolutions_restore_the_switch_after_an_error() -> None:
    def fails() -> None:
        with tuned_convolutions():
            assert torch.backends.cudnn.benchmark
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fails()
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize(
    ("where", "deterministic", "tuned", "precision"),
    [(CUDA, False, True, "ieee"), (CUDA, True, False, "ieee"), (CPU, False, False, "tf32")],
)
def test_training_on_cuda_is_without_tf32_and_tuned_unless_it_must_repeat(
    monkeypatch: pytest.MonkeyPatch, where: torch.device, deterministic: bool, tuned: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", deterministic)
    with training_switches(where):
        assert torch.backends.cudnn.benchmark == tuned
        assert torch.backends.cudnn.conv.fp32_precision == precision  # type: ignore[attr-defined]
    assert not torch.backends.cudnn.benchmark


def test_ranks_wait_for_each_other_on_their_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    reduced: list[torch.Tensor] = []
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", reduced.append)
    distributed.barrier()
    assert [tensor.device for tensor in reduced] == [CPU]
