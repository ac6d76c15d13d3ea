"""The machine's own rate of matrix products, and the share of it that a network reaches."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ssd.benchmark.timing import Comparison
from ssd.system.device import cpu_has_bf16

# A small product fits between the interruptions of a busy machine, a large one fills many cores.
_SIDES = (512, 1024, 2048)
_SECONDS = 0.3  # for each kind and size, and at least three products
_MOST_SECONDS = 3  # for a larger size: where PyTorch multiplies bytes one by one, three products take minutes


def product_rates(sides: Sequence[int] = _SIDES) -> dict[str, float]:
    """Billions of operations a second for products of two square matrices on the CPU: fp32, bf16 (if it has it), int8.

    The best of the sizes that take a reasonable time, with as many threads as PyTorch has. A kind that PyTorch does not
    multiply here is left out.
    """
    kinds: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], torch.dtype]] = {"fp32": (torch.mm, torch.float32)}
    if cpu_has_bf16():
        kinds["bf16"] = (torch.mm, torch.bfloat16)
    if hasattr(torch, "_int_mm"):
        kinds["int8"] = (torch._int_mm, torch.int8)
    rates = {}
    for name, (multiply, dtype) in kinds.items():
        try:
            rates[name] = round(_best_rate(multiply, dtype, sides) / 1e9, 1)
        except RuntimeError:  # not on this machine
            continue
    return rates


def _best_rate(multiply: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype, sides: Sequence[int]) -> float:
    best = 0.0
    for side in sorted(sides):
        if best and 4 * 2 * side**3 / best > _MOST_SECONDS:
            break
        best = max(best, _rate(multiply, dtype, side))
    return best


def _rate(multiply: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype, side: int) -> float:
    """Operations a second of the fastest of several products."""
    generator = torch.Generator().manual_seed(0)
    operand = torch.randint(-127, 128, (side, side), generator=generator).to(dtype)
    multiply(operand, operand)
    times: list[float] = []
    while len(times) < 3 or sum(times) < _SECONDS:
        start = time.perf_counter()
        multiply(operand, operand)
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times)


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
