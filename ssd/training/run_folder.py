"""A run's folder: its config, its logs, its states to resume from, and its weights.

config.yaml  environment.json  train.jsonl/.csv  val.jsonl/.csv  state-00000900.pt  last.safetensors  best.safetensors
"""

import contextlib
import glob
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.errors import ArgumentError, CheckpointError, ConfigError
from ssd.experiment.training_config import CONFIG, run_of
from ssd.system.environment import environment
from ssd.system.files import check_writable, clean_leftovers, write_atomic, write_json
from ssd.system.yaml import parse_yaml
from ssd.training.checkpoints import load_state, newest_whole, prune, save_state
from ssd.training.run_lock import LOCK, RunLock, lock_folder, owner_of

log = logging.getLogger(__name__)

STATES = f"state-{'[0-9]' * 8}.pt"  # no copy that a user has named otherwise
STATES_KEPT = 2  # if the newest is damaged, a run resumes from the one before


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def best(self) -> Path:
        """Weights with the best AP so far."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """Weights of the newest evaluation."""
        return self.path / "last.safetensors"

    @property
    def weights(self) -> Path | None:
        """The best weights, else those of the newest evaluation; None before the first one."""
        return next((path for path in (self.best, self.last) if path.is_file()), None)

    def describe(self, config: str, class_names: Sequence[str], seed: int) -> None:
        """Write the config (YAML) and the environment: versions, git commit, classes, command."""
        write_atomic(self.path / CONFIG, config.encode())
        facts = {"class_names": class_names, "command": sys.argv, "seed": seed, **environment()}
        write_json(self.path / "environment.json", facts)

    def save_state(self, state: dict[str, Any], step: int) -> None:
        """Write a state to disk; delete the oldest ones, and those of later steps, which the run is not at any more."""
        save_state(self.path / f"state-{step:08d}.pt", state)
        for path in self.path.glob(STATES):
            if path.stem > f"state-{step:08d}":
                path.unlink(missing_ok=True)
        prune(self.path, STATES_KEPT, STATES)


def has_states(folder: Path) -> bool:
    """Whether the folder holds run states, whole or not."""
    return any(folder.glob(STATES))


def find_state(folder: RunFolder | None, resume: str) -> dict[str, Any] | None:
    """The state to resume from: `auto` is the newest undamaged one of the folder, a path is that file or run.

    None for `auto` if nothing has been saved yet.

    Raises:
        CheckpointError: the named file is missing or damaged, every state of the folder is, or it has none.
    """
    named = Path(resume)
    if resume != "auto" and not named.is_dir():
        return load_state(named)
    if resume == "auto" and folder is None:
        log.info("nothing to resume: starting fresh")
        return None
    place = named if folder is None else folder.path
    path = newest_whole(place, STATES)
    if path is not None:
        return load_state(path)
    if has_states(place):
        raise CheckpointError("every saved state is damaged", place=place, remedy="Start a new run.")
    if resume != "auto":
        remedy = "It ended before it saved one: start it again with the command it was started with."
        raise CheckpointError("holds no saved state", place=place, remedy=remedy)
    log.info("nothing to resume in %s: starting fresh", place)
    return None


def check_folder(resumed: RunFolder | None, output: str | Path, name: str) -> None:
    """Fail before the data are read if the folder of a resumed or a new run cannot be written.

    Raises:
        ConfigError: `name` is no name for a folder.
        SSDError: nothing can be written there, or no space is left.
    """
    check_writable(_folder(output, name) if resumed is None else resumed.path / CONFIG)


@contextlib.contextmanager
def new_run(output: str | Path, name: str) -> Iterator[RunFolder]:
    """Make and lock a folder `<output>/<name>`, or `<name>-2` and so on where that is taken, for a `with` block.

    Two runs that start at the same moment get two folders.

    Raises:
        ConfigError: the folder cannot be made.
    """
    base = _folder(output, name)
    number, path = 1, base
    try:
        while (lock := _claim(path)) is None:
            number += 1
            path = base.with_name(f"{base.name}-{number}")
    except OSError as error:
        problem = f"the run's folder cannot be made ({error.strerror})"
        raise ConfigError(problem, place=path, remedy="Set output=FOLDER to a folder of yours.") from None
    if path != base:
        log.info("%s is there already; this run is %s", base, path)
    with contextlib.closing(lock):
        yield RunFolder(path)


@contextlib.contextmanager
def resumed_run(output: str | Path, name: str, resume: str) -> Iterator[RunFolder | None]:
    """Lock the folder of the run to resume: `auto` is the newest of this name, a path is a run or a file of one.

    None if there is no such run yet; then the run is a new one.

    Raises:
        ArgumentError: the run is still going.
        CheckpointError: the path does not exist.
    """
    path = _newest_of_name(_folder(output, name)) if resume == "auto" else run_of(resume)
    if path is None or not path.is_dir():
        if resume != "auto" and not Path(resume).exists():
            raise CheckpointError("no such run or state", place=resume, remedy="Check the path.")
        yield None
        return
    lock = lock_folder(path)
    if lock is None:
        owner = owner_of(path)
        raise ArgumentError(f"{owner} is training in this folder", place=path, remedy="Wait until it ends, or stop it.")
    with contextlib.closing(lock):
        clean_leftovers(path)
        yield RunFolder(path)


def _folder(output: str | Path, name: str) -> Path:
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ConfigError(f"{name!r} is not a name for a folder", place="name", remedy="Use letters and digits.")
    return Path(output) / path


def _claim(path: Path) -> RunLock | None:
    """Make a folder, or take an empty one, by an operation that succeeds in one process only."""
    made = True
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        made = False
        if not path.is_dir() or _in_use(path):
            return None
    lock = lock_folder(path)
    if lock is None or (not made and lock.descriptor is None):
        return None
    if _in_use(path):  # another run used it in the meantime
        lock.close()
        return None
    return lock


def _in_use(folder: Path) -> bool:
    return any(path.name != LOCK for path in folder.iterdir())


def _newest_of_name(base: Path) -> Path:
    """The run with the highest number among those started under this name, which may differ from the folder's."""
    numbered = (
        (path, path.name.removeprefix(f"{base.name}-")) for path in base.parent.glob(f"{glob.escape(base.name)}-*")
    )
    ours = [(int(number), path) for path, number in numbered if number.isdecimal() and _name_of(path) == base.name]
    return max(ours)[1] if base.exists() and ours else base


def _name_of(run: Path) -> str | None:
    """The last part of the name under which a run was started."""
    try:
        config = parse_yaml((run / CONFIG).read_text(encoding="utf-8"), run / CONFIG, ConfigError)
    except (OSError, ValueError):
        return None
    return Path(str(config.get("name"))).name if isinstance(config, dict) else None


def newest_run(output: str | Path = "runs") -> RunFolder | None:
    """The run with the newest weights, if there is one."""
    weights = newest_weights(output, "best", "last")
    return RunFolder(weights[0].parent) if weights else None


def newest_weights(output: str | Path, *names: str) -> list[Path]:
    """The weights files of these names in all runs, newest first; a run may have a name as `cells/first`."""
    found = (path for top in ("*", "*/*") for name in names for path in Path(output).glob(f"{top}/{name}.safetensors"))
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
