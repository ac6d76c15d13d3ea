"""Draw the images of `how.md` and of the README with the package's own functions.

    python docs/draw.py BCCD --weights runs/bccd/best.safetensors

BCCD is the folder of blood-cell images (github.com/Shenggan/BCCD_Dataset, MIT licence); the weights are those of
`python tools/train.py --data BCCD data.bad_objects=drop data.train=trainval data.val=test`. Any folder and any weights
trained on it serve as well.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import ssd
from ssd.boxes import iou
from ssd.data.augment.transforms import TrainTransform
from ssd.data.dataset import Dataset, open_dataset
from ssd.data.loading.batches import collate
from ssd.images.drawing import class_color
from ssd.images.preprocess import mean_colour
from ssd.model.factory import from_settings
from ssd.multibox.default_boxes import boxes_per_cell
from ssd.multibox.loss import hard_negatives
from ssd.multibox.matcher import Matches, match
from ssd.settings import LossRules
from ssd.structures import Predictions, Sample, Targets

RED = (0.85, 0.1, 0.1)
SHOWN_NEGATIVES = 60  # more would hide the image


class Scene:
    """One image with its objects, and the detector that looks at it."""

    def __init__(self, detector: ssd.Detector, sample: Sample, data_names: Sequence[str]) -> None:
        self.detector, self.sample = detector, sample
        self.names = [data_names[label] for label in sample.labels]
        self.labels = [detector.class_names.index(name) for name in self.names]
        self.size = detector.input_size
        self.targets = self._targets()
        self.default_boxes = detector.default_boxes.cpu()
        # As training does by default: what nearly matches an object is neither its box nor a negative.
        self.matches: Matches = match(self.default_boxes, self.targets, LossRules())
        height, width = sample.image.shape[:2]
        self.sides = np.array([width, height, width, height])

    def pixels(self, rows: torch.Tensor) -> np.ndarray:
        """Some default boxes, in pixels of the image."""
        return self.default_boxes[rows].numpy() * self.sides

    def _targets(self) -> Targets:
        batch = collate(torch.zeros(1, 3, 1, 1), [self.sample])
        return Targets(batch.targets.boxes, torch.tensor([self.labels]), batch.targets.crowd, batch.targets.valid)


def main(argv: Sequence[str] | None = None) -> None:
    """Write every image into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="FOLDER", help="a data folder (VOC, COCO, YOLO, LabelMe, CVAT, ...)")
    parser.add_argument("--weights", required=True, help="weights trained on it")
    parser.add_argument("--split", default="test")
    parser.add_argument("--image", default="BloodImage_00233", metavar="NAME", help="file name without its suffix")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "images")
    args = parser.parse_args(argv)
    dataset = open_dataset(args.data, args.split, bad_objects="drop")
    detector = ssd.load(args.weights, precision="fp32", backend="torch")
    args.output.mkdir(parents=True, exist_ok=True)
    scene = Scene(detector, dataset.load(_find(dataset, args.image)), dataset.class_names)
    for name, draw in IMAGES.items():
        figure = draw(scene)
        quality = {"quality": 82, "optimize": True}
        figure.savefig(args.output / f"{name}.jpg", dpi=110, bbox_inches="tight", pad_inches=0.05, pil_kwargs=quality)
        plt.close(figure)
    detections = detector.detect(scene.sample.image, score_threshold=0.5)
    detections.save(args.output / "blood_cells.jpg")


def _find(dataset: Dataset, name: str) -> int:
    return next((i for i, record in enumerate(dataset.records) if Path(record.path).stem == name), 0)


def draw_levels(scene: Scene) -> Figure:
    """Every level's grid, with the default boxes of one of its cells."""
    settings = scene.detector.settings.boxes
    figure, axes = _panels(scene, 2, -(-len(settings.grids) // 2))
    start = 0
    for axis, grid, step, each in zip(axes, settings.grids, settings.steps, boxes_per_cell(settings), strict=False):
        row, column = grid // 2, grid // 2
        first = start + (row * grid + column) * each
        side = step / settings.input_size * scene.sides
        for line in range(1, grid):
            axis.axvline(line * side[0], color="white", linewidth=0.5, alpha=0.7)
            axis.axhline(line * side[1], color="white", linewidth=0.5, alpha=0.7)
        boxes = scene.pixels(torch.arange(first, first + each))
        for number, box in enumerate(boxes):
            _outline(axis, box, _rgb(number), width=1.8)
        centre = boxes[0].reshape(2, 2).mean(axis=0)
        axis.plot(*centre, "+", color="black", markersize=6)
        axis.set_title(f"{grid} x {grid} cells of {step:g} pixels, {each} boxes each: {grid * grid * each}")
        start += grid * grid * each
    return figure


def draw_matches(scene: Scene) -> Figure:
    """The objects, and every default box that answers for one of them; its own one is thick."""
    figure, (left, right) = _panels(scene, 1, 2)
    overlaps = iou(scene.targets.boxes[0], scene.default_boxes)
    owners = scene.matches.object_index[0]
    for number, (box, label, name) in enumerate(zip(scene.sample.boxes, scene.labels, scene.names, strict=True)):
        rows = (owners == number).nonzero()[:, 0]
        _outline(left, box, _rgb(label), width=2)
        _write(left, box, f"{name}: {len(rows)}", _rgb(label))
        own = rows[overlaps[number, rows].argmax()]
        for row in rows.tolist():
            _outline(right, scene.pixels(torch.tensor([row]))[0], _rgb(label), width=2.2 if row == own else 0.6)
    left.set_title("the objects, and how many default boxes answer for each")
    right.set_title(f"those {int((owners >= 0).sum())} of {len(owners)} default boxes")
    return figure


def draw_negatives(scene: Scene) -> Figure:
    """The hardest negatives before the first step and at the end of training."""
    figure, axes = _panels(scene, 1, 2)
    torch.manual_seed(0)
    untrained = from_settings(scene.detector.settings).eval()
    images = scene.detector.preprocess([scene.sample.image])
    with torch.inference_mode():
        guesses = [("before the first step", untrained(images)), ("after training", scene.detector.predict(images))]
    for axis, (when, predictions) in zip(axes, guesses, strict=True):
        rows = _negatives(scene, predictions)
        for box in scene.pixels(rows[:SHOWN_NEGATIVES]):
            _outline(axis, box, RED, width=0.9)
        for box, label in zip(scene.sample.boxes, scene.labels, strict=True):
            _outline(axis, box, _rgb(label), width=2.2)
        axis.set_title(f"{when}: the {min(len(rows), SHOWN_NEGATIVES)} hardest of {len(rows)} hard negatives")
    return figure


def _negatives(scene: Scene, predictions: Predictions) -> torch.Tensor:
    """Three default boxes for every matched one, the least sure to be background first."""
    logits, matched = predictions.logits.cpu(), scene.matches.object_index >= 0
    chosen = hard_negatives(logits, ~matched & ~scene.matches.ignored, 3 * matched.sum(dim=1))
    rows = chosen[0].nonzero()[:, 0]
    return rows[logits[0, rows].log_softmax(dim=1)[:, 0].argsort()]


def draw_suppression(scene: Scene) -> Figure:
    """What scores above 0.5 before and after non-maximum suppression."""
    figure, axes = _panels(scene, 1, 2)
    limits: tuple[tuple[str, float], ...] = (("without suppression", 1.0), ("with suppression at 0.45", 0.45))
    for axis, (how, iou_threshold) in zip(axes, limits, strict=True):
        found = scene.detector.detect(scene.sample.image, score_threshold=0.5, iou_threshold=iou_threshold)
        for box, label in zip(found.boxes, found.labels, strict=True):
            _outline(axis, box, _rgb(int(label)), width=1.3)
        axis.set_title(f"{len(found)} boxes score above 0.5 {how}")
    for detection in found:
        _write(axes[1], np.array(detection.box), f"{detection.name} {detection.score:.2f}", _rgb(detection.label))
    return figure


def draw_augmentation(scene: Scene) -> Figure:
    """One image as eight epochs of training see it."""
    detector = scene.detector
    transform = TrainTransform(scene.size, fill=mean_colour(detector.settings.preprocessing))
    figure, grid = plt.subplots(2, 4, figsize=(12, 6.1), layout="constrained")
    for epoch, axis in enumerate(grid.flat):
        shown = transform(scene.sample, (0, epoch, 0))
        axis.imshow(shown.image)
        for box, label in zip(shown.boxes, shown.labels, strict=True):
            _outline(axis, box, _rgb(int(label)), width=1.6)
        axis.set_axis_off()
    return figure


def _panels(scene: Scene, rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """Panels that all show the image, pale, so that boxes stand out."""
    height, width = scene.sample.image.shape[:2]
    across = 13 / columns
    figure, axes = plt.subplots(
        rows, columns, figsize=(13, rows * (across * height / width + 0.35)), layout="constrained", squeeze=False
    )
    pale = (0.75 * scene.sample.image + 0.25 * 255).astype(np.uint8)
    for axis in axes.flat:
        axis.imshow(pale, extent=(0, width, height, 0))
        axis.set_xlim(0, width)
        axis.set_ylim(height, 0)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.title.set_fontsize(11)
    return figure, list(axes.flat)


def _outline(axis: Axes, box: np.ndarray, color: tuple[float, float, float], width: float) -> None:
    left, top, right, bottom = (float(number) for number in box)
    axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=width))


def _write(axis: Axes, box: np.ndarray, text: str, color: tuple[float, float, float]) -> None:
    style = {"facecolor": color, "edgecolor": "none", "pad": 1.5}
    axis.text(box[0] + 3, max(box[1], 4), text, fontsize=8, color="white", va="top", bbox=style, clip_on=True)


def _rgb(label: int) -> tuple[float, float, float]:
    """The colour of a class, dark enough for a pale image."""
    red, green, blue = class_color(label)
    return 0.8 * red / 255, 0.8 * green / 255, 0.8 * blue / 255


IMAGES: dict[str, Callable[[Scene], Figure]] = {
    "levels": draw_levels,
    "matches": draw_matches,
    "negatives": draw_negatives,
    "suppression": draw_suppression,
    "augmentation": draw_augmentation,
}

if __name__ == "__main__":
    main()
