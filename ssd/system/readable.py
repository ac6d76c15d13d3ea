"""The one question this room asks about devices."""

from torch import Tensor


def on_cpu(tensor: Tensor) -> bool:
    """Whether looking at the tensor's numbers costs nothing, so that work can depend on them.

    On any other device the host would wait; there, shapes are fixed beforehand and every number is computed. Both ways
    give the same result, which tests prove on the CPU by answering no.
    """
    return tensor.device.type == "cpu"
