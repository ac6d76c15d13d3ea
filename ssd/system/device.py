"""Devices, and the precisions in which they compute."""

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from ssd.errors import ArgumentError, ConfigError

_log = logging.getLogger(__name__)

_NO_KERNEL = "no kernel image is available"  # in CUDA's message where the build does not know the card


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA where it can compute, else the CPU. `mps` (Apple) is used when named; without it the CPU is.

    Raises:
        ArgumentError: no such device on this machine, or one that this PyTorch cannot compute on.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() and computes("cuda") else "cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        _log.warning("device mps is not available here: the CPU is used")
        return torch.device("cpu")
    try:
        device = torch.device(name)
        _try(device)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:  # a torch built without CUDA asserts
        if _NO_KERNEL in str(error):
            problem = f"this PyTorch has no code for the card of {name!r}"
            remedy = "Use cpu, or install a build of PyTorch for it."
            raise ArgumentError(problem, place="device", remedy=remedy) from None
        raise ArgumentError(
            f"there is no {name!r} here", place="device", remedy="Use auto, cpu, cuda or mps."
        ) from None
    return device


def computes(name: str) -> bool:
    """Whether a GPU that is there computes; a warning says why not. PyTorch builds leave out older cards."""
    try:
        _try(torch.device(name))
    except RuntimeError as error:
        _log.warning("%s cannot be used, so the CPU is: %s", name, str(error).split("\n")[0][:200])
        return False
    return True


def _try(device: torch.device) -> None:
    torch.zeros(1, device=device).add_(1).item()


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
    if not isinstance(precision, str) or precision not in _DTYPES or (precision == "fp16" and device.type == "cpu"):
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


class _Override:
    """Values of PyTorch's global switches for as long as at least one thread is inside; then the earlier ones.

    The switches are of the process, so threads that enter and leave in turns must not restore each other's values.
    """

    def __init__(self, *switches: tuple[Any, str, Any]) -> None:
        self._switches = switches  # owner, attribute, value; set in this order
        self._lock, self._inside = threading.Lock(), 0
        self._before: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                readable = [switch for switch in self._switches if _current(*switch[:2]) is not None]
                self._before = [(owner, name, _current(owner, name)) for owner, name, _ in readable]
                _set(readable)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                _set(self._before)


def _current(owner: Any, name: str) -> Any:
    """The value of a switch; None where PyTorch refuses to tell, since the switches below it differ."""
    try:
        return getattr(owner, name)
    except RuntimeError:
        return None


def _set(switches: Iterable[tuple[Any, str, Any]]) -> None:
    for owner, name, value in switches:
        setattr(owner, name, value)


# The older switch goes first, since it sets the two below it: PyTorch, and `torch.compile` in it, refuses to read a
# switch that contradicts them. RNNs, which nothing here has, go along for the same reason.
_IEEE = _Override(
    (torch.backends.cudnn, "allow_tf32", False),
    (torch.backends.cudnn.conv, "fp32_precision", "ieee"),  # type: ignore[attr-defined]
    (torch.backends.cudnn.rnn, "fp32_precision", "ieee"),
    (torch.backends.cuda.matmul, "fp32_precision", "ieee"),
)
_TUNED = _Override((torch.backends.cudnn, "benchmark", True))


def ieee_fp32() -> AbstractContextManager[None]:
    """Compute float32 products and convolutions on CUDA in float32, and not in TF32 with its mantissa of 10 bits.

    By default PyTorch takes TF32 for convolutions, whose results differ from a CPU's in the fourth digit.
    """
    return _IEEE


def tuned_convolutions() -> AbstractContextManager[None]:
    """Let cuDNN try its algorithms at the first call of each shape, and keep the fastest: for shapes that recur."""
    return _TUNED


@contextmanager
def training_switches(device: torch.device) -> Iterator[None]:
    """PyTorch's global switches as training wants them on CUDA: float32 without TF32, and tuned convolutions.

    Convolutions are not tuned where deterministic results are asked for, since another run may choose other algorithms.
    """
    with ExitStack() as switches:
        if device.type == "cuda":
            switches.enter_context(ieee_fp32())
            if not torch.backends.cudnn.deterministic and not torch.are_deterministic_algorithms_enabled():
                switches.enter_context(tuned_convolutions())
        yield
