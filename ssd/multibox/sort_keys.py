"""Keys that make `topk` deterministic: it promises no order among equal values."""

from jaxtyping import Float, Int
from torch import Tensor, int32


def sort_keys(values: Float[Tensor, "*shape"], places: Int[Tensor, "*shape2"]) -> Int[Tensor, "*shape"]:
    """Integers that sort like the values (float32, not negative), and where these are equal by place, the lower first.

    Value and place share one integer: a float that is not negative compares like its bits.
    """
    return (values.view(int32).long() << 32) - places
