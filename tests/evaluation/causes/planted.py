"""Shapes whose objects are missed for one planted cause: predictions by hand, the real post-processing."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ssd.boxes import iou
from ssd.data.dataset import Dataset
from ssd.data.shapes.dataset import CLASS_NAMES, shapes
from ssd.evaluation.causes.explain import Cause
from ssd.inference.detector import Detector
from ssd.inference.pipelines import NetworkPipeline
from ssd.model.factory import settings_for
from ssd.multibox.best_overlaps import best_overlaps
from ssd.multibox.coder import encode
from ssd.multibox.default_boxes import default_boxes
from ssd.multibox.postprocess import postprocess
from ssd.settings import Postprocessing
from ssd.structures import BatchDetections, Predictions, Record

SETTINGS = settings_for(CLASS_NAMES, input_size=128, backbone="vgg11", width=0.25)
SIDE = 128
CLASSES = len(CLASS_NAMES)


@dataclass
class Said:
    """What the network says near one box: the box it predicts and the score of each class."""

    box: np.ndarray  # fractions
    scores: dict[int, float]


@dataclass
class Scene:
    """An image: its record, what the network says, and the rows of the planted objects."""

    record: Record
    said: list[Said] = field(default_factory=list)
    planted: list[int] = field(default_factory=list)


class Planted(NetworkPipeline):
    """A pipeline whose network says what was planted, image after image in the order of the scenes."""

    device = "cpu"

    def __init__(self, scenes: Sequence[Scene], rules: Postprocessing | None = None) -> None:
        self.scenes, self.next = scenes, 0
        self.backend, self.precision, self._runtime = "torch", "fp32", None
        self.default_boxes = default_boxes(SETTINGS.boxes)
        self.settings = SETTINGS if rules is None else dataclasses.replace(SETTINGS, postprocessing=rules)

    def preprocess(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        places = torch.arange(self.next, self.next + len(images)) % len(self.scenes)
        self.next += len(images)
        return places

    def predict(self, inputs: torch.Tensor) -> Predictions:
        pairs = [self._predict(self.scenes[place], place) for place in inputs.tolist()]
        return Predictions(torch.stack([one for one, _ in pairs]), torch.stack([other for _, other in pairs]))

    def _predict(self, scene: Scene, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Background, faint noise on some default boxes, and what is said on the best default box of each."""
        generator = torch.Generator().manual_seed(seed)
        count = len(self.default_boxes)
        shares = torch.full((count, CLASSES + 1), 1e-4)
        noisy = torch.randperm(count, generator=generator)[:20]
        labels = torch.randint(1, CLASSES + 1, (20,), generator=generator)
        shares[noisy, labels] = torch.rand(20, generator=generator) * 0.2
        offsets, taken = torch.zeros(count, 4), set[int]()
        for item in sorted(scene.said, key=lambda item: -max(item.scores.values())):
            box = torch.from_numpy(item.box.astype(np.float32))[None]
            order = iou(box, self.default_boxes)[0].argsort(descending=True).tolist()
            place = next(place for place in order if place not in taken)
            taken.add(place)
            offsets[place] = encode(box, self.default_boxes[place : place + 1], SETTINGS.boxes.variances)[0]
            shares[place] = 1e-4
            for label, score in item.scores.items():
                shares[place, label + 1] = score
        shares[:, 0] = 1 - shares[:, 1:].sum(dim=1)
        return offsets, shares.log()

    def postprocess(self, predictions: Predictions, rules: Postprocessing) -> BatchDetections:
        return postprocess(predictions, self.default_boxes, rules, SETTINGS.boxes.variances)

    def detect(self, inputs: torch.Tensor, rules: Postprocessing) -> BatchDetections:
        return self.postprocess(self.predict(inputs), rules)

    def check_rules(self, rules: Postprocessing) -> None:
        pass


def plant(cause: Cause | None, images: int = 40, share: float = 0.2, seed: int = 0) -> list[Scene]:
    """Shapes that are all found with scores from 0.6 to 0.98, apart from a share that is missed for one cause."""
    rng = np.random.default_rng(seed)
    scenes = []
    for record in shapes("val", images, SIDE).records:
        scene = Scene(record)
        for row in range(len(record.labels)):
            box, label = record.boxes[row] / SIDE, int(record.labels[row])
            reached = float(best_overlaps(torch.from_numpy(box[None]), SETTINGS.boxes)) >= 0.5
            if cause is not None and reached and rng.random() < share:
                _PLANT[cause](scene, row, box, label, rng)
            else:
                scene.said.append(Said(box, {label: rng.uniform(0.6, 0.98)}))
        scenes.append(scene)
    return scenes


def dataset(scenes: Sequence[Scene]) -> Dataset:
    return dataclasses.replace(shapes("val", 1, SIDE), records=tuple(scene.record for scene in scenes))


def detector(scenes: Sequence[Scene], **rules: float | tuple[float, ...]) -> Detector:
    own = Postprocessing(box_voting=0.05) if not rules else Postprocessing(**rules)
    return Detector(Planted(scenes, own))


def _changed(scene: Scene, row: int, *, box: np.ndarray | None = None, label: int | None = None) -> None:
    boxes, labels = scene.record.boxes.copy(), scene.record.labels.copy()
    if box is not None:
        boxes[row] = box * SIDE
    if label is not None:
        labels[row] = label
    scene.record = dataclasses.replace(scene.record, boxes=boxes, labels=labels)
    scene.planted.append(row)


def _about(box: np.ndarray, width: float, height: float) -> np.ndarray:
    """A box of these sides about the same centre, moved into the image."""
    sides = np.array([width, height])
    low = np.clip((box[:2] + box[2:] - sides) / 2, 0, 1 - sides)
    return np.concatenate([low, low + sides]).astype(np.float32)


def _other(label: int, rng: np.random.Generator) -> int:
    return (label + int(rng.integers(1, CLASSES))) % CLASSES


def _resolution(scene: Scene, row: int, box: np.ndarray, label: int, rng: np.random.Generator) -> None:
    _changed(scene, row, box=_about(box, *(rng.uniform(4, 7, 2) / SIDE)))


def _default_boxes(scene: Scene, row: int, box: np.ndarray, label: int, rng: np.random.Generator) -> None:
    _changed(scene, row, box=_about(box, rng.uniform(10, 12) / SIDE, rng.uniform(90, 120) / SIDE))


def _score(scene: Scene, row: int, box: np.ndarray, label: int, rng: np.random.Generator) -> None:
    scene.said.append(Said(box, {label: rng.uniform(0.02, 0.1)}))
    scene.planted.append(row)


def _class(scene: Scene, row: int, box: np.ndarray, label: int, rng: np.random.Generator) -> None:
    scene.said.append(Said(box, {label: rng.uniform(0.15, 0.3), _other(label, rng): rng.uniform(0.55, 0.69)}))
    scene.planted.append(row)


def _location(scene: Scene, row: int, box: np.ndarray, label: int, rng: np.random.Generator) -> None:
    width, height = box[2:] - box[:2]
    scene.said.append(Said(_about(box, 0.62 * width, 0.62 * height), {label: rng.uniform(0.5, 0.58)}))
    scene.planted.append(row)


def _suppression(scene: Scene, row: int, box: np.ndarray, label: int, rng: np.random.Generator) -> None:
    """A second object of the class, a quarter of a side beside the first; its box has the lower score."""
    step = 0.25 * (box[2] - box[0]) * (1 if box[0] < 1 - box[2] else -1)
    beside = (box + np.array([step, 0, step, 0])).astype(np.float32)
    scene.said += [Said(box, {label: rng.uniform(0.9, 0.98)}), Said(beside, {label: rng.uniform(0.6, 0.8)})]
    record, count = scene.record, len(scene.record.labels)
    scene.record = dataclasses.replace(
        record,
        boxes=np.concatenate([record.boxes, beside[None] * SIDE]),
        labels=np.append(record.labels, label),
        difficult=np.append(record.difficult, False),
        crowd=np.append(record.crowd, False),
        areas=np.append(record.areas, record.areas[row]),
    )
    scene.planted.append(count)


def _threshold(scene: Scene, row: int, box: np.ndarray, label: int, rng: np.random.Generator) -> None:
    scene.said.append(Said(box, {label: rng.uniform(0.3, 0.45)}))
    scene.planted.append(row)


def _label(scene: Scene, row: int, box: np.ndarray, label: int, rng: np.random.Generator) -> None:
    """A right detection of an object that is annotated as another class."""
    scene.said.append(Said(box, {label: rng.uniform(0.6, 0.98)}))
    _changed(scene, row, label=_other(label, rng))


_PLANT: dict[Cause, Callable[[Scene, int, np.ndarray, int, np.random.Generator], None]] = {
    Cause.RESOLUTION: _resolution,
    Cause.DEFAULT_BOXES: _default_boxes,
    Cause.SCORE: _score,
    Cause.CLASS: _class,
    Cause.LOCATION: _location,
    Cause.SUPPRESSION: _suppression,
    Cause.THRESHOLD: _threshold,
    Cause.LABEL: _label,
}
