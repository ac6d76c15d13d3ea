"""`shrink`: a smaller detector for a run's job, as large as a time on this machine allows."""

import contextlib
import dataclasses
import functools
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssd.api.compare import ComparisonResult, compare
from ssd.api.overrides import Overrides, as_list
from ssd.benchmark.latency import Image, busy, p95
from ssd.benchmark.smaller_networks import (
    Timed,
    candidates,
    choose,
    described,
    multiply_adds,
    table,
    timed,
)
from ssd.errors import ArgumentError, CheckpointError, DownloadError, SSDError, is_number, printable
from ssd.evaluation.comparison import conclusion
from ssd.experiment import config_file as configs
from ssd.experiment.config import Config
from ssd.experiment.data import open_split
from ssd.experiment.training_config import CONFIG, Override, run_of
from ssd.exporters.export import export
from ssd.exporters.int8 import CALIBRATION_IMAGES
from ssd.inference.load import load, load_network
from ssd.inference.options import named_options
from ssd.system.files import check_writable, write_atomic
from ssd.system.optional import load_extra
from ssd.system.temporary_folder import temporary_folder
from ssd.training.run_folder import RunFolder
from ssd.training.run_lock import LOCK
from ssd.training.trainer import train as train_config

log = logging.getLogger(__name__)

_FACTS = "shrink.json"
_TIMED_ON = 16  # images


@dataclass(frozen=True, repr=False)
class ShrinkResult:
    """A smaller detector, its time, and the AP that it costs."""

    weights: Path  # of the smaller detector: a weights file, or a graph in 8 bits
    limit: float  # milliseconds
    p95: float  # of the trained detector, in milliseconds
    timed: tuple[Timed, ...]  # first the detector of the run, then the candidates; the last of them was chosen
    comparison: ComparisonResult | None  # of the smaller detector with that of the run; None where it is that one

    @property
    def fits(self) -> bool:
        """Whether the trained detector is within the limit, as the untrained one was."""
        return self.p95 <= self.limit

    def to_text(self) -> str:
        """The table of what was timed, the time of the result, and what it costs."""
        lines = [table(self.timed, self.limit), ""]
        if self.comparison is None:
            lines.append(f"{self.weights} is within {self.limit:g} ms as it is: nothing was trained.")
            return "\n".join([lines[0], *map(printable, lines[1:])])
        within = "within" if self.fits else "NOT within"
        lines += [
            f"A: {self.comparison.a.weights}, p95 {self.timed[0].p95:.1f} ms",
            f"B: {self.weights}, p95 {self.p95:.1f} ms after training, {within} {self.limit:g} ms",
            conclusion(self.comparison.comparison),
        ]
        return "\n".join([lines[0], *map(printable, lines[1:])])

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain JSON types."""
        return {
            "weights": str(self.weights),
            "limit": self.limit,
            "p95": self.p95,
            "timed": [dataclasses.asdict(one) for one in self.timed],
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
        }

    def __repr__(self) -> str:
        cost = "" if self.comparison is None else f"; {conclusion(self.comparison.comparison)}"
        return f"<ShrinkResult: {self.weights}, p95 {self.p95:.1f} ms{cost}>"


@named_options
def shrink(
    run: str | Path,
    ms: float | int,
    *,
    overrides: Overrides = (),
    name: str | None = None,
    int8: bool = False,
    progress: bool = False,
) -> ShrinkResult:
    """Train the largest network that detects within `ms` milliseconds on this machine, in place of a run's detector.

    Candidates are timed here, the largest first: the run's own network, at smaller input sizes too, and others
    (`ssd.benchmark.smaller_networks`); `int8` also tries them in 8 bits by OpenVINO. The time is the 95th percentile of
    `detect` for one decoded image. The largest is that with the most multiply-adds. It is trained as the run was, with
    `overrides`, into `<output>/<name>`, by default the run's name with `-30ms`; the run's own network starts from the
    run's weights. model.backbone, model.width, model.head and model.input_size among the overrides limit the choice.

    The same call goes on where it was interrupted, with the network that was chosen then; so does
    `ssd train --resume`. Nothing is trained where the run's detector is within `ms` as it is.

    Raises:
        ArgumentError: no network is that fast, or the folder holds something else.
        CheckpointError: `run` is not the folder of a run with weights.
        MissingExtraError: 8 bits need OpenVINO and nncf.
        SSDError: as `ssd.train`.
        KeyboardInterrupt: a signal stopped the training, which was saved.
    """
    if not is_number(ms) or not ms > 0:
        raise ArgumentError(f"{ms!r} is no time", place="--ms", remedy="Use milliseconds above 0.")
    ms = float(ms)
    for package in ("openvino", "nncf") if int8 else ():
        load_extra(package, "int8")
    source, changes = _run(run), as_list(overrides)
    assert source.weights is not None
    config = configs.load(source.path / CONFIG, changes)
    name = name or f"{source.path.name}-{ms:g}ms"
    config = dataclasses.replace(config, name=name, output=str(source.path.parent))
    target = RunFolder(source.path.parent / name)
    asked = {"run": str(source.path.resolve()), "ms": ms, "int8": int8, "overrides": [str(one) for one in changes]}
    val = open_split(config, "val")
    images = [val.load(row).image for row in range(0, len(val), -(-len(val) // _TIMED_ON))]
    choice = _earlier(target, asked)
    if choice is None:
        rows, choice = _choose(source.weights, config, images, asked, changes)
        if choice is None:
            return ShrinkResult(source.weights, ms, rows[0].p95, rows, None)
        choice.write(target)
    weights = _trained(choice, source.weights, target, progress=progress)
    detector = load(weights) if weights.suffix == ".xml" else load(weights, device=config.train.device)
    result = ShrinkResult(
        weights, ms, p95(detector.detect, images), choice.timed, compare(str(source.path), detector, val)
    )
    choice.write(target, result.to_dict())
    return result


@dataclass(frozen=True)
class _Choice:
    """What was asked, what was timed for it, and the network that was chosen: the content of shrink.json."""

    asked: dict[str, Any]
    timed: tuple[Timed, ...]
    config: dict[str, Any]
    precision: str
    to_train: bool

    def write(self, target: RunFolder, result: dict[str, Any] | None = None) -> None:
        """Write it into the folder, with the result where there is one."""
        facts = {**dataclasses.asdict(self), "result": result}
        target.path.mkdir(parents=True, exist_ok=True)
        write_atomic(target.path / _FACTS, json.dumps(facts, indent=2).encode())


def _run(named: str | Path) -> RunFolder:
    """The run of a path, with weights.

    Raises:
        CheckpointError: it is no run, or has no weights yet.
    """
    path = run_of(named)
    if path is None:
        raise CheckpointError(f"there is no {CONFIG}", place=named, remedy="Name the folder of a run: runs/NAME.")
    run = RunFolder(path)
    if run.weights is None:
        raise CheckpointError("has no weights yet", place=path, remedy=f"Train it: ssd train --resume {path}.")
    return run


def _earlier(target: RunFolder, asked: dict[str, Any]) -> _Choice | None:
    """The choice of an earlier call with the same arguments.

    Raises:
        ArgumentError: the folder holds something else.
    """
    check_writable(target.path / _FACTS)
    if not target.path.is_dir() or all(path.name == LOCK for path in target.path.iterdir()):
        return None
    facts = {}
    if (target.path / _FACTS).is_file():
        facts = json.loads((target.path / _FACTS).read_text(encoding="utf-8"))
    if facts.get("asked") != asked:
        raise ArgumentError("holds something else", place=target.path, remedy="Choose another name: --name NAME.")
    log.info("%s: going on with the network that was chosen", target.path)
    timed_before = tuple(Timed(**row) for row in facts["timed"])
    return _Choice(asked, timed_before, facts["config"], facts["precision"], facts["to_train"])


def _choose(
    weights: Path,
    config: Config,
    images: Sequence[Image],
    asked: dict[str, Any],
    changes: Sequence[Override],
) -> tuple[tuple[Timed, ...], _Choice | None]:
    """What was timed, first the run's detector, and the largest candidate in time; None where that is itself."""
    device, ms = config.train.device, asked["ms"]
    detector = load(weights, device=device)
    own = detector.settings
    fixed = [change.partition("=")[0].strip() if isinstance(change, str) else change[0] for change in changes]
    listed = candidates(config, own, str(weights), fixed, eight_bits=asked["int8"])
    if (why := busy()) is not None:
        log.warning("%s, and the network that is chosen too small: stop other programs first", why)
    took = p95(detector.detect, images)
    rows = [Timed(described(own.network), own.network.input_size, detector.precision, multiply_adds(own), took)]
    _say(rows[0])
    if rows[0].p95 <= ms:
        return tuple(rows), None
    listed = [one for one in listed if one.precision != "auto" or one.settings.network != own.network]
    timer = functools.partial(timed, images=images, limit=ms, device=device)

    def note(one: Timed) -> None:
        rows.append(one)
        _say(one)

    chosen = choose(listed, ms, timer, note)
    # The run's own network in 8 bits is trained already.
    return tuple(rows), _Choice(
        asked, tuple(rows), configs.to_dict(chosen.config), chosen.precision, chosen.settings.network != own.network
    )


def _say(one: Timed) -> None:
    log.info("%s at %d pixels, %s: p95 %.1f ms", one.name, one.input_size, one.precision, one.p95)


def _trained(choice: _Choice, own: Path, target: RunFolder, *, progress: bool) -> Path:
    """Train the chosen network, or go on with that; in 8 bits, export it."""
    config, weights = configs.from_dict(choice.config, str(target.path / _FACTS)), own
    if choice.to_train:
        try:
            outcome = train_config(config, resume="auto", progress=progress)
        except SSDError as error:
            if not (target.path / CONFIG).exists():  # it did not start, so that another network may be chosen
                (target.path / _FACTS).unlink()
            if isinstance(error, DownloadError):
                remedy = f"{error.remedy} Or name another network, such as model.backbone=vgg16."
                raise DownloadError(error.problem, place=error.place, remedy=remedy) from None
            raise
        if outcome.exit_code:
            stop = KeyboardInterrupt()
            stop.add_note("stopped; the same command goes on")
            raise stop
        assert outcome.folder.weights is not None
        weights = outcome.folder.weights
    return weights if choice.precision != "int8" else _in_8_bits(weights, config, target.path)


def _in_8_bits(weights: Path, config: Config, folder: Path) -> Path:
    """Write the graph in 8 bits, calibrated on images that were trained on, unless it is there."""
    path = folder / "best.int8.xml"
    if path.is_file():
        return path
    data = open_split(config, "train")
    rows = np.linspace(0, len(data) - 1, min(CALIBRATION_IMAGES, len(data))).astype(int).tolist()
    with temporary_folder(folder, ".export-") as made, contextlib.redirect_stdout(io.StringIO()):
        network, settings = load_network(weights)
        calibration = (data.load(row).image for row in rows)
        export(network, settings, made / path.name, "openvino", precision="int8", calibration=calibration)
        for suffix in (".bin", ".xml"):  # where the .xml is, the .bin is
            (made / path.name).with_suffix(suffix).replace(path.with_suffix(suffix))
    return path
