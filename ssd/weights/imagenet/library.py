"""ImageNet weights of torchvision and timm backbones: published ones, or a file with their names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ssd.errors import CheckpointError, ConfigError, DownloadError
from ssd.model.backbones import WITHOUT_WEIGHTS
from ssd.settings import Preprocessing
from ssd.system.optional import load_extra
from ssd.weights.fetch import fetch
from ssd.weights.files.tensors import read_tensors
from ssd.weights.imagenet.vgg import TORCHVISION, ImageNetStart, stated_preprocessing

# torchvision's copies of Google's networks: images from -1 to 1, which it calls `transform_input`.
_GOOGLES = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
_FROM_MINUS_1_TO_1 = ("googlenet", "inception_v3")


def library_backbone_state(
    source: str | Path, target: Mapping[str, Tensor], *, name: str, library: Literal["torchvision", "timm"]
) -> ImageNetStart:
    """Read the starting weights of a backbone: "imagenet" for its library's, or a file of such a network.

    `target` is the state dict of the network to start; its `backbone.*` are the required tensors. Images are scaled
    by the file's metadata, else by the library's rule.

    Raises:
        CheckpointError: the file is damaged, or of another network.
        ConfigError: the library publishes no weights for it.
        DownloadError: no network and no copy.
        MissingExtraError: timm is not installed.
    """
    scaling = _timm_scaling(name) if library == "timm" else _torchvision_scaling(name)
    if source == "imagenet_features":
        raise ConfigError(
            "'imagenet_features' is VGG16's", place="model.backbone_weights", remedy="Use imagenet, or a file."
        )
    if source != "imagenet":
        path = Path(source)
        state = _pick(read_tensors(path), target, name, path)
        return ImageNetStart(state, stated_preprocessing(path) or scaling, _missing(state, target))
    published = _from_timm(name) if library == "timm" else read_tensors(fetch(_torchvision_weights(name).url))
    state = _pick(published, target, name, f"{library}'s {name}")
    return ImageNetStart(state, scaling, _missing(state, target))


def _torchvision_weights(name: str) -> Any:
    if name in WITHOUT_WEIGHTS:
        remedy = "Set model.backbone_weights=none, name a file, or start from a detector: model.weights."
        raise ConfigError(f"torchvision publishes no weights of {name}", place="model.backbone", remedy=remedy)
    from torchvision.models import get_model_weights  # slow to import

    # The first release is the usual start of detectors, and every network has one.
    return get_model_weights(name).IMAGENET1K_V1


def _torchvision_scaling(name: str) -> Preprocessing:
    return _GOOGLES if name in _FROM_MINUS_1_TO_1 else TORCHVISION


def _timm_scaling(name: str) -> Preprocessing:
    published = load_extra("timm", "backbones").get_pretrained_cfg(name)
    if published is None:
        return TORCHVISION
    return Preprocessing(mean=_pixels(published.mean), std=_pixels(published.std))


def _pixels(fractions: tuple[float, float, float]) -> tuple[float, float, float]:
    red, green, blue = (round(255 * fraction, 4) for fraction in fractions)
    return red, green, blue


def _from_timm(name: str) -> Mapping[str, Tensor]:
    timm = load_extra("timm", "backbones")
    if not timm.models.is_model_pretrained(name):
        remedy = "Set model.backbone_weights=none, or name a file."
        raise ConfigError(f"timm publishes no weights of {name}", place="model.backbone_weights", remedy=remedy)
    try:
        state: dict[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # whatever the hub's client raises: there are half a dozen kinds
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        remedy = "Fetch them elsewhere and set model.backbone_weights=FILE, or none to learn from scratch."
        raise DownloadError(f"timm's weights cannot be fetched ({reason})", place=name, remedy=remedy) from None
    return state


def _pick(tensors: Mapping[str, Tensor], target: Mapping[str, Tensor], name: str, place: object) -> dict[str, Tensor]:
    """The tensors of `target`'s backbone from the file; a file that lacks a weight is of another network."""
    given = {_key(theirs): tensor for theirs, tensor in tensors.items()}
    state = {}
    for ours, tensor in target.items():
        if not ours.startswith("backbone.") or ours.startswith("backbone.auxiliary."):
            continue
        found = given.get(_key(ours))
        if found is None and ours.endswith("num_batches_tracked"):  # older than torch 0.4.1
            continue
        if found is None:
            seen = ", ".join(list(tensors)[:3])
            problem = f"lacks {ours.removeprefix('backbone.')}; its keys are {seen} ..."
            raise CheckpointError(problem, place=place, remedy=f"It is not a {name}.")
        if found.shape != tensor.shape:
            problem = f"{ours.removeprefix('backbone.')} has shape {tuple(found.shape)}, not {tuple(tensor.shape)}"
            raise CheckpointError(problem, place=place, remedy=f"It is not a {name}.")
        state[ours] = found.float() if found.is_floating_point() else found
    return state


def _key(name: str) -> str:
    """A common name for a tensor in a whole network and in the backbone cut out of it.

    The backbone has no `features.`, and timm writes `stages_0` for `stages.0`.
    """
    name = name.removeprefix("backbone.").removeprefix("network.").removeprefix("model.")
    # torchvision's first DenseNets say `norm.1` for `norm1`, and its own loader renames them too.
    name = re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", name)
    return name.replace(".", "_").removeprefix("features_")


def _missing(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> tuple[str, ...]:
    lacking = (name for name in target if name.startswith("backbone.") and name not in state)
    return tuple(dict.fromkeys(name.rpartition(".")[0] for name in lacking if name.endswith(".weight")))
