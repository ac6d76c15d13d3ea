"""Example inputs of a graph, and what is recorded in its file: versions, class names."""

import dataclasses

import torch

from ssd.inference.runtime.facts import Facts
from ssd.settings import Settings


def example(settings: Settings) -> torch.Tensor:
    """Two black images in the input format of a graph with these settings."""
    side = Facts(settings).side or settings.network.input_size + 20
    return torch.zeros(2, side, side, 3, dtype=torch.uint8)


def free_sides(settings: Settings) -> tuple[int, ...]:
    """The dimensions of the images that are dynamic."""
    return () if Facts(settings).side else (1, 2)


def with_version(facts: Facts, **versions: str) -> Facts:
    """Add the versions of the packages that were used."""
    return dataclasses.replace(facts, versions=facts.versions | versions)


def class_lines(settings: Settings) -> str:
    """The class names, one a line; a line break inside a name becomes a space."""
    return "\n".join(" ".join(name.splitlines()) for name in settings.class_names)
