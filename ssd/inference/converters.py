"""Conversion of detections for other programs: COCO results, YOLO text, supervision, pandas, an HTML table."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from ssd.errors import ArgumentError, MissingExtraError

_TABLE_ROWS = 20

Boxes = Float32[np.ndarray, "N 4"]
Scores = Float32[np.ndarray, "N"]
Labels = Int[np.ndarray, "N"]


def coco_rows(
    boxes: Boxes,
    scores: Scores,
    labels: Labels,
    *,
    num_classes: int,
    image_id: int | str,
    category_ids: Sequence[int] | None,
) -> list[dict[str, Any]]:
    """COCO results; see `Detections.to_coco`."""
    ids = range(1, num_classes + 1) if category_ids is None else category_ids
    if len(ids) != num_classes:
        problem = f"{len(ids)} numbers for {num_classes} classes"
        raise ArgumentError(problem, place="category_ids", remedy="Give one for each class, in their order.")
    return [
        {"image_id": image_id, "category_id": int(ids[label]), "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for (x1, y1, x2, y2), score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)
    ]


def yolo_text(boxes: Boxes, scores: Scores, labels: Labels, *, image_size: tuple[int, int], with_scores: bool) -> str:
    """YOLO rows; see `Detections.to_yolo`. `image_size` is (height, width) in pixels."""
    height, width = image_size
    corners = boxes.astype(np.float64) / [width, height, width, height]
    low, high = corners[:, :2], corners[:, 2:]
    columns = np.concatenate([(low + high) / 2, high - low], axis=1)
    rows = []
    for label, numbers, score in zip(labels.tolist(), columns.tolist(), scores, strict=True):
        words = [str(label), *(f"{number:.7f}" for number in numbers), *([f"{score:.6f}"] if with_scores else [])]
        rows.append(" ".join(words) + "\n")
    return "".join(rows)


def supervision_detections(boxes: Boxes, scores: Scores, labels: Labels, names: Sequence[str]) -> Any:
    """`supervision.Detections`; see `Detections.to_supervision`."""
    try:
        import supervision
    except ImportError:
        raise _missing("supervision") from None
    return supervision.Detections(
        xyxy=boxes.copy(),
        confidence=scores.copy(),
        class_id=labels.copy(),
        data={"class_name": np.array(names, dtype=str)},
    )


def data_frame(boxes: Boxes, scores: Scores, labels: Labels, names: Sequence[str]) -> Any:
    """`pandas.DataFrame`; see `Detections.to_pandas`."""
    try:
        import pandas
    except ImportError:
        raise _missing("pandas") from None
    columns = dict(zip(("x1", "y1", "x2", "y2"), boxes.T, strict=True))
    return pandas.DataFrame({**columns, "score": scores, "label": labels, "name": list(names)})


def html_table(boxes: Boxes, scores: Scores, names: Sequence[str], caption: str) -> str:
    """A table of the best twenty, which come first: name, score and corners, for a notebook."""
    rows = [
        f"<tr><td>{html.escape(name)}</td><td>{score:.2f}</td>"
        + "".join(f"<td>{number:.1f}</td>" for number in box)
        + "</tr>"
        for name, score, box in list(zip(names, scores.tolist(), boxes.tolist(), strict=True))[:_TABLE_ROWS]
    ]
    head = "".join(f"<th>{word}</th>" for word in ("name", "score", "x1", "y1", "x2", "y2"))
    more = f"<p>... and {len(names) - _TABLE_ROWS} more</p>" if len(names) > _TABLE_ROWS else ""
    return f"<table><caption>{html.escape(caption)}</caption><tr>{head}</tr>{''.join(rows)}</table>{more}"


def _missing(package: str) -> MissingExtraError:
    return MissingExtraError(f"the package {package!r} is not installed", remedy=f"Run: pip install {package}")
