"""What training starts from: `--start` as config keys, and the keys that the weights named decide."""

import dataclasses
import logging
from collections.abc import Collection, Sequence
from typing import Any

from ssd.errors import ConfigError, DownloadError
from ssd.experiment.config import Config
from ssd.experiment.starting_settings import build_settings
from ssd.model import vgg
from ssd.settings import Preprocessing
from ssd.weights.fetch import detector_url, is_fetched
from ssd.weights.imagenet.vgg import PUBLISHED as PUBLISHED_VGGS
from ssd.weights.imagenet.vgg import fetch_vgg, published_url
from ssd.weights.resolve import DEFAULT, PUBLISHED, is_detector, read_weights

log = logging.getLogger(__name__)

_WEIGHTS, _BACKBONE_WEIGHTS = "model.weights", "model.backbone_weights"
_KEYS_OF_WEIGHTS, _DEPTH = ("backbone", "width", "input_size"), "preprocessing.depth"


def start_keys(start: str, changes: Sequence[str | tuple[str, Any]] = ()) -> list[tuple[str, Any]]:
    """The config keys of `--start`: a published detector, imagenet, none, or a file of either kind.

    Raises:
        ConfigError: `changes` name other weights.
        CheckpointError: there is no such file, or it is damaged.
    """
    for change in changes:
        key, _, value = change.partition("=") if isinstance(change, str) else (change[0], "", change[1])
        if key.strip() in (_WEIGHTS, _BACKBONE_WEIGHTS):
            problem = f"{start} and {key.strip()}={value}: both name what training starts from"
            raise ConfigError(problem, place="--start", remedy="Drop one.")
    if start in ("imagenet", "none"):
        return [(_WEIGHTS, None), (_BACKBONE_WEIGHTS, start)]
    if start in PUBLISHED or is_detector(start):
        return [(_WEIGHTS, start)]
    return [(_WEIGHTS, None), (_BACKBONE_WEIGHTS, start)]


def with_keys_of_weights(config: Config, given: Collection[str]) -> Config:
    """Take backbone, width, input size and depth from `model.weights`, but for the keys that are `given`.

    Raises:
        SSDError: the weights cannot be read or fetched.
    """
    missing = [key for key in _KEYS_OF_WEIGHTS if f"model.{key}" not in given]
    if config.model.weights is None or not (missing or _DEPTH not in given):
        return config
    settings = read_weights(config.model.weights)[1]
    network = settings.network
    if _DEPTH not in given:
        pixels = dataclasses.replace(config.preprocessing, depth=settings.preprocessing.depth)
        config = dataclasses.replace(config, preprocessing=pixels)
    found = {key: getattr(network, key) for key in missing}
    if network.backbone != (found.get("backbone") or config.model.backbone):
        found.pop("width", None)  # it is that of another backbone
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **found))


def with_default_start(config: Config, given: Collection[str]) -> Config:
    """Let `chosen` decide where neither weights nor backbone weights are `given`."""
    if config.model.weights is not None or _BACKBONE_WEIGHTS in given:
        return config
    return dataclasses.replace(config, model=dataclasses.replace(config.model, backbone_weights="auto"))


def chosen(config: Config) -> Config:
    """Replace `backbone_weights: auto`: ImageNet's, or for VGG16 what is on this machine if they cannot be fetched.

    Raises:
        ConfigError: the network cannot be built, which is said before a download.
        DownloadError: they cannot be fetched, and nothing that fits is on this machine.
    """
    model = config.model
    if model.weights is not None or model.backbone_weights != "auto":
        return config
    imagenet = dataclasses.replace(model, backbone_weights="imagenet")
    if model.backbone in vgg.NAMES and model.backbone.partition("_")[0] in PUBLISHED_VGGS and model.width == 1:
        build_settings(config, ("object",), Preprocessing())  # finds mistakes before the download
        try:
            fetch_vgg("imagenet", model.backbone)
        except DownloadError as error:
            other = _on_this_machine(config)
            if other is None:
                raise
            problem = error.problem
            log.warning("ImageNet weights: %s; starting from %s, which is on this machine", problem, other)
            if other == DEFAULT:
                return dataclasses.replace(config, model=dataclasses.replace(imagenet, weights=other))
            return dataclasses.replace(config, model=dataclasses.replace(imagenet, backbone_weights=other))
    return dataclasses.replace(config, model=imagenet)


def _on_this_machine(config: Config) -> str | None:
    """Other weights that fit: ImageNet's for VGG16 without fc6 and fc7, or the detector trained on COCO."""
    if config.model.backbone != "vgg16":
        return None
    features = "imagenet_features"
    if is_fetched(published_url(features, config.model.backbone)):
        return features
    return DEFAULT if is_fetched(detector_url(DEFAULT)) else None
