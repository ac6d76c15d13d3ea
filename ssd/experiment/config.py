"""An experiment as frozen dataclasses: every key with its default, its range and its meaning.

The defaults are those of `ssd train --data FOLDER`. `mode: paper` takes its defaults from `paper.yaml` beside this file
and follows the paper in everything that has no key (`ModeRules`). `auto` is resolved with the weights that training
starts from. `config_file` reads config files and the command line.
"""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from ssd.rules import is_window
from ssd.settings import LossRules
from ssd.tiles import MOST_TILES

_CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False)


def _folder_name(name: str) -> str:
    if not name.isprintable() or any(len(part.encode()) > 200 for part in name.split("/")):
        raise ValueError("must have at most 200 bytes, and no control characters")
    return name


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression ({error})") from None
    return text


def _window(values: tuple[float, float]) -> tuple[float, float]:
    if not is_window(values):
        raise ValueError("must be two values, the lower one first")
    return values


Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]  # 0 is allowed
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
FractionBelowOne = Annotated[float, Field(ge=0, lt=1)]
RegularExpression = Annotated[str, Field(min_length=1), AfterValidator(_regular_expression)]
TileCount = Annotated[int, Field(ge=1, le=MOST_TILES)]
Window = Annotated[tuple[float, float], AfterValidator(_window)]
FolderName = Annotated[str, Field(min_length=1), AfterValidator(_folder_name)]


@dataclass(frozen=True)
class ModelConfig:
    """The network, its input size and the weights it starts from.

    `auto` keeps the value of the detector named by `weights`; without one it is the value that measured best on a few
    hundred images.
    """

    __pydantic_config__ = _CHECKED

    # The backbone: vgg11, vgg13, vgg16, vgg16c, vgg19 (each also with _bn), or a classifier of torchvision
    # or timm. Without a value of their own, this key, input_size and width are those of `weights`.
    backbone: str = "vgg16"
    # Side in pixels of the square that images are resized to.
    input_size: Annotated[int, Field(ge=1, le=4096)] = 300
    # Multiplies VGG's channel counts; below 1 the network is small and learns from scratch.
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    # Heads and extra layers: full 3x3 convolutions, or lite (SSDLite): depthwise ones, for MobileNets; auto: full.
    head: Literal["full", "lite", "auto"] = "auto"
    # Normalisation in the extra layers; auto: GroupNorm where they are new.
    extras_norm: Literal["none", "batch", "group", "auto"] = "auto"
    # Normalisation of conv6 and conv7 in a VGG without BatchNorm; auto: GroupNorm where they are new.
    fc_norm: Literal["none", "batch", "group", "auto"] = "auto"
    # Use the dilated conv6 of the paper; false keeps fc6, fc7 and pool5 as in VGG, and adds a level.
    atrous: bool = True
    # Grid sizes of the feature maps that boxes are predicted from, such as [38, 19, 10, 5]; null uses all.
    levels: tuple[Count, ...] | None = None
    # Weights the backbone starts from: imagenet, imagenet_features (VGG16 only), none, or a file. Where nothing is
    # said, `ssd train` takes auto: imagenet, and for VGG16 what is on this machine if that cannot be fetched.
    backbone_weights: str = "imagenet"
    # Start from this detector: coco, ssdlite, a weights file, a run folder or hf://owner/name. Known classes keep
    # their weights.
    weights: str | None = None
    # Number of VGG stages that are not trained; auto: 2 where their weights were loaded.
    freeze_stages: Annotated[int, Field(ge=0, le=5)] | Literal["auto"] = "auto"
    # Default box sizes: the paper's for VOC or COCO, or fine, which starts smaller; auto: fine.
    box_table: Literal["voc", "coco", "fine", "auto"] = "auto"
    # Default box sizes of each level as fractions of the image, in place of the table.
    min_sizes: tuple[Positive, ...] | None = None
    # Upper sizes of each level; a second square box has the geometric mean of both sizes.
    max_sizes: tuple[Positive, ...] | None = None
    # Aspect ratios of each level, such as [[2], [2, 3]]; each also adds its inverse.
    aspect_ratios: tuple[tuple[Positive, ...], ...] | None = None
    # Average each detection with its neighbours, weighted by a Gaussian of 1 - IoU with this sigma; 0 turns it off.
    box_voting: Fraction = 0.1


@dataclass(frozen=True)
class FolderConfig:
    """One of several folders that are trained on together."""

    __pydantic_config__ = _CHECKED

    # The folder.
    path: str
    # Its class names with others to use in their place, such as {goal: goalpost}.
    rename: dict[str, Annotated[str, Field(min_length=1)]] = field(default_factory=dict)
    # The classes, by their new names, of which every object in its images is annotated; null: those that occur in it.
    complete_for: tuple[str, ...] | None = None


@dataclass(frozen=True)
class DataConfig:
    """The images and annotations, and how they are read."""

    __pydantic_config__ = _CHECKED

    # Format of the folder; auto recognises it. shapes draws images; the last two are downloaded.
    format: Literal[
        "auto", "voc", "coco", "yolo", "labelme", "cvat", "labelstudio", "csv", "shapes", "voc07+12", "coco2017"
    ] = "auto"
    # Folder of the data set; named data sets are downloaded into it.
    folder: str | None = None
    # Several folders in place of that one: [{path: a}, {path: b, rename: {goal: goalpost}, complete_for: [car]}]. In
    # images of b every class but car may be present without an annotation, and is no mistake of the network there.
    folders: tuple[FolderConfig, ...] | None = None
    # Name of the training split; null looks for the usual names.
    train: str | None = None
    # Name of the validation split; null looks for the usual names.
    val: str | None = None
    # Share of the images to evaluate on where a folder has no validation split; small sets use a quarter.
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    # Images that are kept on one side of that division; auto: copies, near duplicates and frames of one video, and
    # every class on both sides where it can be. A regular expression also keeps together the image names in which it
    # matches the same text, such as '^(.+)_frame'. copies: equal files alone, as earlier versions did.
    group: RegularExpression = "auto"
    # Class names in the order of their labels; null reads them from the data.
    classes: tuple[str, ...] | None = None
    # Stop at boxes without area (above one in a thousand) and at unknown classes, or drop those objects.
    bad_objects: Literal["error", "drop"] = "error"
    # Stop at images that cannot be decoded, or train on another image instead.
    bad_images: Literal["error", "skip"] = "error"
    # Number subtracted from VOC coordinates: 1 where they count pixels from 1, as VOC does.
    voc_offset: Literal["0", "1", "auto"] = "1"
    # Allow annotations to name images outside the folder.
    allow_outside: bool = False
    # Repeat images of classes that fewer than this share of the training images have, such as 0.3: an image is shown
    # sqrt(this / its rarest class's share) times in an epoch, which grows by that; 0 repeats none.
    balance: Fraction = 0.0
    # Train, evaluate and later detect on overlapping tiles of each image besides the whole image, for small objects in
    # large images: a number for both sides, [rows, columns], or auto: none larger than 2.5 times the input. 1: none.
    # An epoch has every tile once, and decodes the image for each.
    tiles: TileCount | tuple[TileCount, TileCount] | Literal["auto"] = 1
    # Processes that decode and augment images; 0 does it in the training process, auto uses all cores but one.
    workers: CountOrNone | Literal["auto"] = "auto"
    # Seconds to wait for a batch before training stops with an error.
    timeout: Positive = 120.0
    # For data.format=shapes: images to train on, images to evaluate on, and their side in pixels.
    shapes: tuple[Count, Count, Count] = (400, 80, 160)


@dataclass(frozen=True)
class PreprocessingConfig:
    """How pixels are read, in training and by the weights."""

    __pydantic_config__ = _CHECKED

    # Images of more than 8 bits a channel: percentile (each image's own range), or the values that become black and
    # white, such as [0, 4095] for 12 bits; null: the upper 8 of 16 bits. Without a value of its own that of `weights`.
    depth: Literal["percentile"] | Window | None = None


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of the training images: the paper's section 2.2, each with its own switch."""

    __pydantic_config__ = _CHECKED

    # Change brightness, contrast, saturation and hue.
    photometric: bool = True
    # Place every second image on a canvas of up to this many times its side, so that objects are small (paper: 4); 1
    # turns it off.
    expand: Annotated[float, Field(ge=1, le=16)] = 2.0
    # Cut out a random part that holds an object: its side is at least this fraction of the image's (paper: 0.3); 1
    # turns it off.
    crop: Annotated[float, Field(ge=0.1, le=1)] = 0.6
    # Mirror every second image left to right.
    mirror: bool = True
    # Mirror every second image top to bottom; for microscope and satellite images.
    flip_vertical: bool = False


@dataclass(frozen=True)
class OptimConfig:
    """SGD with momentum 0.9, and its schedule. A step is one update of the weights."""

    __pydantic_config__ = _CHECKED

    # Learning rate; null: 0.00075 for each image of a step, at most 0.012 (paper: 0.001 for 32 images).
    lr: Positive | None = None
    # L2 penalty on the weights; biases and norms have none.
    weight_decay: NotNegative = 5e-4
    # Multiplies the learning rate of the layers that start from pretrained weights.
    backbone_lr_factor: NotNegative = 1.0
    # Let the learning rate fall along a cosine, or tenfold at these fractions of the run, such as [0.7, 0.9].
    schedule: Literal["cosine"] | tuple[Annotated[float, Field(gt=0, lt=1)], ...] = "cosine"
    # Steps in which the learning rate rises from 0; at most a tenth of the run.
    warmup: CountOrNone = 100
    # Scale gradients down to this norm; null leaves them as they are.
    clip_norm: Positive | None = 10.0
    # Batches that make one step, with the gradients of one batch.
    accumulate: Count = 1
    # Decay of the averaged weights that are evaluated and saved; 0 turns averaging off.
    ema: FractionBelowOne = 0.998


@dataclass(frozen=True)
class TrainConfig:
    """Length of the run, device, logging and evaluation."""

    __pydantic_config__ = _CHECKED

    # Passes over the training images; auto: 25, or for fewer than 185 images as many as give 600 steps of 8 images,
    # at most 200.
    epochs: Count | Literal["auto"] = "auto"
    # Images in a batch, over all processes together.
    batch_size: Count = 8
    # Number format of the network; auto takes bf16 where the device is fast in it.
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    # Device to train on: cpu, cuda or cuda:1; auto takes a GPU where there is one.
    device: str = "auto"
    # Compile the network with torch.compile: a slow start, then faster steps on a GPU.
    compile: bool = False
    # Epochs between evaluations; the last epoch is always evaluated.
    eval_every: Count = 5
    # Steps between rows of the training log.
    log_every: Count = 10
    # AP that chooses the best weights: COCO's, or VOC's at IoU 0.5.
    metric: Literal["coco", "voc"] = "coco"
    # Stop after this many evaluations without a better AP; null never stops early.
    patience: Count | None = None


@dataclass(frozen=True)
class ModeRules:
    """The choices that depend on `mode` alone; docs/paper.md lists every difference with its reason."""

    scale_new_layers: bool = True  # on the first images, after the fan-in initialisation
    truncate_box_sizes: bool = False  # to whole pixels, as Caffe does
    resize: Literal["uint8", "area"] = "area"  # images to detect in: as Caffe does, or filtered as in training
    augmentation: Literal["paper", "warp"] = "warp"  # each step on the full image, or one resampling and then colours
    bias_lr_factor: float = 1.0
    decay_l2_scale: bool = False  # the scale of the L2 normalisation, as other weights
    lr_per_image: float = 7.5e-4  # of an optimizer step; the linear scaling rule
    max_lr: float = 0.012  # upper limit of that rule


PAPER_RULES = ModeRules(
    scale_new_layers=False,
    truncate_box_sizes=True,
    resize="uint8",
    augmentation="paper",
    bias_lr_factor=2.0,
    decay_l2_scale=True,
    lr_per_image=1e-3 / 32,
    max_lr=1.0,
)


@dataclass(frozen=True)
class Config:
    """One experiment."""

    __pydantic_config__ = _CHECKED

    # Name of the run; its files are written to a folder of this name in output.
    name: FolderName = "finetune"
    # Seed of all random numbers.
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    # paper starts from the paper's settings instead of the defaults.
    mode: Literal["default", "paper"] = "default"
    # Folder that holds the folders of all runs.
    output: str = "runs"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossRules = field(default_factory=LossRules)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def mode_rules(self) -> ModeRules:
        """The choices of `mode` beyond the keys."""
        return PAPER_RULES if self.mode == "paper" else ModeRules()


def resolve(config: Config) -> Config:
    """Fill in the learning rate, so that a saved config contains the value in use."""
    rules, optim = config.mode_rules, config.optim
    by_rule = min(rules.lr_per_image * config.train.batch_size * optim.accumulate, rules.max_lr)
    return config if optim.lr is not None else dataclasses.replace(config, optim=dataclasses.replace(optim, lr=by_rule))
