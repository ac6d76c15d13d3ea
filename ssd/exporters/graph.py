"""The exported graph as PyTorch modules: from uint8 images to boxes, scores, labels and counts.

    Prepared   images -> offsets, logits          resize (where it is in floats), normalise, network
    Decoded    offsets, logits -> boxes, scores
    Chosen     boxes, scores -> detections          suppression, the best of each image
    Voted      detections -> detections             box voting, where the settings turn it on

Suppression is an operator that each exporter replaces by that of its runtime.
"""

from collections.abc import Callable
from typing import no_type_check

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torchvision.ops import nms

from ssd.boxes import REACH
from ssd.inference.runtime.program import RawOutputs
from ssd.multibox.coder import decode
from ssd.multibox.default_boxes import default_boxes
from ssd.multibox.voting import VOTERS, vote
from ssd.settings import BoxSettings, Postprocessing, Preprocessing, Settings
from ssd.system.device import on_cpu

Suppression = Callable[[Tensor, Tensor, float], Tensor]
OUTPUTS = ("boxes", "scores", "labels", "counts")


class DetectionGraph(nn.Module):
    """The whole graph, for runtimes that take a complete PyTorch program."""

    def __init__(self, network: nn.Module, settings: Settings, suppress: Suppression | None = None) -> None:
        super().__init__()
        self.prepared = Prepared(network, settings.preprocessing, settings.network.input_size)
        self.decoded = Decoded(settings.boxes, settings.postprocessing)
        self.chosen = Chosen(settings.postprocessing, suppress or torch.ops.ssd.suppress)

    def forward(self, images: UInt8[Tensor, "B H W 3"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes (B, D, 4) as fractions, scores (B, D), labels (B, D) from 0, counts (B,)."""
        boxes, scores = self.decoded(*self.prepared(images))
        detections: tuple[Tensor, Tensor, Tensor, Tensor] = self.chosen(boxes, scores)
        return detections


class Prepared(nn.Module):
    """The network with its preprocessing.

    Weights trained on images resized in 8 bits need images of the network's size, since the arithmetic of that resize
    is specific to OpenCV or PIL. For a resize in floats (torchvision) the graph takes any size and resizes itself.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, input_size: int) -> None:
        super().__init__()
        self.network = RawOutputs(network)
        self.bgr = preprocessing.channels == "bgr"
        self.side = input_size if preprocessing.resize == "float" else None
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(3, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(preprocessing.std).view(3, 1, 1))

    def forward(self, images: UInt8[Tensor, "B H W 3"]) -> tuple[Tensor, Tensor]:
        """Offsets (B, K, 4) and logits (B, K, C) of RGB images."""
        pixels = resize(images, self.side) if self.side is not None else images.float()
        pixels = pixels.permute(0, 3, 1, 2)
        if self.bgr:
            pixels = pixels.flip(1)
        predictions: tuple[Tensor, Tensor] = self.network((pixels - self.mean) * self.scale)
        return predictions


class Decoded(nn.Module):
    """Decodes predictions to a box for each default box and a score for each class."""

    default_boxes: Tensor

    def __init__(self, boxes: BoxSettings, rules: Postprocessing) -> None:
        super().__init__()
        self.variances = boxes.variances
        self.clip_first = rules.clip == "before"
        self.register_buffer("default_boxes", default_boxes(boxes))

    def forward(
        self, offsets: Float[Tensor, "B K 4"], logits: Float[Tensor, "B K C"]
    ) -> tuple[Float[Tensor, "B K 4"], Float[Tensor, "B foreground K"]]:
        """Boxes as fractions of the image, and scores per class without background."""
        boxes = decode(offsets, self.default_boxes, self.variances)
        return boxes.clamp(0, 1) if self.clip_first else boxes, logits.softmax(dim=-1)[..., 1:].transpose(1, 2)


class Chosen(nn.Module):
    """Non-maximum suppression and the best detections of each image, at a fixed shape."""

    def __init__(self, rules: Postprocessing, suppress: Suppression) -> None:
        super().__init__()
        self.rules, self.suppress = rules, suppress
        self.voted = Voted(rules)

    def forward(
        self, boxes: Float[Tensor, "B K 4"], scores: Float[Tensor, "B foreground K"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The detections; rows from `counts[b]` on are zeros."""
        rules, count, all_scores = self.rules, boxes.shape[1], scores
        scores = torch.where(scores > rules.score_threshold, scores, 0.0)
        if rules.top_k < count:
            scores = best_of_each_class(scores, rules.top_k)
        kept = self.suppress(boxes, scores, rules.iou_threshold)
        best, pairs = kept.flatten(1).topk(min(rules.max_detections, kept[0].numel()), dim=1)
        found, labels = best > 0, pairs // count
        chosen = boxes.gather(1, (pairs % count)[..., None].expand(-1, -1, 4))
        if rules.box_voting:
            chosen = self.voted(chosen, best, labels, boxes, all_scores)
        chosen = torch.where(found[..., None], chosen.clamp(0, 1), 0.0)
        return chosen, best, torch.where(found, labels, 0), found.sum(dim=1)


class Voted(nn.Module):
    """Box voting; see `multibox.voting`."""

    def __init__(self, rules: Postprocessing) -> None:
        super().__init__()
        self.rules = rules

    def forward(
        self,
        chosen: Float[Tensor, "B D 4"],
        best: Float[Tensor, "B D"],
        labels: Int[Tensor, "B D"],
        boxes: Float[Tensor, "B K 4"],
        scores: Float[Tensor, "B foreground K"],
    ) -> Float[Tensor, "B D 4"]:
        """Average the boxes of the detections with those of all default boxes, weighted by their scores."""
        count = boxes.shape[1]
        votes, pairs = scores.flatten(1).topk(min(VOTERS, scores[0].numel()), dim=1)
        voters = boxes.gather(1, (pairs % count)[..., None].expand(-1, -1, 4))
        return vote(chosen, best, labels, voters, votes, pairs // count, self.rules)


def resize(images: UInt8[Tensor, "B H W 3"], side: int) -> Float[Tensor, "B {side} {side} 3"]:
    """Resize bilinearly in floats without a filter, like `F.interpolate`.

    Only the four pixels for each result are converted to floats, not the whole of a large image.
    """
    top, bottom, down = _neighbours(images.shape[1], side, images.device)
    left, right, across = _neighbours(images.shape[2], side, images.device)
    down, across = down[:, None, None], across[:, None]
    rows = []
    for line in (top, bottom):
        strip = images.index_select(1, line)
        first, second = (strip.index_select(2, column).float() for column in (left, right))
        rows.append(first * (1 - across) + second * across)
    return rows[0] * (1 - down) + rows[1] * down


def _neighbours(
    length: int | torch.SymInt, side: int, device: torch.device
) -> tuple[Int[Tensor, "S"], Int[Tensor, "S"], Float[Tensor, "S"]]:
    """For each of `side` results the pixels before and after it among `length`, and the weight of the latter."""
    # Coordinates are whole numbers of 1 / (2 x side) of a pixel, so that a runtime in bf16 does not round them.
    odd: Tensor = 2 * torch.arange(side, device=device) + 1
    place: Tensor = (odd * length - side).clamp(min=0)  # type: ignore[union-attr]  # a Tensor, whatever `length` is
    before = place // (2 * side)
    weight = (place - before * (2 * side)).float() / (2 * side)
    return before, (before + 1).clamp(max=length - 1), weight


def best_of_each_class(scores: Float[Tensor, "B foreground K"], count: int) -> Float[Tensor, "B foreground K"]:
    """Set all but the `count` best scores of each class to 0; skipped if no class has more than that above 0."""
    crowded = ((scores > 0).sum(dim=-1) > count).any()

    @no_type_check  # the exporter reads the source of this function, which a type-checking wrapper would hide
    def limited(scores: Tensor) -> Tensor:
        return torch.where(scores >= scores.topk(count, dim=-1).values[..., -1:], scores, 0.0)

    if not torch.compiler.is_exporting():
        # On a device the host would wait for the answer, and both give the same scores.
        return limited(scores) if not on_cpu(scores) or bool(crowded) else scores
    # One row per class: `torch.cond` compares the strides of its branches, which an axis of size 1 leaves undefined.
    best: Tensor = torch.cond(crowded, limited, torch.clone, (scores.flatten(0, 1),))
    return best.view(scores.shape)


@torch.library.custom_op("ssd::suppress", mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Set the scores of boxes to 0 that a better one of their class overlaps by more than `iou_threshold`.

    Boxes are (B, K, 4), scores (B, classes, K).
    """
    return suppress_by_torchvision(boxes, scores, iou_threshold)


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return torch.empty_like(scores)


def suppress_by_torchvision(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """`suppress` with torchvision's operator: boxes are shifted by image and class, so that these never overlap.

    Double precision, for the reason that `multibox.postprocess.suppress` gives.
    """
    classes, count = scores.shape[1:]
    flat = scores.flatten()
    pairs = flat.nonzero()[:, 0]
    group = pairs // count
    image, label = group // classes, group % classes
    corner = torch.stack([label, image, label, image], dim=1) * (2 * REACH)
    chosen = boxes.flatten(0, 1).index_select(0, image * count + pairs % count)
    plane = chosen.double().clamp(-REACH, REACH) + corner
    # Two extra boxes without overlap are always kept and then cut off: torchvision tells `torch.export` that at least
    # two boxes are left, and without them the exported program refuses an image without detections.
    starts = 2 * torch.arange(2, device=boxes.device, dtype=torch.float64) - 9
    apart = torch.stack([starts, starts, starts + 1, starts + 1], dim=1) * REACH
    numbers = torch.cat([flat.index_select(0, pairs), flat.new_zeros(2)]).double()
    best = nms(torch.cat([plane, apart]), numbers, iou_threshold)
    places = torch.cat([pairs, flat.numel() + torch.arange(2, device=flat.device)])
    keep = flat.new_zeros(flat.numel() + 2).index_fill(0, places.index_select(0, best), 1.0)
    return scores * keep[:-2].view_as(scores)
