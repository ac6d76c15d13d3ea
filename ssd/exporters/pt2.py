"""Export as a `torch.export` program, for PyTorch's own tools (AOTInductor, ExecuTorch)."""

import io
from pathlib import Path

import torch
from torch import nn

from ssd.exporters.graph import DetectionGraph, suppress_by_torchvision
from ssd.exporters.inputs import example, free_sides, with_version
from ssd.inference.runtime.facts import Facts
from ssd.inference.runtime.program import record
from ssd.system.files import write_atomic


def write_pt2(network: nn.Module, facts: Facts, path: Path) -> Facts:
    """Write a `.pt2`; its only operator from outside PyTorch is torchvision's `nms`."""
    import torchvision

    facts = with_version(facts, torchvision=torchvision.__version__)
    settings = facts.settings
    graph = DetectionGraph(network, settings, suppress=suppress_by_torchvision)
    program = record(graph, example(settings), free=free_sides(settings))
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"ssd.json": facts.to_text()})
    write_atomic(path, buffer.getbuffer())
    return facts
