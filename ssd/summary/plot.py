"""A plot of accuracy against latency, with one point per trained detector."""

import io
from collections.abc import Sequence
from pathlib import Path

from ssd.errors import ArgumentError
from ssd.summary.networks import Network
from ssd.system.files import write_atomic
from ssd.system.optional import load_extra


def draw(networks: Sequence[Network], latencies: Sequence[float | None], path: str | Path) -> None:
    """Write the plot; networks without an evaluation are left out, and beside COCO's AP those with VOC's.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ArgumentError: no network has both figures, or the file's suffix is not that of an image.
        SSDError: the file cannot be written.
    """
    pairs = zip(networks, latencies, strict=True)
    column, label = ("AP", "COCO") if any("AP" in n.measured for n in networks) else ("VOC", "VOC")
    points = [(n.name, ms, n.measured[column]) for n, ms in pairs if ms is not None and column in n.measured]
    if not points:
        remedy = "Name folders of runs, without --repeat 0."
        raise ArgumentError("nothing to draw: no trained network with a latency", place="--plot", remedy=remedy)
    if Path(path).suffix not in (".svg", ".png"):
        raise ArgumentError(f"{path}: unknown kind of image", place="--plot", remedy="Let it end in .svg or .png.")
    figure = load_extra("matplotlib.figure", "plot").Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, latency, ap in points:
        axes.plot(latency, ap, "o", color="#00695c")
        axes.annotate(
            Path(name).stem if Path(name).is_file() else Path(name).name,
            (latency, ap),
            (6, 4),
            textcoords="offset points",
            fontsize=9,
        )
    axes.margins(0.2)
    axes.set(xlabel="latency of one image, ms (CPU, fp32)", ylabel=f"AP ({label})", xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    drawn = io.BytesIO()
    figure.savefig(drawn, format=Path(path).suffix.removeprefix("."))
    write_atomic(path, drawn.getbuffer())
