"""A trained detector as the teacher of a run: its answers for the default boxes of the network in training."""

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor, nn

from ssd.boxes import iou
from ssd.errors import ConfigError
from ssd.images.preprocess import mean_and_std, normalise
from ssd.inference.load import load_network
from ssd.multibox.coder import decode, encode
from ssd.multibox.default_boxes import default_boxes
from ssd.settings import Settings
from ssd.structures import Predictions

_BOXES_AT_ONCE = 512  # of the student's, while each looks for the nearest of the teacher's


class Teacher:
    """A network that is not trained, with the settings that make it a detector.

    Where its default boxes are not those of `student`, each box of the student gets the answer of the box that overlaps
    it most, with offsets that lead to the same place.
    """

    def __init__(
        self, network: nn.Module, settings: Settings, student: Settings, device: torch.device, dtype: torch.dtype
    ) -> None:
        network = network.eval().requires_grad_(False)
        self._network = network.to(device).to(memory_format=torch.channels_last)
        self._settings, self._dtype = settings, dtype
        self._mean_and_std = mean_and_std(settings.preprocessing, device)
        self._variances = settings.boxes.variances, student.boxes.variances
        self._mine, self._theirs = (default_boxes(one.boxes).to(device) for one in (settings, student))
        same = self._variances[0] == self._variances[1] and torch.equal(self._mine, self._theirs)
        self._nearest: Tensor | None = None  # (K,), rows of the teacher's boxes
        if not same:
            parts = torch.split(self._theirs, _BOXES_AT_ONCE)
            self._nearest = torch.cat([iou(part, self._mine).argmax(dim=1) for part in parts])

    @property
    def input_size(self) -> int:
        """Side of its input, in pixels."""
        return self._settings.network.input_size

    @torch.no_grad()
    def answers(self, images: UInt8[Tensor, "B 3 T T"]) -> Predictions:
        """Its predictions for images on the device, of any size, in terms of the student's default boxes."""
        pixels = normalise(resized(images, self.input_size), self._settings.preprocessing, self._mean_and_std)
        with torch.autocast(images.device.type, self._dtype, enabled=self._dtype != torch.float32):
            found: Predictions = self._network(pixels.to(memory_format=torch.channels_last))
        if self._nearest is None:
            return found
        mine, theirs = self._variances
        boxes = decode(found.offsets[:, self._nearest].float(), self._mine[self._nearest], mine)
        return Predictions(encode(boxes, self._theirs, theirs), found.logits[:, self._nearest])


def resized(images: UInt8[Tensor, "B 3 s s"], size: int) -> UInt8[Tensor, "B 3 t t"]:
    """Square images at another size, filtered where they shrink; of their own size they are themselves."""
    if images.shape[-1] == size:
        return images
    larger = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)
    return larger.round_().clamp_(0, 255).to(torch.uint8)


def open_teacher(weights: str, student: Settings, device: torch.device, dtype: torch.dtype) -> Teacher:
    """Load the detector of `model.teacher`.

    Raises:
        ConfigError: it has other classes.
        CheckpointError: it cannot be read.
    """
    network, settings = load_network(weights)
    if settings.class_names != student.class_names:
        problem = f"knows {', '.join(settings.class_names)}; the data has {', '.join(student.class_names)}"
        remedy = "Use a detector of these classes, in this order, or set model.teacher=null."
        raise ConfigError(problem, place=f"model.teacher={weights}", remedy=remedy)
    return Teacher(network, settings, student, device, dtype)
