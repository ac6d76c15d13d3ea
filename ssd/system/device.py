"""Devices, and the precisions in which they compute."""

from typing import Literal

import torch
from torch import Tensor

from ssd.errors import ArgumentError, ConfigError


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA where there is one, else the CPU.

    Raises:
        ArgumentError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # a torch built without CUDA asserts
        raise ArgumentError(f"there is no {name!r} here", place="device", remedy="Use auto, cpu or cuda.") from None
    return device


Precision = Literal["auto", "fp32", "bf16", "fp16"]


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of the network: `auto` is bf16 on CPUs and GPUs with instructions for it, fp16 on older GPUs.

    Raises:
        ConfigError: a name that is none of auto, fp32, bf16, fp16; or fp16 on a CPU.
    """
    if precision == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return torch.bfloat16 if device.type == "cpu" and cpu_has_bf16() else torch.float32
    if precision not in _DTYPES or (precision == "fp16" and device.type == "cpu"):
        raise ConfigError(
            f"{precision!r} does not work on {device.type}", place="precision", remedy="Use auto, fp32 or bf16."
        )
    return _DTYPES[precision]


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware: AMX, or AVX512-BF16."""
    return any(_cpu_flag(name) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))


def cpu_features() -> dict[str, bool]:
    """Instruction sets that matter for speed, as PyTorch detects them."""
    names = {"avx2": "_is_avx2_supported", "avx512": "_is_avx512_supported", "vnni": "_is_vnni_supported"}
    names |= {"avx512_bf16": "_is_avx512_bf16_supported", "amx": "_is_amx_tile_supported"}
    return {feature: _cpu_flag(name) for feature, name in names.items()}


def _cpu_flag(name: str) -> bool:
    # These have no public name yet; where one is missing, the feature counts as absent.
    ask = getattr(torch.cpu, name, None)
    return bool(ask()) if ask is not None else False


def on_cpu(tensor: Tensor) -> bool:
    """Whether the tensor is on the CPU, where the work can depend on its values.

    On other devices the host would have to wait for the values, so shapes are fixed and every number is computed. Both
    ways give the same result; tests check that on the CPU by patching this function to return False.
    """
    return tensor.device.type == "cpu"
