"""Detections in the forms that other programs read: COCO results, YOLO text, supervision, pandas, an HTML table."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ssd.errors import ArgumentError, MissingExtraError

if TYPE_CHECKING:
    from ssd.inference.detections import Detections

_TABLE_ROWS = 20


def coco_rows(
    detections: "Detections", image_id: int | str, category_ids: Sequence[int] | None
) -> list[dict[str, Any]]:
    """COCO results; see `Detections.to_coco`."""
    count = len(detections.class_names)
    ids = range(1, count + 1) if category_ids is None else category_ids
    if len(ids) != count:
        problem = f"{len(ids)} numbers for {count} classes"
        raise ArgumentError(problem, place="category_ids", remedy="Give one for each class, in their order.")
    return [
        {"image_id": image_id, "category_id": int(ids[label]), "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for (x1, y1, x2, y2), score, label in zip(
            detections.boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True
        )
    ]


def yolo_text(detections: "Detections", *, scores: bool) -> str:
    """YOLO rows; see `Detections.to_yolo`."""
    height, width = detections.image_size
    corners = detections.boxes.astype(np.float64) / [width, height, width, height]
    low, high = corners[:, :2], corners[:, 2:]
    columns = np.concatenate([(low + high) / 2, high - low], axis=1)
    rows = []
    for label, numbers, score in zip(detections.labels.tolist(), columns.tolist(), detections.scores, strict=True):
        words = [str(label), *(f"{number:.7f}" for number in numbers), *([f"{score:.6f}"] if scores else [])]
        rows.append(" ".join(words) + "\n")
    return "".join(rows)


def supervision_detections(detections: "Detections") -> Any:
    """`supervision.Detections`; see `Detections.to_supervision`."""
    try:
        import supervision
    except ImportError:
        raise _missing("supervision") from None
    return supervision.Detections(
        xyxy=detections.boxes.copy(),
        confidence=detections.scores.copy(),
        class_id=detections.labels.copy(),
        data={"class_name": np.array(detections.names, dtype=str)},
    )


def data_frame(detections: "Detections") -> Any:
    """`pandas.DataFrame`; see `Detections.to_pandas`."""
    try:
        import pandas
    except ImportError:
        raise _missing("pandas") from None
    columns = dict(zip(("x1", "y1", "x2", "y2"), detections.boxes.T, strict=True))
    return pandas.DataFrame(
        {**columns, "score": detections.scores, "label": detections.labels, "name": list(detections.names)}
    )


def html_table(detections: "Detections") -> str:
    """A table of the best twenty: name, score and corners, for a notebook."""
    rows = [
        f"<tr><td>{html.escape(found.name)}</td><td>{found.score:.2f}</td>"
        + "".join(f"<td>{number:.1f}</td>" for number in found.box)
        + "</tr>"
        for found in detections[:_TABLE_ROWS]
    ]
    head = "".join(f"<th>{word}</th>" for word in ("name", "score", "x1", "y1", "x2", "y2"))
    more = f"<p>... and {len(detections) - _TABLE_ROWS} more</p>" if len(detections) > _TABLE_ROWS else ""
    caption = html.escape(repr(detections)[1:-1].split(": ")[0])
    return f"<table><caption>{caption}</caption><tr>{head}</tr>{''.join(rows)}</table>{more}"


def _missing(package: str) -> MissingExtraError:
    return MissingExtraError(f"the package {package!r} is not installed", remedy=f"Run: pip install {package}")
