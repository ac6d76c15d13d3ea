"""`export`: a graph for other engines, given its name only when it detects the same as the weights."""

import dataclasses
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssd.errors import ArgumentError, MissingExtraError, at_least
from ssd.exporters.export import SUFFIXES
from ssd.exporters.export import check as check_format
from ssd.exporters.export import export as write_graph
from ssd.exporters.int8 import CALIBRATION_IMAGES
from ssd.exporters.parity import TOLERANCES
from ssd.exporters.sample_images import open_images, own_images
from ssd.exporters.verify import Check, check
from ssd.inference.load import load_network
from ssd.inference.options import named_options
from ssd.system.files import check_writable, refuse_existing
from ssd.system.optional import pip_install
from ssd.system.temporary_folder import temporary_folder
from ssd.weights.resolve import is_published

_FEW = 32  # images on which a graph in fp32 is compared


@dataclass(frozen=True, repr=False)
class ExportResult:
    """An exported file and how near its detections are to those of the weights."""

    path: Path  # named *.rejected.* where it was not accepted
    format: str
    precision: str
    check: Check
    report: Path  # JSON

    @property
    def accepted(self) -> bool:
        """Whether the graph detects the same, within the tolerance."""
        return self.check.accepted

    @property
    def failures(self) -> list[str]:
        """Descriptions of the differences beyond the tolerance."""
        return self.check.failures

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(part.stat().st_size for part in _files(self.path))

    def __repr__(self) -> str:
        parity = self.check.parity
        found = f"largest difference {parity.box:.2g} px, {parity.score:.1g} of a score on {parity.images} images"
        state = "accepted" if self.accepted else f"REJECTED ({'; '.join(self.failures)})"
        return f"<ExportResult: {self.path}, {self.format} {self.precision}, {state}; {found}>"


@named_options
def export(
    weights: str | Path,
    path_or_format: str | Path,
    *,
    precision: Literal["fp32", "bf16", "int8"] = "fp32",
    calibrate: str | Path | None = None,
    parity: str | Path | None = None,
    split: str | None = None,
    limit: int | None = None,
    tolerance: Mapping[str, float] | None = None,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    top_k: int | None = None,
    max_detections: int | None = None,
    box_voting: float | None = None,
    plain: bool = False,
    opset: int | None = None,
    force: bool = False,
) -> ExportResult:
    """Export weights as ONNX, OpenVINO or PyTorch graph, and compare its detections with those of the weights.

    `weights`: a weights file, a run's folder, a hub address or coco. `path_or_format`: "onnx", "openvino" or "pt2" for
    a file beside the weights, or the file: its suffix (.onnx, .xml, .pt2) says which format.

    bf16 and int8 are OpenVINO's; int8 needs `calibrate`, a data set (its training split) or a folder of images.
    Compared are the images of `parity` (a data set or folder), else the validation split of `calibrate`, else the run's
    own: `limit` of them, by default 32, and all where AP is measured. `tolerance` changes the allowed differences:
    box, score, missing, least_score, ap. The thresholds are built into the graph; None: the weights' own.

    `plain` writes an ONNX graph without resize and suppression, for OpenCV, ncnn, TensorRT and others, and for
    `ssd.light`, which needs no PyTorch; its thresholds are defaults, not built in. `opset`: of ONNX, 14 to 23.

    Look at `accepted` of the result: a graph that detects something else is kept as *.rejected.* for a look.

    Raises:
        ArgumentError: an option that the format does not have, or a file that is there already (without `force`).
        MissingExtraError: the engine's package is not installed.
        CheckpointError, ExportError, DatasetError: weights, graph or images cannot be used.
    """
    if precision not in list(TOLERANCES):
        remedy = f"Use {', '.join(TOLERANCES)}."
        raise ArgumentError(f"{precision!r} is unknown", place="precision", remedy=remedy)
    format, out = _place(str(weights), path_or_format, "plain" if plain else precision)
    check_format(format, precision, plain=plain, opset=opset)
    at_least(1, limit=limit)
    _check_calibration(precision, calibrate)
    if split is not None and parity is None and calibrate is None:
        remedy = "Name the data set too: parity (--parity DATA)."
        raise ArgumentError("goes with a data set", place="split", remedy=remedy)
    refuse_existing(*_files(out), force=force)
    check_writable(out)
    allowed = TOLERANCES[precision]
    for name, value in (tolerance or {}).items():
        allowed = allowed.changed(f"{name}={value}")
    network, settings = load_network(weights)
    rules = settings.postprocessing.changed(
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        top_k=top_k,
        max_detections=max_detections,
        box_voting=box_voting,
    )
    settings, depth = dataclasses.replace(settings, postprocessing=rules), settings.preprocessing.depth
    calibration = None
    if calibrate is not None:
        calibration = open_images(str(calibrate), "train", depth=depth).some(CALIBRATION_IMAGES)
    named = parity or calibrate
    images = open_images(str(named), "val", split, depth) if named else own_images(str(weights))
    there = next(folder for folder in out.absolute().parents if folder.is_dir())  # a failure makes no folder
    with temporary_folder(there, ".export-") as folder:
        unchecked = folder / out.name
        write_graph(
            network, settings, unchecked, format,
            precision=precision, calibration=calibration, plain=plain, opset=opset,
        )  # fmt: skip
        count = limit or (_FEW if precision == "fp32" or images.drawn else None)
        outcome = check(network, settings, unchecked, images, count, allowed, precision, plain=plain)
        out.parent.mkdir(parents=True, exist_ok=True)
        return _finish(str(weights), outcome, unchecked, out, format, precision)


def _place(weights: str, path_or_format: str | Path, kind: str) -> tuple[str, Path]:
    """The format, and the file to write: the one named, else beside the weights under their name."""
    named = Path(str(path_or_format))
    if str(path_or_format) in SUFFIXES:
        format = str(path_or_format)
        source = Path(weights)
        if is_published(weights) or not source.exists():
            name = Path(weights.rstrip("/").rpartition("/")[2])
        else:
            name = source / "best" if source.is_dir() else source.with_suffix("")
        mark = "" if kind == "fp32" else f".{kind}"
        return format, name.with_name(f"{name.name}{mark}{SUFFIXES[format]}")
    formats = {suffix: format for format, suffix in SUFFIXES.items()}
    if named.suffix not in formats:
        known = f"a format ({', '.join(SUFFIXES)}) or a file that ends in {', '.join(formats)}"
        raise ArgumentError("names no format", place=path_or_format, remedy=f"Name {known}.")
    return formats[named.suffix], named


def _check_calibration(precision: str, calibrate: str | Path | None) -> None:
    """Raise unless 8 bits have images to measure on, and what they need is installed; nothing is loaded for it."""
    if precision != "int8":
        if calibrate is not None:
            remedy = "Ask for int8 as well, or name parity instead."
            raise ArgumentError("is for 8 bits", place="calibrate", remedy=remedy)
        return
    if calibrate is None:
        remedy = "Name a data set or a folder of images like those it will see: calibrate (--calibrate DATA)."
        raise ArgumentError("needs images to measure on", place="int8", remedy=remedy)
    for package in ("nncf", "openvino"):
        if importlib.util.find_spec(package) is None:
            remedy = f"Run: {pip_install('int8')}"
            raise MissingExtraError(f"{package} is not installed", place="int8", remedy=remedy)


def _files(path: Path) -> list[Path]:
    """What an export consists of; the `.xml` comes last: where it is, its `.bin` is."""
    return [path.with_suffix(".bin"), path] if path.suffix == ".xml" else [path]


def _finish(weights: str, outcome: Check, unchecked: Path, out: Path, format: str, precision: str) -> ExportResult:
    """Give the files their name: the good one, or that of a rejected export."""
    place = out if outcome.accepted else out.with_name(f"{out.stem}.rejected{out.suffix}")
    for part in _files(unchecked):
        part.replace(place.with_suffix(part.suffix))
    return ExportResult(place, format, precision, outcome, outcome.write(place, weights, format))
