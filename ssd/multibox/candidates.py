"""The candidates among which suppression chooses."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Candidates:
    """The best P pairs of default box and class of each image, best first."""

    boxes: Float[Tensor, "B P 4"]
    scores: Float[Tensor, "B P"]
    labels: Int[Tensor, "B P"]  # from 0, without background
    accepted: Bool[Tensor, "B P"]  # above the threshold, and among the `top_k` of their class
    more: Bool[Tensor, "B"]  # whether the last pair is above the threshold, so that the next one may be too
