"""ImageNet weights of the VGG backbone: its convolutions, and fc6 and fc7 converted to conv6 and conv7.

The weights depend on how images are scaled. Each source has its own scaling, which is stored with the weights.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ssd.errors import CheckpointError, ConfigError, DownloadError
from ssd.settings import Preprocessing, Settings
from ssd.weights.fetch import fetch
from ssd.weights.files.tensors import read_metadata, read_tensors
from ssd.weights.ports.layout import convolution_shapes, convolutions

# torchvision's own training: images divided by their standard deviation.
TORCHVISION = Preprocessing()
# The original release, and what SSD's ports made of it: the mean is subtracted and nothing else.
MEAN_ONLY = Preprocessing(mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0))
PORTS_MEAN = Preprocessing(mean=(0.48235 * 255, 0.45882 * 255, 0.40784 * 255), std=(1.0, 1.0, 1.0))

# Configurations of which torchvision publishes weights, each with and without BatchNorm.
PUBLISHED = ("vgg11", "vgg13", "vgg16", "vgg19")
_DOWNLOADS = {"imagenet": "IMAGENET1K_V1", "imagenet_features": "IMAGENET1K_FEATURES"}
_NORM_PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
# fc6 and fc7 in torchvision's file, and in timm's.
_FULLY_CONNECTED = (("classifier.0", "classifier.3"), ("pre_logits.fc1", "pre_logits.fc2"))


@dataclass(frozen=True)
class ImageNetStart:
    """Weights for the backbone under this package's names, their image scaling, and the layers they lack."""

    state: dict[str, Tensor]
    preprocessing: Preprocessing
    missing: tuple[str, ...]  # layers such as `backbone.conv6`, for the caller to initialise and to name


def vgg16_backbone_state(
    source: str | Path,
    width: float = 1.0,
    *,
    backbone: str = "vgg16",
    atrous: bool = True,
) -> ImageNetStart:
    """Read the start of a VGG backbone.

    `source` is "imagenet" (torchvision's VGG, whole), "imagenet_features" (torchvision's copy of the original
    convolutions, without fc6 and fc7) or a file: torchvision's or timm's VGG, its convolutions alone, the
    `vgg16_reducedfc.pth` of SSD's ports, or this package's names. fc6 and fc7 are subsampled if `atrous`.

    The image scaling is that of the file: its metadata, or without any torchvision's for a file with fc6 and fc7 or
    with BatchNorm, and the original's for convolutions alone.

    Raises:
        CheckpointError: not a VGG, or not the one asked for.
        ConfigError: a narrower network, or no such weights.
        DownloadError: no network and no copy.
    """
    if width != 1:
        remedy = "Set it to 1, or set model.backbone_weights=none."
        raise ConfigError(f"{width}: ImageNet weights fit the full width alone", place="model.width", remedy=remedy)
    if backbone.partition("_")[0] not in PUBLISHED:
        remedy = "Set model.backbone_weights=none, or take vgg16."
        raise ConfigError(f"no weights of {backbone} are published", place="model.backbone", remedy=remedy)
    path = _find(str(source), backbone)
    tensors = {
        name: value.float() if value.is_floating_point() else value for name, value in read_tensors(path).items()
    }
    implied, state = _translate(tensors, backbone, atrous, path)
    if source == "imagenet_features":
        implied = PORTS_MEAN
    _check_shapes(state, backbone, atrous, path)
    return ImageNetStart(state, stated_preprocessing(path) or implied, _missing(state, backbone))


def _find(source: str, backbone: str) -> Path:
    return fetch_vgg(source, backbone) if source in _DOWNLOADS else Path(source)


def published_url(source: str, backbone: str) -> str:
    """Address of torchvision's file: "imagenet", or "imagenet_features" without fc6 and fc7.

    Raises:
        ConfigError: there is none for this backbone.
    """
    import torchvision  # slow to import

    known = getattr(torchvision.models, f"{backbone.upper()}_Weights", None)
    weights = getattr(known, _DOWNLOADS[source], None)
    if weights is None:
        raise ConfigError(
            f"there is no {source!r} for {backbone}", place="model.backbone_weights", remedy="Use imagenet, or a file."
        )
    url: str = weights.url
    return url


def fetch_vgg(source: str, backbone: str) -> Path:
    """The local copy of that file, fetched once.

    Raises:
        ConfigError: there is none for this backbone.
        DownloadError: no network and no copy; names the other starts too.
    """
    try:
        return fetch(published_url(source, backbone))
    except DownloadError as error:
        others = "Or name a file: model.backbone_weights=FILE; or learn from scratch: model.backbone_weights=none."
        raise DownloadError(error.problem, place=error.place, remedy=f"{error.remedy} {others}") from None


def _translate(
    tensors: dict[str, Tensor], backbone: str, atrous: bool, path: Path
) -> tuple[Preprocessing, dict[str, Tensor]]:
    """The default image scaling, and the state under this package's names."""
    kind, _, norm = backbone.partition("_")
    tensors = {name.removeprefix("backbone."): value for name, value in tensors.items()}
    if "conv1_1.weight" in tensors:
        wanted = re.compile(r"(conv|norm)(\d_\d|6|7)\.\w+")
        own = {f"backbone.{name}": value for name, value in tensors.items() if wanted.fullmatch(name)}
        return MEAN_ONLY, own
    if "0.weight" in tensors and "33.weight" in tensors:
        return PORTS_MEAN, _from_reduced(tensors)
    if "features.0.weight" not in tensors:
        seen = ", ".join(list(tensors)[:5])
        remedy = "Name torchvision's VGG16 file or vgg16_reducedfc.pth."
        raise CheckpointError(f"is no VGG known here; its keys are {seen}", place=path, remedy=remedy)
    if ("features.1.running_mean" in tensors) != bool(norm):
        has = f"{kind}_bn" if not norm else kind
        raise CheckpointError(f"is a {has}, not a {backbone}", place=path, remedy=f"Set model.backbone={has}.")
    return _from_torchvision(tensors, kind, bool(norm), atrous, path)


def _from_reduced(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`vgg16_reducedfc.pth`: fc6 and fc7 are subsampled already and are in the same list."""
    places = {f"conv{name}": place for name, place in convolutions().items()} | {"conv6": 31, "conv7": 33}
    parts = [(name, place, part) for name, place in places.items() for part in ("weight", "bias")]
    return {f"backbone.{name}.{part}": tensors[f"{at}.{part}"] for name, at, part in parts if f"{at}.{part}" in tensors}


def _from_torchvision(
    tensors: Mapping[str, Tensor], kind: str, norm: bool, atrous: bool, path: Path
) -> tuple[Preprocessing, dict[str, Tensor]]:
    state = {}
    for name, place in convolutions(kind, batch_norm=norm).items():
        weight, bias = (tensors.get(f"features.{place}.{part}") for part in ("weight", "bias"))
        if weight is None or bias is None:
            continue  # `_check_shapes` names it
        state[f"backbone.conv{name}.weight"] = weight
        if not norm:
            state[f"backbone.conv{name}.bias"] = bias
            continue
        for part in _NORM_PARTS:
            if (value := tensors.get(f"features.{place + 1}.{part}")) is not None:
                state[f"backbone.norm{name}.{part}"] = value
        # Convolutions before a BatchNorm have no bias here: subtracting it from the running mean gives the same output.
        state[f"backbone.norm{name}.running_mean"] = state[f"backbone.norm{name}.running_mean"] - bias
    fc = _from_fc(tensors, path, atrous=atrous, with_bias=not norm)
    return (TORCHVISION if fc or norm else MEAN_ONLY), state | fc


def _from_fc(tensors: Mapping[str, Tensor], path: Path, *, atrous: bool, with_bias: bool) -> dict[str, Tensor]:
    """Turn fc6 into a 7x7 and fc7 into a 1x1 convolution; if `atrous`, keep every fourth unit and every third tap.

    "Subsample parameters", section 3.1 after DeepLab-LargeFOV; dilation 6 spreads the taps back to fc6's width.
    """
    units, taps = (4, 3) if atrous else (1, 1)
    for fc6, fc7 in _FULLY_CONNECTED:
        if f"{fc6}.weight" not in tensors or not tensors[f"{fc6}.weight"].isfinite().all():
            continue  # torchvision's IMAGENET1K_FEATURES fills them with NaN
        for name, size in ((fc6, 4096 * 512 * 7 * 7), (fc7, 4096 * 4096)):
            if tensors[f"{name}.weight"].numel() != size:
                shape = tuple(tensors[f"{name}.weight"].shape)
                raise CheckpointError(f"{name} has shape {shape}", place=path, remedy="Leave the classifier out.")
        windows, fully = tensors[f"{fc6}.weight"].reshape(4096, 512, 7, 7), tensors[f"{fc7}.weight"]
        state = {
            "backbone.conv6.weight": windows[::units, :, ::taps, ::taps].contiguous(),
            "backbone.conv7.weight": fully.reshape(4096, 4096, 1, 1)[::units, ::units].contiguous(),
        }
        if with_bias:
            state["backbone.conv6.bias"] = tensors[f"{fc6}.bias"][::units].contiguous()
            state["backbone.conv7.bias"] = tensors[f"{fc7}.bias"][::units].contiguous()
        return state
    return {}


def stated_preprocessing(path: Path) -> Preprocessing | None:
    """The preprocessing in the metadata of a safetensors file: this package's header, or `input`.

    `input` reads "RGB, 0..255, minus (m, m, m)", perhaps followed by ", divided by (s, s, s)".
    """
    metadata = read_metadata(path)
    if "ssd" in metadata:
        return Settings.from_dict(json.loads(metadata["ssd"])["settings"], str(path)).preprocessing
    pattern = r"(RGB|BGR), 0\.\.255, minus \(([^)]*)\)(?:, divided by \(([^)]*)\))?"
    found = re.fullmatch(pattern, metadata.get("input", "").strip())
    if found is None:
        return None
    mean, std = _triple(found[2], path), _triple(found[3] or "1,1,1", path)
    return Preprocessing(mean, std, channels="bgr" if found[1] == "BGR" else "rgb")


def _triple(text: str, path: Path) -> tuple[float, float, float]:
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError:
        raise CheckpointError(f"({text}) in its metadata is not three numbers", place=path) from None
    return first, second, third


def _check_shapes(state: Mapping[str, Tensor], backbone: str, atrous: bool, path: Path) -> None:
    for name, shape in convolution_shapes(backbone.partition("_")[0], atrous=atrous):
        weight = state.get(f"backbone.{name}.weight")
        if weight is None and name not in ("conv6", "conv7"):
            raise CheckpointError(f"lacks {name}", place=path, remedy=f"It is not a whole {backbone}.")
        if weight is not None and tuple(weight.shape) != shape:
            problem = f"{name} has shape {tuple(weight.shape)}, not {shape}"
            other = tuple(weight.shape) == dict(convolution_shapes(atrous=not atrous)).get(name)
            remedy = f"Set model.atrous={str(not atrous).lower()}." if other else f"It is not a {backbone}."
            raise CheckpointError(problem, place=path, remedy=remedy)


def _missing(state: Mapping[str, Tensor], backbone: str) -> tuple[str, ...]:
    kinds = ("conv", "norm") if backbone.endswith("_bn") else ("conv",)
    layers = [name.removeprefix("conv") for name, _ in convolution_shapes(backbone.partition("_")[0])]
    expected = [f"backbone.{kind}{layer}" for layer in layers for kind in kinds]
    return tuple(layer for layer in expected if f"{layer}.weight" not in state)
