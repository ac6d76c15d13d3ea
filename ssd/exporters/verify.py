"""The parity report of an export: detections of the graph and of its weights, image by image."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from tqdm import tqdm

from ssd import light
from ssd.errors import EvaluationError
from ssd.evaluation.class_map import ClassMap, match_classes
from ssd.evaluation.metrics.coco import CocoMetric
from ssd.exporters.parity import Parity, Tolerance, compare
from ssd.exporters.sample_images import Images
from ssd.inference.detections import Detections
from ssd.inference.detector import Detector
from ssd.inference.load import load
from ssd.inference.pipelines import NetworkPipeline
from ssd.report.text_table import aligned
from ssd.settings import Settings
from ssd.structures import ImageDetections
from ssd.system.environment import environment
from ssd.system.files import write_json

_AT_ONCE = 4  # images per batch; the last batch may be smaller, since the batch is dynamic


@dataclass(frozen=True)
class Check:
    """The result of the comparison."""

    parity: Parity
    tolerance: Tolerance
    precision: str
    samples: str
    drawn: bool
    ap: tuple[float, float] | None  # of the weights, of the graph; None where it was not measured

    @property
    def failures(self) -> list[str]:
        """Descriptions of the differences beyond the tolerance."""
        failures = self.parity.failures(self.tolerance)
        if self.ap is not None and not self.ap[0] - self.ap[1] <= self.tolerance.ap:
            failures.append(f"AP falls by {self.ap[0] - self.ap[1]:.4f}, {self.tolerance.ap:g} allowed")
        return failures

    @property
    def accepted(self) -> bool:
        """Whether the graph may be used."""
        return not self.failures

    def as_text(self) -> str:
        """The compared files and images, and a table of the differences."""
        parity, tolerance = self.parity, self.tolerance
        rows = [
            ["", "found", "allowed"],
            ["largest difference of a box (px of the input)", f"{parity.box:.3g}", f"{tolerance.box:g}"],
            ["largest difference of a score", f"{parity.score:.2g}", f"{tolerance.score:g}"],
            [
                "detections lost or gained",
                str(parity.lost + parity.gained),
                str(int(tolerance.missing * parity.compared)),
            ],
        ]
        if self.ap is not None:
            before, after = self.ap
            rows.append([f"AP ({before:.4f} by the weights)", f"{after:.4f}", f"{before - tolerance.ap:.4f}"])
        least = f" scoring {tolerance.least_score:g} or more" if tolerance.least_score else ""
        head = [
            f"{self.precision} against PyTorch in fp32 on {parity.images} images ({self.samples}):",
            f"{parity.compared} detections{least} looked for on the other side",
        ]
        if self.drawn:
            head.append("these are no real images: name some with --parity to trust the result")
        return "\n".join([*head, "", aligned(rows), ""])

    def write(self, exported: Path, weights: str, format: str) -> Path:
        """Write the report as JSON beside the exported file."""
        path = exported.with_name(f"{exported.name}.parity.json")
        facts: dict[str, Any] = {
            "export": str(exported),
            "weights": weights,
            "format": format,
            "precision": self.precision,
            "data": self.samples,
            **dataclasses.asdict(self.parity),
            "tolerance": dataclasses.asdict(self.tolerance),
            "ap": None if self.ap is None else {"before": self.ap[0], "after": self.ap[1]},
            "accepted": self.accepted,
            "failures": self.failures,
            **environment(),
        }
        write_json(path, facts)
        return path


def check(
    network: nn.Module,
    settings: Settings,
    exported: Path,
    samples: Images,
    limit: int | None,
    tolerance: Tolerance,
    precision: str,
    *,
    plain: bool = False,
) -> Check:
    """Detect in the images with both and compare; also compare AP in lower precision if there are annotations."""
    rules = settings.postprocessing
    longer = dataclasses.replace(rules, max_detections=rules.max_detections + 1)
    settings = dataclasses.replace(settings, postprocessing=longer)
    before = Detector(NetworkPipeline(network, settings, device="cpu", precision="fp32", backend="torch"))
    after = light.load(exported) if plain else _graph(exported, precision)
    places = samples.spread(limit)
    metrics = _Ap.make(settings, samples, places) if precision != "fp32" else None
    parity = Parity()
    whole: dict[str, Any] = {} if plain else {"tiles": 1}  # the graphs are compared, not what is made of windows
    bar = tqdm(total=len(places), desc="checking", unit="img", leave=False, disable=not sys.stderr.isatty())
    with bar:
        for start in range(0, len(places), _AT_ONCE):
            chosen = places[start : start + _AT_ONCE]
            images = [samples.load(index) for index in chosen]
            found = after.detect_batch(images, _AT_ONCE, **whole)
            for index, image, graphs in zip(chosen, images, found, strict=True):
                weights = before.detect(image, tiles=1)  # one more than the graph keeps
                parity = parity.plus(
                    compare(
                        weights,
                        graphs,
                        tolerance,
                        input_size=settings.network.input_size,
                        score_threshold=rules.score_threshold,
                        full=rules.max_detections,
                    )
                )
                if metrics is not None:
                    metrics.update(index, weights[: rules.max_detections], graphs)
                bar.update()
    ap = metrics.compute() if metrics is not None else None
    return Check(parity, tolerance, precision, samples.title, samples.drawn, ap)


def _graph(exported: Path, precision: str) -> Detector:
    return load(exported, device="cpu", precision=precision, trust=True)  # trusted, since this process wrote it


@dataclass(frozen=True)
class _Ap:
    """COCO's AP of weights and graph on the same images."""

    samples: Images
    classes: ClassMap
    before: CocoMetric
    after: CocoMetric

    @staticmethod
    def make(settings: Settings, samples: Images, places: list[int]) -> "_Ap | None":
        """The metric, or None without annotations of the detector's classes."""
        data = samples.dataset
        if data is None or samples.drawn:
            return None
        try:
            classes = match_classes(settings.class_names, data.class_names)
        except EvaluationError:
            return None
        records = [data.records[index] for index in places]
        metrics = (CocoMetric(records, data.class_names, data.category_ids) for _ in range(2))
        return _Ap(samples, classes, *metrics)

    def update(self, index: int, before: Detections, after: Detections) -> None:
        """Add the detections of one image."""
        assert self.samples.dataset is not None
        image_id = self.samples.dataset.records[index].image_id
        for metric, found in ((self.before, before), (self.after, after)):
            labels = np.asarray(self.classes.to_data)[found.labels]
            known = labels >= 0
            metric.update(image_id, ImageDetections(found.boxes, found.scores, labels).subset(known))

    def compute(self) -> tuple[float, float] | None:
        """Both APs; None where there are no objects."""
        before, after = (metric.compute()["AP"] for metric in (self.before, self.after))
        return None if before is None or after is None else (before, after)
