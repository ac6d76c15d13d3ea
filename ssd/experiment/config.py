"""An experiment as frozen dataclasses: load from YAML, override with `group.key=value`, save beside the run.

Every key, its default and its meaning is in this file and nowhere else. `mode` picks between the paper's behaviour and
ours for the keys that are left at `None`; `resolve` fills them in, so that a saved config says what happened. What
depends on the weights that training starts from stays `auto` or `None`: norms, default boxes, frozen stages. Norms and
default boxes travel in the weights file.
"""

import copy
import dataclasses
import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ssd.errors import ConfigError
from ssd.system.yaml import parse_yaml, shown

_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=False)


@dataclass(frozen=True)
class ModelConfig:
    """Which network, at what size, starting from which weights.

    Where `weights` names a detector, what is `auto`, and a null `clip_boxes`, is as that one was trained with.
    """

    __pydantic_config__ = _STRICT

    backbone: str = (
        "vgg16"  # vgg11, 13, 16, 16c, 19 (each also _bn), torchvision's or timm's: ssd.model.factory.BACKBONES
    )
    input_size: int = 300  # pixels; the levels follow from it
    width: float = 1.0  # multiplies VGG's channel counts; below 1 for small networks that learn from scratch
    extras_norm: Literal["none", "batch", "group", "auto"] = "none"  # BatchNorm, GroupNorm; auto: group in new layers
    fc_norm: Literal["none", "batch", "group", "auto"] = "none"  # in a plain VGG's conv6, conv7; auto: group if new
    atrous: bool = (
        True  # a VGG's dilated conv6; false: fc6 and fc7 whole behind a pool5 that halves, and one level more
    )
    levels: tuple[int, ...] | None = None  # grids predicted from, fine first: [38, 19, 10, 5]; null: all there are
    resize: Literal["uint8", "area"] | None = None  # images to detect in: as Caffe did, or filtered as in training
    backbone_weights: str = "imagenet"  # imagenet, imagenet_features (VGG16), none, or a file
    weights: str | None = None  # fine-tune from this detector (file, run, hf://owner/name); head rows by class name
    freeze_stages: int | Literal["auto"] = 0  # VGG stages that keep their weights; auto: 2 if theirs were loaded
    initialisation: Literal["caffe", "data"] | None = None  # new layers: fan-in Xavier alone, or then scaled on a batch
    box_table: Literal["voc", "coco", "fine", "auto"] = "voc"  # fine: VOC's, from COCO's smallest; auto: fine
    min_sizes: tuple[float, ...] | None = None  # fractions of the image, instead of the table
    max_sizes: tuple[float, ...] | None = None  # the second square of a level is the mean of both sizes
    aspect_ratios: tuple[tuple[float, ...], ...] | None = None  # above 1, a list a level; each brings its inverse
    truncate_sizes: bool | None = None  # cut box sizes to whole pixels, as Caffe does
    box_voting: float | None = None  # boxes found are means of those around them: sigma of the weights; 0: as predicted
    clip_boxes: bool | None = None  # cut default boxes to the image; null: no, like Caffe; several ports do


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how they reach the network."""

    __pydantic_config__ = _STRICT

    format: Literal["auto", "voc", "coco", "yolo", "shapes", "voc07+12", "coco2017"] = "auto"  # auto: recognised
    folder: str | None = None  # not needed for `shapes`; named sets are downloaded into it
    train: str | None = None  # name of the training split; null: the usual names
    val: str | None = None  # name of the validation split; null: the usual names
    classes: tuple[str, ...] | None = None  # names in the order of the labels; null: from the data
    bad_objects: Literal["error", "drop"] = "error"  # boxes without area, of unknown classes: stop, or leave them out
    bad_images: Literal["error", "skip"] = "error"  # images that cannot be decoded: stop, or take a neighbour instead
    difficult: Literal["train", "drop"] = "train"  # objects that VOC calls difficult: learn them, or leave them out
    voc_offset: Literal["0", "1", "auto"] = "1"  # what is subtracted from VOC corner coordinates
    allow_outside: bool = False  # may annotations name images outside the folder
    workers: int = 2  # processes that decode and augment; 0: none but the one that trains
    timeout: float = 120.0  # seconds a worker may take for one batch
    shapes_train: int = 400  # how many images `shapes` draws to train on
    shapes_val: int = 80  # and to evaluate on
    shapes_size: int = 160  # side of a drawn image in pixels


@dataclass(frozen=True)
class AugmentConfig:
    """Section 2.2 of the paper, each part with its own switch."""

    __pydantic_config__ = _STRICT

    photometric: bool = True  # distort brightness, contrast, saturation and hue
    expand: bool = True  # every second image on a larger canvas: small objects
    max_expand: float = 4.0  # sides of the canvas at most, in sides of the image
    crop: bool = True  # cut out a part that holds an object
    mirror: bool = True  # left and right, every second image
    flip_vertical: bool = False  # for images without an up, such as microscopy
    order: Literal["paper", "warp"] | None = None  # steps on the big image, or one resampling and then colours


@dataclass(frozen=True)
class LossConfig:
    """Matching and the multibox loss.

    Null `variances` are, where `model.weights` names a detector, those it was trained with.
    """

    __pydantic_config__ = _STRICT

    match_iou: float = 0.5  # overlap from which a default box answers for an object
    negative_iou: float | None = None  # overlap from which an unmatched one is no negative; 1: all others are
    negative_ratio: int = 3  # hard negatives for each matched default box
    negatives_per_empty_image: int | None = None  # hard negatives of a image without objects
    box_weight: float = 1.0  # of the box part against the class part; alpha of equation 1
    label_smoothing: float = 0.0  # share of each target spread over all classes; 0.1 in Inception v3
    auxiliary_weight: float = 0.0  # of the heads of googlenet and inception_v3, which only train; 0.3 in the paper
    variances: tuple[float, float, float, float] | None = None  # what offsets are divided by; null: 0.1, 0.1, 0.2, 0.2


@dataclass(frozen=True)
class OptimConfig:
    """SGD and its schedule. Step counts are optimizer steps."""

    __pydantic_config__ = _STRICT

    lr: float | None = None  # null: `lr_per_image` x images per step, but not above `max_lr`
    lr_per_image: float | None = None  # null: 7.5e-4, which is 6e-3 at a batch of 8; the linear scaling rule
    max_lr: float | None = None  # where that rule ends; null: 0.012, at 16 images
    momentum: float = 0.9  # of SGD
    weight_decay: float = 5e-4  # of weights alone, unless bias_decay
    bias_lr_factor: float | None = None  # rate of biases, in rates of weights
    bias_decay: bool | None = None  # are biases decayed like weights
    backbone_lr_factor: float = 1.0  # rate of the layers that start from pretrained weights, as a share of lr
    schedule: Literal["steps", "cosine"] | None = None  # how the learning rate falls
    steps: tuple[float, ...] = (2 / 3, 5 / 6)  # where lr falls tenfold, as fractions of the run
    final_lr: float = 0.01  # cosine ends at this fraction of lr
    warmup: int | None = None  # steps of linear warm-up, a tenth of the run at most
    clip_norm: float | None = 10.0  # longest gradient; null: as it is
    accumulate: int = 1  # batches per optimizer step
    ema: float | None = None  # decay of the averaged weights; 0 switches it off


@dataclass(frozen=True)
class TrainConfig:
    """How long, how, and what is kept."""

    __pydantic_config__ = _STRICT

    epochs: int = 25  # times through the training images
    batch_size: int = 8  # images per batch over all processes together
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 where the machine is fast in it
    device: str = "auto"  # auto: a GPU where there is one; cpu, cuda, cuda:1
    compile: bool = False  # torch.compile: minutes at the start; for GPUs (on a CPU steps were slower)
    eval_every: int = 5  # epochs between evaluations; the last epoch always evaluates
    save_every: int = 1  # epochs between saves of `last`
    keep: int = 2  # run states kept on disk, besides `best`
    log_every: int = 10  # steps between log rows
    metric: Literal["coco", "voc"] = "coco"  # whose AP decides which weights are best
    coco_backend: Literal["pycocotools", "fast"] = "pycocotools"  # fast: faster-coco-eval, equal figures sooner
    patience: int | None = None  # stop after so many evaluations without a better AP


@dataclass(frozen=True)
class Config:
    """One experiment."""

    __pydantic_config__ = _STRICT

    name: str = "run"  # of the run's folder
    seed: int = 0  # of every random draw
    mode: Literal["default", "paper"] = "default"  # which defaults the keys left at null take
    output: str = "runs"  # folder of all runs; each has a folder of its name in it
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


# What `mode` decides, key by key: (paper, default). Every difference is listed in the README with its reason.
MODE_DEFAULTS: dict[str, tuple[Any, Any]] = {
    "model.initialisation": ("caffe", "data"),
    "model.truncate_sizes": (True, False),
    "model.resize": ("uint8", "area"),
    "model.box_voting": (0.0, 0.05),
    "augment.order": ("paper", "warp"),
    "loss.negative_iou": (1.0, 0.4),
    "loss.negatives_per_empty_image": (0, 32),
    "optim.lr_per_image": (1e-3 / 32, 7.5e-4),
    "optim.max_lr": (1.0, 0.012),  # 1: nowhere
    "optim.bias_lr_factor": (2.0, 1.0),
    "optim.bias_decay": (False, False),
    "optim.schedule": ("steps", "cosine"),
    "optim.warmup": (0, 100),
    "optim.ema": (0.0, 0.998),
}


def load(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file (or start from the defaults), apply `group.key=value` overrides, check every key.

    Raises:
        ConfigError: names the file, the key, the value and the nearest known key.
    """
    place = "the command line" if path is None else str(path)
    raw = {} if path is None else _read_yaml(Path(path))
    changed = copy.deepcopy(raw)
    for text in overrides:
        _override(changed, text)
    try:
        return from_dict(changed, place)
    except ConfigError:
        from_dict(raw, place)  # a mistake of the file's own is named as such
        return from_dict(changed, "the command line")


def from_dict(raw: dict[str, Any], place: str = "config") -> Config:
    """Check a plain dict against the dataclasses; unknown keys are errors."""
    try:
        return TypeAdapter(Config).validate_python(raw)
    except ValidationError as error:
        raise _explain(error, place) from None


def to_dict(config: Config) -> dict[str, Any]:
    """Turn a config into plain JSON types."""
    return _plain(dataclasses.asdict(config))  # type: ignore[no-any-return]


def to_yaml(config: Config) -> str:
    """YAML that `load` reads back equal."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def resolve(config: Config) -> Config:
    """Fill every key that `mode` decides, and the learning rate; the result says what will run.

    All but what is `auto`, which waits for the weights that training starts from.
    """
    changes: dict[str, dict[str, Any]] = {}
    for dotted, (paper, default) in MODE_DEFAULTS.items():
        group, key = dotted.split(".")
        if getattr(getattr(config, group), key) is None:
            changes.setdefault(group, {})[key] = paper if config.mode == "paper" else default
    groups = {group: dataclasses.replace(getattr(config, group), **values) for group, values in changes.items()}
    config = dataclasses.replace(config, **groups)
    return dataclasses.replace(config, optim=_with_lr(config.optim, config.train.batch_size))


def _with_lr(optim: OptimConfig, batch_size: int) -> OptimConfig:
    assert optim.lr_per_image is not None
    assert optim.max_lr is not None
    by_rule = min(optim.lr_per_image * batch_size * optim.accumulate, optim.max_lr)
    return dataclasses.replace(optim, lr=by_rule if optim.lr is None else optim.lr)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("no such config file", place=path, remedy="See configs/ for examples.") from None
    except IsADirectoryError:
        remedy = f"If it holds images, write --data {path}."
        raise ConfigError("is a folder, not a config file", place=path, remedy=remedy) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read ({error})", place=path) from None
    raw = parse_yaml(text, path, ConfigError)
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise ConfigError(f"holds {type(raw).__name__}, not `group:` keys", place=path, remedy="See configs/demo.yaml.")
    return raw


def _override(raw: dict[str, Any], text: str) -> None:
    dotted, equals, value = text.partition("=")
    if not equals or not dotted:
        raise ConfigError(f"{text!r} is not an override", place="the command line", remedy="Write group.key=value.")
    *groups, key = dotted.strip().split(".")
    here = raw
    for group in groups:
        here = here.setdefault(group, {})
        if not isinstance(here, dict):
            raise ConfigError(f"{group!r} is not a group", place=f"override {text!r}", remedy="Write group.key=value.")
    try:
        here[key] = parse_yaml(value, text, ConfigError) if value else None
    except ConfigError:
        here[key] = value
    if isinstance(here[key], str):
        here[key] = _number(here[key])


def _number(text: str) -> str | float:
    """YAML 1.1 reads 1e-3 as a string; people mean a number."""
    try:
        return float(text) if any(c.isdigit() for c in text) else text
    except ValueError:
        return text


def _explain(error: ValidationError, place: str) -> ConfigError:
    first = error.errors()[0]
    keys = [str(part) for part in first["loc"]]
    dotted = ".".join(keys)
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = _known_keys(keys[:-1])
        close = difflib.get_close_matches(keys[-1], known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(known)}."
        return ConfigError(f"unknown key {dotted!r}", place=place, remedy=hint)
    if first["type"] == "missing":
        return ConfigError(f"key {dotted!r} is missing", place=place, remedy="Add it.")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    problem = f"{dotted} = {shown(first.get('input'))}: {first['msg']}{more}"
    return ConfigError(problem, place=place, remedy="Correct it.")


def _known_keys(groups: list[str]) -> list[str]:
    kind: Any = Config
    for group in groups:
        kind = get_type_hints(kind).get(group, kind)
    return (
        [f.name for f in dataclasses.fields(kind)]
        if dataclasses.is_dataclass(kind)
        else [str(a) for a in get_args(kind)]
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def builtin(name: str) -> Path:
    """Path of one of the configs that come with the package: `demo`, `finetune`, `ssd300_voc` and so on.

    Raises:
        ConfigError: no such config.
    """
    package = Path(__file__).resolve().parents[1]
    # An installed wheel carries them inside the package, a checkout beside it.
    folders = (package / "configs", package.parent / "configs")
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise ConfigError(f"no config {name!r}", place="configs", remedy=f"There are: {', '.join(known)}.")
