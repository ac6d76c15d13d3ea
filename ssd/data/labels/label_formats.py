"""The formats in which labels are written, by name."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from ssd.data.labels.json_files import write_coco, write_label_studio, write_labelme
from ssd.data.labels.labelled import Images, Labelled, refuse_outside
from ssd.data.labels.text_files import write_class_list, write_yolo
from ssd.data.labels.xml_files import write_cvat, write_voc
from ssd.errors import ArgumentError

_Write = Callable[[Path, Images, Sequence[str], Sequence[str]], None]

LABEL_FORMATS: dict[str, _Write] = {
    "voc": write_voc,
    "coco-data": write_coco,
    "yolo": write_yolo,
    "labelme": write_labelme,
    "labelstudio": write_label_studio,
    "cvat": write_cvat,
}
_KEEPS_CROWDS = ("coco-data",)  # elsewhere a crowd region would be taken for an object


def parse_label_formats(text: str, place: str) -> tuple[str, ...]:
    """`voc,coco-data` as names of formats; `coco` is `coco-data`. `place`: the option, for the message.

    Raises:
        ArgumentError: an unknown format.
    """
    words = ["coco-data" if word.strip() == "coco" else word.strip() for word in text.split(",")]
    for word in words:
        if word not in LABEL_FORMATS:
            raise ArgumentError(f"{word!r} is unknown", place=place, remedy=f"Use {', '.join(LABEL_FORMATS)}.")
    return tuple(dict.fromkeys(words))


def write_labels(
    folder: Path, formats: Collection[str], images: Images, class_names: Sequence[str], splits: Sequence[str] = ("",)
) -> None:
    """Write the labels of all images into a folder, in each of the formats.

    Raises:
        ArgumentError: the path of an image or the name of a split leads out of the folder.
        SSDError: no space is left, or the folder cannot be written.
    """
    refuse_outside(*splits)
    for name in sorted(formats):
        LABEL_FORMATS[name](folder, images if name in _KEEPS_CROWDS else _without_crowds(images), class_names, splits)
    if formats:
        write_class_list(folder, class_names)


def _without_crowds(images: Images) -> Images:
    def chosen() -> Iterable[Labelled]:
        for image in images():
            yield dataclasses.replace(image, labels=tuple(label for label in image.labels if not label.crowd))

    return chosen
