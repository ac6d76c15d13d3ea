"""Writes labels as XML: Pascal VOC and CVAT for images 1.1."""

import re
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from ssd.data.labels.labelled import Images, Label, Labelled
from ssd.system.files import open_atomic, write_atomic

NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML cannot hold


def write_voc(folder: Path, images: Images, class_names: Sequence[str], splits: Sequence[str]) -> None:
    """`Annotations/NAME.xml` for each image, in a folder for each split.

    VOC counts pixels from 1: all four numbers are one more than those inside, which is what reading subtracts.
    """
    for image in images():
        path = folder / "Annotations" / image.split / f"{image.stem}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, _voc(image).encode())


def _voc(image: Labelled) -> str:
    name = image.base if image.copied else image.name  # which tells images of one name in two folders apart
    rows = [
        f"<annotation><filename>{_text(name)}</filename><path>{_text(image.place)}</path>",
        f"<size><width>{image.width}</width><height>{image.height}</height><depth>3</depth></size>",
    ]
    for label in image.labels:
        corners = zip(("xmin", "ymin", "xmax", "ymax"), label.box, strict=True)
        box = "".join(f"<{tag}>{value + 1:.10g}</{tag}>" for tag, value in corners)
        more = f"<pose>Unspecified</pose><truncated>0</truncated><difficult>{int(label.difficult)}</difficult>"
        rows.append(f"<object><name>{_text(label.name)}</name>{more}<bndbox>{box}</bndbox></object>")
    return "\n".join([*rows, "</annotation>", ""])


def write_cvat(folder: Path, images: Images, class_names: Sequence[str], splits: Sequence[str]) -> None:
    """`annotations.xml`, or `annotations_SPLIT.xml` for each split."""
    labels = "".join(f"<label><name>{_text(name)}</name></label>" for name in class_names)
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    for split in splits:
        with open_atomic(folder / (f"annotations_{split}.xml" if split else "annotations.xml")) as file:
            start = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{meta}\n'
            file.write(start.encode())
            chosen = (image for image in images() if image.split == split)
            for number, image in enumerate(chosen):
                boxes = "".join(map(_cvat_box, image.labels))
                sides = f'width="{image.width}" height="{image.height}"'
                file.write(f'<image id="{number}" name={_quoted(image.name)} {sides}>{boxes}\n</image>\n'.encode())
            file.write(b"</annotations>\n")


def _cvat_box(label: Label) -> str:
    source = "manual" if label.score is None else "auto"
    corners = zip(("xtl", "ytl", "xbr", "ybr"), label.box, strict=True)
    numbers = " ".join(f'{key}="{value:.3f}"' for key, value in corners)
    return f'\n  <box label={_quoted(label.name)} source="{source}" occluded="0" {numbers} z_order="0"></box>'


def _text(text: str) -> str:
    return escape(NO_XML.sub("\ufffd", text))


def _quoted(text: str) -> str:
    return quoteattr(NO_XML.sub("\ufffd", text))
