"""The machine's own rate of matrix products, and the share of it that a network reaches."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ssd.benchmark.timing import Comparison
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


def share(comparison: Comparison, milliseconds: float, operations: int, rates: dict[str, float]) -> dict[str, Any]:
    """What share of the machine's rate a stage reaches that computes the whole network, with all else that it does.

    Winograd's method needs fewer multiplications than are counted, so that a share above 1 is possible. Empty where
    the stage has no network or there is no rate to compare with.
    """
    if comparison.precision not in rates:
        return {}
    rate = comparison.images * operations / milliseconds / 1e6
    part = round(rate / rates[comparison.precision], 3)
    return {"precision": comparison.precision, "gflop_per_second": round(rate, 1), "share_of_product": part}


def share_text(facts: dict[str, Any]) -> str:
    """The share as a line of the table."""
    rate, part = facts["gflop_per_second"], facts["share_of_product"]
    return f"{'':22}{rate:.0f} GFLOP/s, {part:.0%} of the product in {facts['precision']}"
