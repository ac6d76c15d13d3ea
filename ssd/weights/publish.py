"""Publishes a trained detector: weights and a model card, in a Hugging Face repository.

What is published has no paths of the training machine: folders and files are cut to their last name.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ssd.errors import ArgumentError, CheckpointError, counted
from ssd.settings import Settings
from ssd.system.files import write_atomic
from ssd.weights.hub import DEFAULT_FILE, HubAddress, is_hub_address, parse_address, push_to_hub
from ssd.weights.native import load_weights, metric_of, save_weights

CARD = "README.md"

# Figures of a validation row that are on the card, with their meaning, by the run's metric.
_FIGURES = {
    "coco": {
        "AP": "mean over IoU 0.50 to 0.95",
        "AP50": "IoU 0.50",
        "AP75": "IoU 0.75",
        "APs": "small objects",
        "APm": "medium objects",
        "APl": "large objects",
    },
    "voc": {
        "AP": "Pascal VOC, IoU 0.50, area under the curve",
        "AP07": "Pascal VOC 2007, IoU 0.50, 11 points of the curve",
    },
}
# Where the metadata of a weights file has paths; a split may be a list of images.
_PATHS = (
    ("config", "data", "folder"),
    ("config", "data", "folders", "path"),
    ("config", "data", "train"),
    ("config", "data", "val"),
    ("config", "model", "weights"),
    ("config", "model", "backbone_weights"),
    ("config", "output"),
    ("thresholds", "data"),
    ("thresholds", "split"),
)


def publish(source: str | Path, address: str, *, private: bool = False, license: str | None = None) -> str:
    """Upload a run's best weights (or a weights file) and a model card to `hf://owner/name`; returns the page's URL.

    A missing repository is made, as a private one if `private`. `ssd.load(address)` then loads the detector.

    Raises:
        ArgumentError: the address has another form.
        CheckpointError: the source is no undamaged weights file of this package.
        DownloadError: not logged in, not allowed, or no network.
        MissingExtraError: huggingface_hub is not installed.
    """
    where = parse_address(address)
    with tempfile.TemporaryDirectory() as folder:
        prepare(source, Path(folder), address, license=license)
        return push_to_hub(Path(folder), where, private=private, message=f"Publish {DEFAULT_FILE} and its card")


def prepare(source: str | Path, folder: Path, address: str, *, license: str | None = None) -> None:
    """Write into `folder`, which is made if need be, what `publish` uploads: the weights and the card."""
    where = parse_address(address)
    if where.file is not None:
        remedy = f"Name the repository alone: the weights are its {DEFAULT_FILE}."
        raise ArgumentError(f"names the file {where.file!r}", place=address, remedy=remedy)
    path = Path(source)
    path = path / "best.safetensors" if path.is_dir() else path
    try:
        state, settings, extra = load_weights(path)
    except CheckpointError as error:
        remedy = "Convert a checkpoint of another code with `ssd convert` first." if path.is_file() else error.remedy
        raise CheckpointError(error.problem, place=path, remedy=remedy) from None
    extra = without_paths(extra)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / DEFAULT_FILE, state, settings, extra=extra)
    digest = hashlib.sha256((folder / DEFAULT_FILE).read_bytes()).hexdigest()
    write_atomic(folder / CARD, card(where, settings, extra, digest, license).encode())


def without_paths(extra: Mapping[str, Any]) -> dict[str, Any]:
    """`extra` of a weights file with every folder and file in it cut to its last name; hub addresses stay."""
    cut: Any = dict(extra)
    for keys in _PATHS:
        cut = _cut(cut, keys)
    return dict(cut)


def _cut(value: Any, keys: tuple[str, ...]) -> Any:
    """A copy of `value` with the path at `keys`, in each item of a list, cut down to its last name."""
    if isinstance(value, list):
        return [_cut(item, keys) for item in value]
    if keys and isinstance(value, dict) and keys[0] in value:
        return {**value, keys[0]: _cut(value[keys[0]], keys[1:])}
    if keys or not isinstance(value, str) or is_hub_address(value):
        return value
    path = Path(value)
    return path.name if path.name.strip(".") else path.resolve().name  # "." and ".." are no names


def card(address: HubAddress, settings: Settings, extra: Mapping[str, Any], digest: str, license: str | None) -> str:
    """Write the model card: what it detects, how to use it, how good it was, how it was trained."""
    network = settings.network
    head: dict[str, Any] = {
        "library_name": "ssd-vgg",
        "pipeline_tag": "object-detection",
        "tags": ["object-detection", "ssd", network.backbone],
    }
    if license:
        head["license"] = license
    names = settings.class_names
    threshold = '"own"' if settings.postprocessing.own_thresholds else "0.5"
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n",
            f"# {address.repository.partition('/')[2]}\n",
            f"SSD{network.input_size} ([Liu et al., 2016](https://arxiv.org/abs/1512.02325)) with {network.backbone}; "
            f"finds {counted(len(names), 'class', 'classes')} of objects: {', '.join(names)}.\n",
            "## Use\n",
            "With the Python package `ssd-vgg`. It is not on PyPI: a package of that name there is another one. "
            "In a clone of its repository:\n",
            '```sh\npip install ".[hub]"\n```\n',
            f'```python\nimport ssd\n\ndetector = ssd.load("{address}")\n'
            f'detector.detect("image.jpg", score_threshold={threshold}).save("image.boxes.jpg")\n```\n',
            *_figures(extra.get("validation", {}), metric_of(extra)),
            *_training(extra),
            "## File\n",
            f"`{DEFAULT_FILE}`: weights, class names, default boxes, the way images are scaled. "
            f"SHA-256 `{digest}`. Loading it executes nothing.\n",
        ]
    )


def _figures(validation: Mapping[str, Any], metric: str) -> Iterator[str]:
    rows = [
        f"| {name} | {float(validation[name]):.3f} | {meaning} |"
        for name, meaning in _FIGURES[metric].items()
        if isinstance(validation.get(name), int | float)
    ]
    if not rows:
        return
    yield "## Figures\n"
    yield "\n".join(["| figure | value | |", "| --- | --- | --- |", *rows]) + "\n"
    counts = [f"{int(validation[key]):,} {key}" for key in ("images", "objects") if key in validation]
    if counts:
        yield (
            f"On the run's own validation set: {' with '.join(counts)}. These images also decided which epoch was "
            "kept, so that other images give somewhat less.\n"
        )


def _training(extra: Mapping[str, Any]) -> Iterator[str]:
    config, origin = extra.get("config", {}), extra.get("converted_from")
    if origin:
        yield "## Origin\n"
        yield f"Converted from `{origin['file']}` ({origin['format']}), SHA-256 `{origin['sha256']}`.\n"
    if not config:
        return
    data, train, model = (config.get(group, {}) for group in ("data", "train", "model"))
    folders = ", ".join(folder["path"] for folder in data.get("folders") or ())
    facts = {
        "data": folders or data.get("folder") or data.get("format"),
        "start": model.get("weights") or model.get("backbone_weights"),
        "epochs": train.get("epochs"),
        "batch size": train.get("batch_size"),
        "mode": config.get("mode"),
    }
    yield "## Training\n"
    rows = [f"| {name} | {value} |" for name, value in facts.items() if value is not None]
    yield "\n".join(["| | |", "| --- | --- |", *rows]) + "\n"
    yield "The whole configuration is in the file's metadata.\n"
