"""Sort keys that make `topk` deterministic: PyTorch defines no order among equal values."""

from jaxtyping import Float, Int
from torch import Tensor, int32


def sort_keys(values: Float[Tensor, "*shape"], places: Int[Tensor, "*shape2"]) -> Int[Tensor, "*shape"]:
    """Integers that sort by value (float32, not negative), then by place, the lower first.

    Value and place share one integer: floats that are not negative have the same order as their bits. A NaN counts as
    0; as bits it is above or below every number, which depends on the processor.
    """
    return (values.nan_to_num(nan=0.0).view(int32).long() << 32) - places
