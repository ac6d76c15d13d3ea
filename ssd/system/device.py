"""Where the network computes."""

import torch

from ssd.errors import ArgumentError


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
