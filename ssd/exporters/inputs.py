"""What a graph of given settings takes, and what its file says about who made it."""

import dataclasses

import torch

from ssd.inference.runtime.facts import Facts
from ssd.settings import Settings


def example(settings: Settings) -> torch.Tensor:
    """Two black images, as a graph of these settings takes them."""
    side = Facts(settings).side or settings.network.input_size + 20
    return torch.zeros(2, side, side, 3, dtype=torch.uint8)


def free_sides(settings: Settings) -> tuple[int, ...]:
    """The dimensions of the images that may have any size."""
    return () if Facts(settings).side else (1, 2)


def with_version(facts: Facts, **versions: str) -> Facts:
    """Note what else had a hand in it."""
    return dataclasses.replace(facts, versions=facts.versions | versions)
