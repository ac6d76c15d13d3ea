"""A run's folder: what it was told, what it measured, the states it can resume from, and its weights.

config.yaml  environment.json  train.jsonl/.csv  val.jsonl/.csv  state-00000900.pt  last.safetensors  best.safetensors
"""

import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.errors import CheckpointError, ConfigError
from ssd.experiment import config_file as configs
from ssd.experiment.config import Config
from ssd.system.environment import environment
from ssd.system.files import clean_leftovers, write_atomic
from ssd.training.checkpoints import load_state, newest_whole, prune, save_state

log = logging.getLogger(__name__)

STATES = "state-*.pt"
STATES_KEPT = 2  # where the newest is damaged, a run goes on from the one before it


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run, and what is read from and written to them."""

    path: Path

    @property
    def best(self) -> Path:
        """Weights with the best AP so far."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """Weights of the newest evaluation."""
        return self.path / "last.safetensors"

    def describe(self, config: Config, class_names: tuple[str, ...]) -> None:
        """Write the config, and what this run ran on: versions, git commit, classes, command."""
        write_atomic(self.path / "config.yaml", configs.to_yaml(config).encode())
        facts = {"class_names": class_names, "command": sys.argv, "seed": config.seed, **environment()}
        write_atomic(self.path / "environment.json", json.dumps(facts, indent=2).encode())

    def save_state(self, state: dict[str, Any], step: int) -> None:
        """Commit a state to disk, then delete the oldest ones."""
        save_state(self.path / f"state-{step:08d}.pt", state)
        prune(self.path, STATES_KEPT, STATES)

    def find_state(self, resume: str | None) -> dict[str, Any] | None:
        """The state to go on from: `auto` takes the newest whole one of this folder, a path takes that file.

        Raises:
            CheckpointError: the named file is missing or damaged, or every state of the folder is.
        """
        if resume is None:
            return None
        if resume != "auto":
            named = Path(resume)
            return load_state(_newest(named) if named.is_dir() else named)
        path = newest_whole(self.path, STATES)
        if path is None:
            if any(self.path.glob(STATES)):
                raise CheckpointError("every saved state is damaged", place=self.path, remedy="Start a new run.")
            log.info("nothing to resume in %s: starting fresh", self.path)
            return None
        return load_state(path)


def _newest(folder: Path) -> Path:
    found = newest_whole(folder, STATES)
    if found is None:
        raise CheckpointError("holds no saved state", place=folder, remedy="Name a folder of a run, or a state-*.pt.")
    return found


def open_folder(config: Config, *, resume: str | None) -> RunFolder:
    """`<output>/<name>`; a new run never writes into an old one's folder but takes the next free number.

    With `resume` the folder to go on in: for `auto` that of the newest run of this name, for a path the run it is of.
    """
    name = Path(config.name)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise ConfigError(f"{config.name!r} is not a name for a folder", place="name", remedy="Use letters and digits.")
    base = Path(config.output) / name
    if resume is None:
        path = _free(base)
        if path != base:
            log.info("%s is there already; this run is %s", base, path)
    else:
        path = _newest_of_name(base, config.name) if resume == "auto" else _run_of(Path(resume)) or _free(base)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"the run's folder cannot be made ({error.strerror})"
        raise ConfigError(problem, place=path, remedy="Set output=FOLDER to a folder of yours.") from None
    clean_leftovers(path)
    return RunFolder(path)


def _free(base: Path) -> Path:
    path, number = base, 2
    while path.exists() and any(path.iterdir()):
        path = base.with_name(f"{base.name}-{number}")
        number += 1
    return path


def _newest_of_name(base: Path, name: str) -> Path:
    """The highest number among runs that were started under this name, which is not always their folder's."""
    numbered = ((path, path.name.removeprefix(f"{base.name}-")) for path in base.parent.glob(f"{base.name}-*"))
    ours = [(int(number), path) for path, number in numbered if number.isdecimal() and _name_of(path) == name]
    return max(ours)[1] if base.exists() and ours else base


def _name_of(run: Path) -> str | None:
    try:
        return configs.load(run / "config.yaml").name
    except ConfigError:
        return None


def _run_of(named: Path) -> Path | None:
    """The run that a folder is, or that a state lies in."""
    folder = named if named.is_dir() else named.parent
    return folder if named.exists() and (folder / "config.yaml").exists() else None


def newest_run(output: str | Path = "runs") -> RunFolder | None:
    """The run whose weights were written last, if there is one."""
    weights = list(Path(output).glob("*/best.safetensors"))
    return RunFolder(max(weights, key=lambda p: p.stat().st_mtime).parent) if weights else None
