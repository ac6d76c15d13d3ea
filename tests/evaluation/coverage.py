"""How often 95 % intervals hold the truth: draws of a few images out of very many.

    python -m tests.evaluation.coverage RUN [RUN] [--images 20000] [--draws 300] [--sample 72]

RUN is trained on drawn shapes, of which any number can be made. With two runs the differences are judged as well, and
two equal detectors: each image's detections come from either run by the toss of a coin, once for each of the two.
"""

import argparse
import dataclasses
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import ssd
from ssd.data.shapes.dataset import shapes
from ssd.evaluation.comparison import compare_matches
from ssd.evaluation.metrics.coco import to_xywh
from ssd.evaluation.metrics.intervals import Estimate, intervals
from ssd.evaluation.metrics.matches import ClassMatches, Figure, Matches, figures_of, from_pycocotools, over_classes
from ssd.structures import ImageDetections

FIGURES = (Figure("AP", 0, None, "coco"), Figure("AP50", 0, 0, "coco"))
NAMES = tuple(figure.name for figure in FIGURES)
LEAST = 0.1  # score of the detections: fewer are matched faster


def subset(matches: Matches, rows: np.ndarray) -> Matches:
    """The matches of some of the images."""
    places = np.full(matches.images, -1)
    places[rows] = np.arange(len(rows))

    def one(table: ClassMatches) -> ClassMatches:
        kept = places[table.images] >= 0
        images = places[table.images[kept]]
        return ClassMatches(images, table.hits[:, kept], table.counted[:, kept], table.objects[rows])

    tables = tuple(tuple(one(table) for table in tables) for tables in matches.tables)
    return dataclasses.replace(matches, images=len(rows), tables=tables)


def truth(matches: Matches) -> dict[str, np.ndarray]:
    """Each figure over all images: of the classes, then their mean."""
    values = figures_of(matches, np.ones((1, matches.images), np.int64))
    return {name: np.append(rows[:, 0], over_classes(rows)) for name, rows in values.items()}


def samples(images: int, size: int, draws: int) -> Iterator[np.ndarray]:
    """Random choices of the images."""
    generator = np.random.default_rng(1)
    for _ in range(draws):
        yield generator.choice(images, size, replace=False)


def held(estimate: Estimate, value: float) -> bool:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= value <= estimate.high


def coverage(matches: Matches, size: int, draws: int, resamples: int) -> dict[tuple[str, str], float]:
    """The share of draws whose interval holds the figure over all images, of the mean and of the classes.

    A class that is not found at all in a draw has no interval there, which is then no draw of that class.
    """
    known = truth(matches)
    hits: dict[tuple[str, str], list[bool]] = {}
    for rows in samples(matches.images, size, draws):
        found = intervals(subset(matches, rows), resamples)
        for figure in NAMES:
            for place, name in enumerate((*matches.class_names, "")):
                key = (figure, "class" if name else "mean")
                if found[figure][name].low is not None:
                    hits.setdefault(key, []).append(held(found[figure][name], known[figure][place]))
    return {key: float(np.mean(values)) for key, values in hits.items()}


def judged(a: Matches, b: Matches, size: int, draws: int, resamples: int) -> dict[tuple[str, str], float]:
    """The share of draws in which B's AP is called better, and worse, and in which the interval holds the truth."""
    change = {name: truth(b)[name][-1] - truth(a)[name][-1] for name in NAMES}
    said: dict[tuple[str, str], list[bool]] = {}
    for rows in samples(a.images, size, draws):
        comparison = compare_matches(subset(a, rows), subset(b, rows), resamples)
        for figure in NAMES:
            one = comparison.overall[figure]
            said.setdefault((figure, "better"), []).append(one.verdict == "better")
            said.setdefault((figure, "worse"), []).append(one.verdict == "worse")
            said.setdefault((figure, "held"), []).append(held(one.change, change[figure]))
    return {key: float(np.mean(values)) for key, values in said.items()}


def coin_tossed(a: Sequence[ImageDetections], b: Sequence[ImageDetections]) -> list[list[ImageDetections]]:
    """Two detectors of equal quality: where one has A's detections of an image, the other has B's."""
    heads = np.random.default_rng(2).random(len(a)) < 0.5
    return [[x if toss == side else y for x, y, toss in zip(a, b, heads, strict=True)] for side in (True, False)]


def detect(run: Path, images: int, side: int) -> list[ImageDetections]:
    """Detections of the run in drawn images that it never saw; kept beside the weights."""
    stored = run / f"detections-{images}.pkl"
    if stored.exists():
        found: list[ImageDetections] = pickle.loads(stored.read_bytes())
        return found
    detector, data, found = ssd.load(run, backend="torch", device="cpu"), shapes("many", images, side), []
    rules = detector.rules(score_threshold=LEAST)
    for start in range(0, images, 32):
        batch = [data.load(place).image for place in range(start, min(images, start + 32))]
        with torch.inference_mode():
            parts = detector.postprocess(detector.predict(detector.preprocess(batch)), rules).to_images()
        found += [part.in_pixels(side, side) for part in parts]
    stored.write_bytes(pickle.dumps(found))
    return found


def match(found: Sequence[ImageDetections], side: int) -> Matches:
    """Match the detections of all images with pycocotools; objects of all sizes together, which takes a quarter."""
    data, evaluator = shapes("many", len(found), side), COCOeval(iouType="bbox")
    evaluator.params.imgIds = list(range(1, len(found) + 1))
    evaluator.params.catIds = list(range(1, len(data.class_names) + 1))
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluator.cocoGt, evaluator.cocoDt = COCO(), COCO()
    for coco, images in ((evaluator.cocoGt, data.records), (evaluator.cocoDt, found)):
        rows = [
            {"image_id": number, "category_id": int(label) + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for number, one in enumerate(images, start=1)
            for box, label in zip(to_xywh(one.boxes), one.labels, strict=True)
        ]
        coco.dataset = {"annotations": [{**row, "id": number} for number, row in enumerate(rows, start=1)]}
        coco.dataset |= {"images": [{"id": number} for number in evaluator.params.imgIds]}
        coco.dataset |= {"categories": [{"id": number} for number in evaluator.params.catIds]}
    scores = np.concatenate([one.scores for one in found]).tolist()
    for row, score in zip(evaluator.cocoDt.dataset["annotations"], scores, strict=True):
        row["score"] = score
    for coco in (evaluator.cocoGt, evaluator.cocoDt):
        coco.createIndex()
    evaluator.evaluate()
    return from_pycocotools(evaluator.evalImgs, data.class_names, len(found), 1, 100, FIGURES)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", type=Path)
    for name, value in (("images", 20_000), ("draws", 300), ("sample", 72), ("resamples", 500), ("side", 96)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    how = (args.sample, args.draws, args.resamples)
    found = [detect(run, args.images, args.side) for run in args.runs]
    matched = [match(one, args.side) for one in found]
    for run, one in zip(args.runs, matched, strict=True):
        print(run, {name: round(float(values[-1]), 4) for name, values in truth(one).items()})
        print("  interval holds it:", coverage(one, *how))
    if len(matched) == 2:
        print("second against first:", judged(*matched, *how))
        mixed = [match(one, args.side) for one in coin_tossed(*found)]
        print("equal detectors", [{name: round(float(v[-1]), 4) for name, v in truth(one).items()} for one in mixed])
        print("  second against first:", judged(*mixed, *how))


if __name__ == "__main__":
    main()
