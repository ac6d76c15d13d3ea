"""Config keys of earlier versions: their replacements, or the values that are fixed now.

Old run folders, run states and config files contain them. A key with the value that is fixed now is dropped; any other
value is an error.
"""

import logging
from dataclasses import dataclass
from typing import Any

from ssd.data.formats.grouping import COPIES
from ssd.errors import ConfigError
from ssd.experiment.config import PAPER_RULES, DataConfig, ModeRules
from ssd.experiment.key_types import converted
from ssd.system.yaml import Unquoted, parse_yaml, shown

log = logging.getLogger(__name__)
_RULES = ModeRules()
_SAME = object()
_PAPER_EXPANSION, _PAPER_CROP = 4.0, 0.3


@dataclass(frozen=True)
class Retired:
    """The fixed value of a retired key, by default and in `mode: paper`."""

    value: Any
    in_paper_mode: Any = _SAME
    learned: bool = True  # whether the value affects the trained network
    instead: str = ""  # the replacement to write

    def now(self, mode: object) -> Any:
        """The fixed value in `mode`."""
        return self.in_paper_mode if mode == "paper" and self.in_paper_mode is not _SAME else self.value


_LR = "Set optim.lr=RATE instead."
RETIRED = {
    "model.initialisation": Retired("data", "caffe"),
    "model.truncate_sizes": Retired(_RULES.truncate_box_sizes, PAPER_RULES.truncate_box_sizes),
    "model.resize": Retired(_RULES.resize, PAPER_RULES.resize),
    "model.clip_boxes": Retired(None),
    "data.difficult": Retired("train"),
    "augment.order": Retired(_RULES.augmentation, PAPER_RULES.augmentation),
    "loss.box_weight": Retired(1.0),
    "loss.variances": Retired(None),
    "optim.lr_per_image": Retired(_RULES.lr_per_image, PAPER_RULES.lr_per_image, instead=_LR),
    "optim.lr_per_picture": Retired(_RULES.lr_per_image, PAPER_RULES.lr_per_image, instead=_LR),
    "optim.max_lr": Retired(_RULES.max_lr, PAPER_RULES.max_lr, instead=_LR),
    "optim.momentum": Retired(0.9),
    "optim.bias_lr_factor": Retired(_RULES.bias_lr_factor, PAPER_RULES.bias_lr_factor),
    "optim.bias_decay": Retired(False),
    "optim.final_lr": Retired(0.01),
    "train.save_every": Retired(1, learned=False),
    "train.keep": Retired(2, learned=False),
    "train.coco_backend": Retired("pycocotools", learned=False, instead="ssd eval takes --coco-backend."),
}
_WRITTEN_BY_RUNS = {"folder", "train", "val", "classes", "allow_outside", "timeout"}  # of data, by every version
# The items of data.shapes, in their order.
_SHAPES = ("shapes_train", "shapes_val", "shapes_size")


def without_retired(raw: dict[str, Any], place: object, *, of_a_state: bool = False) -> dict[str, Any]:
    """Replace retired keys. In a run's state those without an effect on the trained network are dropped.

    Raises:
        ConfigError: a key has a value that is no longer supported.
    """
    groups = {key: dict(value) if isinstance(value, dict) else value for key, value in raw.items()}
    _move_shapes(groups.get("data"))
    _move_steps(groups.get("optim"))
    _move_switches(groups.get("augment"))
    _divide_as_before(groups.get("data"))
    for dotted, retired in RETIRED.items():
        name, key = dotted.split(".")
        group = groups.get(name)
        if not isinstance(group, dict) or key not in group:
            continue
        value = _value(group.pop(key))
        follows_lr = key in ("lr_per_image", "lr_per_picture", "max_lr") and _value(group.get("lr")) is not None
        if value is None or value == retired.now(raw.get("mode")) or follows_lr:
            continue
        if not retired.learned and of_a_state:
            continue
        raise _gone(dotted, retired, value, raw.get("mode"), place)
    return groups


def _gone(dotted: str, retired: Retired, value: Any, mode: object, place: object) -> ConfigError:
    now = retired.now(mode)
    fixed = "as the weights to start from have it" if now is None else f"{now} now" + _by_mode(retired, mode)
    remedy = retired.instead or "Remove it."
    if retired.in_paper_mode is not _SAME and value in (retired.value, retired.in_paper_mode):
        remedy = f"Remove it, or write mode={'paper' if value == retired.in_paper_mode else 'default'}."
    problem = f"{dotted} = {shown(value)} is no longer a key: it is {fixed}"
    return ConfigError(problem, place=place, remedy=remedy)


def _by_mode(retired: Retired, mode: object) -> str:
    return "" if retired.in_paper_mode is _SAME else f" in mode {mode or 'default'}"


def _move_shapes(data: Any) -> None:
    """Combine `shapes_train`, `shapes_val` and `shapes_size` in one list."""
    if not isinstance(data, dict) or not data.keys() & set(_SHAPES):
        return
    shapes = data.get("shapes", DataConfig.shapes)
    if isinstance(shapes, list | tuple) and len(shapes) == len(_SHAPES):
        data["shapes"] = [data.pop(key, there) for key, there in zip(_SHAPES, shapes, strict=True)]


def _move_steps(optim: Any) -> None:
    """Replace `schedule: steps` and its `steps` by the list alone; a cosine ignored `steps`."""
    if not isinstance(optim, dict):
        return
    steps = optim.pop("steps", None)
    schedule = optim.get("schedule")
    if schedule == "steps" or (steps is not None and isinstance(schedule, list | tuple)):
        optim["schedule"] = [2 / 3, 5 / 6] if steps is None else steps


def _move_switches(augment: Any) -> None:
    """Replace the switches `expand`, with its `max_expand`, and `crop` by numbers: the paper's, and 1 for none."""
    if not isinstance(augment, dict):
        return
    most = _value(augment.pop("max_expand", None))
    switch = _value(augment.get("expand"))
    if isinstance(switch, bool) or most is not None:
        augment["expand"] = 1.0 if switch is False else most or _PAPER_EXPANSION
    cropped = _value(augment.get("crop"))
    if isinstance(cropped, bool):
        augment["crop"] = _PAPER_CROP if cropped else 1.0


def _divide_as_before(data: Any) -> None:
    """Keep the division of a run of an earlier version, which wrote all of its keys: it went by the names alone."""
    if isinstance(data, dict) and "group" not in data and data.keys() >= _WRITTEN_BY_RUNS:
        data["group"] = COPIES


def _value(value: Any) -> Any:
    """The value of unquoted text in those versions."""
    if not isinstance(value, Unquoted):
        return value
    number = converted(value, float)
    return number if isinstance(number, float | int) else parse_yaml(value, "config", ConfigError)
