"""Who computes the network: pictures in, predictions out. PyTorch here; other engines keep the same protocol."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from ssd.device import choose_device
from ssd.errors import ArgumentError
from ssd.precision import choose_dtype
from ssd.runtime.torch import TorchRuntime
from ssd.structures import Predictions

BACKENDS = ("auto", "torch")


@runtime_checkable
class Runtime(Protocol):
    """A network made ready on one machine."""

    backend: str
    precision: str  # fp32, bf16, fp16: what the layers compute in; predictions are always fp32
    device: str

    def predict(self, images: Float[Tensor, "B 3 S S"]) -> Predictions:
        """Offsets and logits, float32, on `device`. Images come from anywhere."""
        ...


def open_runtime(
    network: nn.Module, *, device: str = "auto", precision: str = "auto", backend: str = "auto"
) -> Runtime:
    """Make a network ready; it is copied, so that the caller's own (in training, perhaps) stays untouched.

    Raises:
        ArgumentError: an unknown backend or device, or one that is not on this machine.
        ConfigError: an unknown precision, or one that the device cannot compute in.
    """
    if backend not in BACKENDS:
        raise ArgumentError(f"{backend!r} is unknown", place="backend", remedy=f"Choose from {', '.join(BACKENDS)}.")
    where = choose_device(device)
    return TorchRuntime(network, where, choose_dtype(precision, where))
