"""torchvision as a baseline: its SSD300, decoder and augmentation, used as in its documentation and references."""

import contextlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection.image_list import ImageList
from torchvision.transforms import v2
from torchvision.transforms.functional import pil_to_tensor

from ssd.system.device import choose_dtype

_GUESSES = 600  # pairs of default box and class above the threshold, about as many as in a trained network
_THRESHOLD = 0.01
_SPREAD = 1.5  # of the logits


def new_model(num_columns: int = 91) -> Any:
    """torchvision's `ssd300_vgg16` with random weights."""
    return ssd300_vgg16(weights=None, weights_backbone=None, num_classes=num_columns)


def load_model(path: Path) -> Any:
    """torchvision's `ssd300_vgg16` with weights from a file."""
    state = torch.load(path, weights_only=True)
    with torch.device("meta"):
        columns = len(state["head.classification_head.module_list.5.bias"]) // 4
        model = new_model(columns)
    model.load_state_dict(state, assign=True)
    # Its default boxes are computed at every call, so nothing stays on the meta device.
    return model.eval()


@torch.inference_mode()
def make_plausible_(model: Any, image: Float[Tensor, "3 H W"]) -> None:
    """Scale a random head so that it behaves like a trained one: mostly background, with some hundred detections.

    Otherwise the post-processing would take as long as for an untrained network.
    """
    images, _ = model.transform([image])
    features = list(model.backbone(images.tensors).values())
    boxes, classes = model.head.regression_head.module_list, model.head.classification_head.module_list
    columns = model.head.classification_head.num_columns
    for level, (box, label) in enumerate(zip(boxes, classes, strict=True)):
        for layer, spread in ((box, 1.0), (label, _SPREAD)):
            layer.weight.mul_(spread / layer(features[level]).std())
    logits = model.head(features)["cls_logits"][0, :, 1:].flatten()
    least = logits.topk(min(_GUESSES, len(logits))).values[-1]
    for label in classes:
        label.bias.view(-1, columns)[:, 0] += float(least) - np.log(_THRESHOLD)


def decode(data: bytes) -> UInt8[Tensor, "3 H W"]:
    """Decode a JPEG with torchvision's own decoder if it has one, else with PIL."""
    if not hasattr(torchvision.io, "decode_jpeg"):
        pixels: Tensor = pil_to_tensor(Image.open(io.BytesIO(data)).convert("RGB"))
        return pixels
    with warnings.catch_warnings():
        # It is deprecated in 0.29 in favour of TorchCodec, but twice as fast as PIL.
        warnings.simplefilter("ignore", DeprecationWarning)
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        image: Tensor = torchvision.io.decode_jpeg(encoded, mode=torchvision.io.ImageReadMode.RGB)
        return image


def as_float(image: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
    """Pixels as floats from 0 to 1, the input of torchvision's models."""
    return image.float().div(255)


def tuned_(model: Any, device: torch.device, tuned: bool) -> contextlib.AbstractContextManager[Any]:
    """The context in which to call the model: as it comes, or `tuned`: in low precision, with weights channels last."""
    dtype = choose_dtype("auto", device)
    if not tuned or dtype == torch.float32:
        return contextlib.nullcontext()
    model.to(memory_format=torch.channels_last)
    return torch.autocast(device.type, dtype)


def network(model: Any, images: Float[Tensor, "B 3 S S"]) -> dict[str, Tensor]:
    """Backbone and head, without preprocessing and post-processing."""
    outputs: dict[str, Tensor] = model.head(list(model.backbone(images).values()))
    return outputs


def default_boxes(model: Any, grids: Sequence[int], size: int, device: torch.device) -> Float[Tensor, "K 4"]:
    """torchvision's default boxes for one image, in pixels."""
    levels = [torch.empty(1, 1, grid, grid, device=device) for grid in grids]
    images = ImageList(torch.empty(1, 3, size, size, device=device), [(size, size)])
    boxes: Tensor = model.anchor_generator(images, levels)[0]
    return boxes


def augmentation(fill: tuple[float, float, float]) -> Any:
    """The `ssd` preset of torchvision's references (v2, tensors): photometric, zoom-out, IoU crop, flip."""
    return v2.Compose(
        [
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill={tv_tensors.Image: fill, "others": 0}),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(),
            v2.SanitizeBoundingBoxes(),
            v2.ToDtype(torch.float, scale=True),
            v2.ToPureTensor(),
        ]
    )
