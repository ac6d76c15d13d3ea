"""`shrink`: a smaller detector for a run's job, as large as a time on this machine allows."""

import contextlib
import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssd.api.compare import ComparisonResult, compare
from ssd.api.overrides import Overrides, as_list
from ssd.api.shrink_choice import FACTS, Choice, earlier_choice, new_choice
from ssd.benchmark.largest_in_time import Timed, table
from ssd.benchmark.latency import LEAST, p95, rounds_in_turns
from ssd.errors import ArgumentError, CheckpointError, DownloadError, SSDError, is_number, printable
from ssd.evaluation.comparison import conclusion
from ssd.experiment import config_file as configs
from ssd.experiment.config import Config
from ssd.experiment.data import open_split
from ssd.experiment.training_config import CONFIG, run_of
from ssd.exporters.export import export
from ssd.exporters.int8 import CALIBRATION_IMAGES
from ssd.inference.load import load, load_network
from ssd.inference.options import named_options
from ssd.system.optional import load_extra
from ssd.system.temporary_folder import temporary_folder
from ssd.training.run_folder import RunFolder
from ssd.training.trainer import train as train_config


@dataclass(frozen=True, repr=False)
class ShrinkResult:
    """A smaller detector, its time, and the AP that it costs."""

    weights: Path  # of the smaller detector: a weights file, or a graph in 8 bits
    limit: float  # milliseconds
    p95: float  # of the trained detector, in milliseconds
    run_p95: float  # of the run's detector, timed in turns with it
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
        within = f"{'within' if self.fits else 'NOT within'} {self.limit:g} ms"
        if not self.fits:
            within += ": a lower --ms gives a smaller network"
        lines += [
            f"A: {self.comparison.a.weights}, p95 {self.run_p95:.1f} ms ({self.timed[0].p95:.1f} before training)",
            f"B: {self.weights}, p95 {self.p95:.1f} ms after training, {within}",
            conclusion(self.comparison.comparison),
        ]
        return "\n".join([lines[0], *map(printable, lines[1:])])

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain JSON types."""
        return {
            "weights": str(self.weights),
            "limit": self.limit,
            "p95": self.p95,
            "run_p95": self.run_p95,
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
    (`ssd.benchmark.smaller_networks`); `int8` also tries them in 8 bits by OpenVINO. The largest is the one with the
    most multiply-adds. The time is the 95th percentile of `detect` for one decoded image, as the median of five rounds.
    The network is trained as the run was, with `overrides`, into `<output>/<name>`, by default the run's name with
    `-30ms`; the run's own network starts from the run's weights. model.backbone, model.width, model.head and
    model.input_size among the overrides limit the choice.

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
    images = [val.load(row).image for row in range(0, len(val), -(-len(val) // LEAST))]
    choice = earlier_choice(target.path, asked)
    if choice is None:
        choice = new_choice(source.weights, config, images, asked, changes)
        if choice.is_the_run:
            time = choice.timed[0].p95
            return ShrinkResult(source.weights, ms, time, time, choice.timed, None)
        choice.write(target.path)
    weights = _trained(choice, source.weights, target, progress=progress)
    detector = load(weights) if weights.suffix == ".xml" else load(weights, device=config.train.device)
    large = load(source.weights, device=config.train.device)
    time, large_time = map(p95, rounds_in_turns([detector, large], images))
    comparison = compare(str(source.path), detector, val)
    result = ShrinkResult(weights, ms, time, large_time, choice.timed, comparison)
    choice.write(target.path, result.to_dict())
    return result


def _run(named: str | Path) -> RunFolder:
    """The run of a path, with weights.

    Raises:
        CheckpointError: it is no run, or has no weights yet.
    """
    path = run_of(named)
    if path is None:
        raise CheckpointError(f"there is no {CONFIG}", place=named, remedy="Name the folder of a run: runs/NAME.")
    run = RunFolder(path if path.name not in ("", "..") else path.resolve())  # `.` has no name to add to
    if run.weights is None:
        raise CheckpointError("has no weights yet", place=path, remedy=f"Train it: ssd train --resume {path}.")
    return run


def _trained(choice: Choice, own: Path, target: RunFolder, *, progress: bool) -> Path:
    """Train the chosen network, or go on with that; in 8 bits, export it."""
    config, weights = configs.from_dict(choice.config, str(target.path / FACTS)), own
    if choice.to_train:
        try:
            outcome = train_config(config, resume="auto", progress=progress)
        except SSDError as error:
            if not (target.path / CONFIG).exists():  # it did not start, so that another network may be chosen
                (target.path / FACTS).unlink()
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
