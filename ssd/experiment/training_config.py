"""Chooses the config of a training: a file, that of the run to resume, the defaults, or the demo's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssd.errors import CheckpointError, ConfigError
from ssd.experiment import config_file
from ssd.experiment.config import Config
from ssd.experiment.named_start import start_keys, with_default_start, with_keys_of_weights

CONFIG = "config.yaml"  # in the folder of a run
Override = str | tuple[str, Any]


def training_config(
    config: str | Path | None,
    data: str | Path | None = None,
    overrides: Sequence[Override] = (),
    resume: str | None = None,
    start: str | None = None,
) -> Config:
    """The config of a training: a file, that of the run `resume`, the defaults for `data`, or the demo's.

    `start` is what `--start` names: coco, ssdlite, imagenet, none or a file. Backbone, width and input size are those
    of the detector that training starts from, unless the file or an override has a value for them.

    Raises:
        ConfigError: no such file, a wrong key or value, or two starts.
        CheckpointError: no such run, or one without its config.
    """
    if data is not None and not str(data).strip():
        raise ConfigError("names no folder", place="--data", remedy="Name one: --data FOLDER.")
    path: str | Path | None = config
    if config is None and resume is not None and resume != "auto":
        path = _config_of_run(resume)
    elif config is None and data is None and not {"data.folder", "data.folders"} & set(map(_key, overrides)):
        path = config_file.builtin("demo")
    elif config is not None and Path(config).suffix == "" and not Path(config).exists():
        path = config_file.builtin(str(config))
    if data is not None and (twice := {"data.folder", "data.folders"} & set(map(_key, overrides))):
        problem = f"--data {data} and {min(twice)}= both name the images"
        raise ConfigError(problem, place="the command line", remedy="Drop one.")
    first: list[Override] = [] if data is None else [("data.folder", str(data))]
    if start is not None:
        first += start_keys(start, overrides)
    made, given = config_file.load_with_keys(path, [*first, *overrides])
    if made.data.folder is not None and made.data.format == "shapes":
        problem = "data.format=shapes, as in the demo, draws its images and reads no folder"
        raise ConfigError(problem, place=made.data.folder, remedy="Set data.format=auto, or name no folder.")
    return with_default_start(with_keys_of_weights(made, given), given)


def _key(override: Override) -> str:
    return override.partition("=")[0].strip() if isinstance(override, str) else override[0]


def _config_of_run(resume: str) -> Path:
    run = run_of(resume)
    if run is not None:
        return run / CONFIG
    if not Path(resume).exists():
        raise CheckpointError("no such run or state", place=resume, remedy="Name a folder of a run, or a state-*.pt.")
    if Path(resume).is_dir() and not any(Path(resume).glob("state-*.pt")):
        raise CheckpointError("is no run: it holds no state", place=resume, remedy="Name a folder of a run.")
    remedy = "Name the config file it was started with, too."
    raise CheckpointError(f"there is no {CONFIG} of the run", place=resume, remedy=remedy)


def run_of(named: str | Path) -> Path | None:
    """The run folder of a path, which is the folder or a state in it; None if it belongs to no run."""
    path = Path(named)
    folder = path if path.is_dir() else path.parent
    return folder if path.exists() and (folder / CONFIG).exists() else None
