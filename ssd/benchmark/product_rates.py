"""The machine's own rate of matrix products, and the share of it that a network reaches."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ssd.system.device import cpu_has_bf16

_SIDE = 2048
_REPEATS = 5


def product_rates(side: int = _SIDE) -> dict[str, float]:
    """Billions of operations a second for products of two square matrices on the CPU: fp32, bf16 (if it has it), int8.

    The best of five, with as many threads as PyTorch has. A kind that PyTorch does not multiply here is left out.
    """
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(side, side, generator=generator)
    bytes_ = torch.randint(-127, 128, (side, side), generator=generator, dtype=torch.int8)
    kinds: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = {"fp32": (torch.mm, matrix)}
    if cpu_has_bf16():
        kinds["bf16"] = (torch.mm, matrix.bfloat16())
    if hasattr(torch, "_int_mm"):
        kinds["int8"] = (torch._int_mm, bytes_)
    rates = {}
    for name, (multiply, operand) in kinds.items():
        try:
            rates[name] = round(2 * side**3 / _best_seconds(multiply, operand) / 1e9, 1)
        except RuntimeError:  # not on this machine
            continue
    return rates


def _best_seconds(multiply: Callable[[Tensor, Tensor], Tensor], operand: Tensor) -> float:
    multiply(operand, operand)
    best = float("inf")
    for _ in range(_REPEATS):
        start = time.perf_counter()
        multiply(operand, operand)
        best = min(best, time.perf_counter() - start)
    return best


def operations(network: nn.Module, input_size: int) -> int:
    """Multiplications and additions of the network's products for one image."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, 3, input_size, input_size))
    return counter.get_total_flops()


def rates_text(rates: dict[str, float]) -> str:
    """The rates in a line."""
    return "matrix products, GFLOP/s: " + ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())


def share_text(row: dict[str, Any], operations: int, rates: dict[str, float]) -> str | None:
    """What share of the machine's rate the network of a row reaches; None where there is no rate to compare with.

    Winograd's method needs fewer multiplications than are counted, so that a share above 1 is possible.
    """
    precision = row["checked"].partition(":")[0]
    if precision not in rates:
        return None
    rate = operations / row["ours_ms"] / 1e6
    return f"{'':22}{rate:.0f} GFLOP/s, {rate / rates[precision]:.0%} of the product in {precision}"
