"""Which smaller network `shrink` trains: chosen by times on this machine, or in an earlier call."""

import dataclasses
import functools
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.benchmark.largest_in_time import Entrant, Timed, choose
from ssd.benchmark.latency import Image, busy
from ssd.benchmark.smaller_networks import candidates, described, multiply_adds, opened
from ssd.errors import ArgumentError
from ssd.experiment import config_file as configs
from ssd.experiment.config import Config
from ssd.experiment.training_config import Override
from ssd.inference.load import load
from ssd.system.files import check_writable, write_atomic
from ssd.training.run_lock import LOCK

log = logging.getLogger(__name__)

FACTS = "shrink.json"


@dataclass(frozen=True)
class Choice:
    """What was asked, what was timed for it, and the network that was chosen: the content of shrink.json."""

    asked: dict[str, Any]
    timed: tuple[Timed, ...]  # first the detector of the run, last the network that was chosen
    config: dict[str, Any]
    precision: str
    to_train: bool  # not the run's own network, which is trained already

    @property
    def is_the_run(self) -> bool:
        """Whether the run's detector is within the time as it is."""
        return len(self.timed) == 1

    def write(self, folder: Path, result: dict[str, Any] | None = None) -> None:
        """Write it into the folder, with the result where there is one."""
        folder.mkdir(parents=True, exist_ok=True)
        facts = {**dataclasses.asdict(self), "result": result}
        write_atomic(folder / FACTS, json.dumps(facts, indent=2).encode())


def earlier_choice(folder: Path, asked: dict[str, Any]) -> Choice | None:
    """The choice of an earlier call with the same arguments; None where the folder is empty or missing.

    Raises:
        ArgumentError: the folder holds something else.
    """
    check_writable(folder / FACTS)
    if not folder.is_dir() or all(path.name == LOCK for path in folder.iterdir()):
        return None
    facts = {}
    if (folder / FACTS).is_file():
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    if facts.get("asked") != asked:
        raise ArgumentError("holds something else", place=folder, remedy="Choose another name: --name NAME.")
    log.info("%s: going on with the network that was chosen", folder)
    timed = tuple(Timed(**{**row, "rounds": tuple(row.get("rounds", ()))}) for row in facts["timed"])
    return Choice(asked, timed, facts["config"], facts["precision"], facts["to_train"])


def new_choice(
    weights: Path, config: Config, images: Sequence[Image], asked: dict[str, Any], changes: Sequence[Override]
) -> Choice:
    """The largest candidate in time, or the run's own detector.

    Raises:
        ArgumentError: no network is that fast.
    """
    device = config.train.device
    detector = load(weights, device=device)
    own = detector.settings
    fixed = [change.partition("=")[0].strip() if isinstance(change, str) else change[0] for change in changes]
    listed = candidates(config, own, str(weights), fixed, eight_bits=asked["int8"])
    listed = [one for one in listed if one.precision != "auto" or one.settings.network != own.network]
    others = (
        Entrant(
            described(one.settings.network),
            one.settings.network.input_size,
            one.multiply_adds,
            functools.partial(opened, one, images, device=device),
        )
        for one in listed
    )
    itself = Entrant(described(own.network), own.network.input_size, multiply_adds(own), lambda: detector)
    if (load_of_others := busy()) is not None:
        log.warning(
            "other programs use this machine (%s), so that times are too long, and the network that is chosen too "
            "small: stop them first",
            load_of_others,
        )
    timed = choose([itself, *others], images, asked["ms"], _log, load=load_of_others)
    if len(timed) == 1:
        return Choice(asked, timed, configs.to_dict(config), "auto", to_train=False)
    chosen = listed[len(timed) - 2]
    to_train = chosen.settings.network != own.network
    return Choice(asked, timed, configs.to_dict(chosen.config), chosen.precision, to_train)


def _log(one: Timed) -> None:
    log.info("%s at %d pixels, %s: p95 %.1f ms", one.name, one.input_size, one.precision, one.p95)
