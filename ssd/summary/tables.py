"""The tables of `ssd summary`: aligned columns, thousands with commas."""

from collections.abc import Sequence
from typing import Any

import torch

from ssd.report.text_table import aligned
from ssd.summary.figures import Figure
from ssd.summary.layers import Row, Survey
from ssd.summary.networks import Network

# Layers without parameters that keep the shape: listed on request.
_SILENT = ("ReLU", "LeakyReLU", "Sigmoid", "Dropout", "Identity", "Hardswish", "ReLU6", "SiLU", "Hardsigmoid")


def layer_table(network: Network, survey: Survey, *, everything: bool = False) -> str:
    """One line per layer, and the sums."""
    head = ["layer", "kind", "output", "parameters", "multiply-adds", "field", "stride"]
    shown = [row for row in survey.rows if everything or row.kind not in _SILENT]
    body = [_layer(row) for row in shown]
    sums = ["total", "", "", f"{survey.parameters:,}", f"{survey.multiply_adds:,}", "", ""]
    title = f"{network.name}, input {' x '.join(map(str, network.shape[1:]))}"
    if network.boxes is not None:
        title += f", {network.boxes:,} boxes"
    note = "field: pixels of the image that one cell looks at; stride: pixels between neighbouring cells"
    return "\n".join([title, aligned([head, *body, sums], left=3, ruled=True), note])


def comparison(networks: Sequence[Network], surveys: Sequence[Survey], latencies: Sequence[float | None]) -> str:
    """One line per network."""
    columns = {
        "network": [network.name for network in networks],
        "input": [str(network.size) for network in networks],
        "parameters": [f"{survey.parameters:,}" for survey in surveys],
        "published": [_or_dash(network.published) for network in networks],
        "multiply-adds": [f"{survey.multiply_adds:,}" for survey in surveys],
        "boxes": [_or_dash(network.boxes) for network in networks],
        **{
            name: [_or_dash(network.measured.get(name), ".3f") for network in networks]
            for name in ("AP", "AP50", "VOC", "VOC07")
        },
        "trained": [_or_dash(network.measured.get("images_per_second"), ".1f", " img/s") for network in networks],
        "latency": [_or_dash(latency, ".1f", " ms") for latency in latencies],
    }
    said = {head: cells for head, cells in columns.items() if set(cells) != {"-"}}
    notes = []
    if any(network.published is not None for network in networks):
        notes.append("published: parameters as torchvision states them")
    if any(latency is not None for latency in latencies):
        threads = torch.get_num_threads()
        notes.append(f"latency: one image, CPU, fp32, {threads} thread{'s' * (threads > 1)}, the networks in turn")
    if any(network.measured for network in networks):
        notes.append(
            "AP, AP50 (COCO), VOC, VOC07: of the run's own last evaluation of these weights; "
            "trained: median speed of the run"
        )
    return "\n".join([aligned([list(said), *zip(*said.values(), strict=True)], ruled=True), *notes])


def figures_table(figures: Sequence[Figure]) -> str:
    """One line per claim."""
    head = ["what", "documents", "counted"]
    return aligned([head, *([f.what, f.documents, f.counted] for f in figures)], ruled=True)


def to_json(network: Network, survey: Survey, *, rows: bool = False) -> dict[str, Any]:
    """A network and its survey in plain JSON types."""
    facts: dict[str, Any] = {
        "name": network.name,
        "input": list(network.shape),
        "parameters": survey.parameters,
        "published_parameters": network.published,
        "multiply_adds": survey.multiply_adds,
        "boxes": network.boxes,
        **network.measured,
    }
    if rows:
        facts["layers"] = [
            {
                "name": row.name,
                "kind": row.kind,
                "output": list(row.shape),
                "parameters": row.parameters,
                "multiply_adds": row.multiply_adds,
                "receptive_field": row.field.size,
                "stride": row.field.stride,
            }
            for row in survey.rows
        ]
    return facts


def _or_dash(value: float | int | None, form: str = ",", unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


def _layer(row: Row) -> list[str]:
    numbers = [f"{count:,}" if count else "" for count in (row.parameters, row.multiply_adds)]
    shape = " x ".join(map(str, row.shape[1:]))
    return [row.name, row.kind, shape, *numbers, f"{row.field.size:g}", f"{row.field.stride:g}"]
