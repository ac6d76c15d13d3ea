"""Data sets that are wrong, and default boxes to hold against them."""

from pathlib import Path

from ssd.data.dataset import Dataset, scan
from ssd.model.factory import settings_for
from ssd.settings import BoxSettings
from tests.data.made import voc_folder, write_text, xml, xml_object


def boxes(size: int = 300, table: str = "voc", **numbers: object) -> BoxSettings:
    return settings_for(("object",), input_size=size, table=table, **numbers).boxes


def split(folder: Path, name: str) -> Dataset:
    return scan(folder, name)[0]


def voc_splits(root: Path, **splits: dict[str, str]) -> Path:
    """A VOC folder with several splits; every image of 40x20 is another one."""
    for number, (name, annotations) in enumerate(splits.items()):
        voc_folder(root, annotations, name)
        for place, stem in enumerate(annotations):
            repaint(root / "JPEGImages" / f"{stem}.jpg", seed=100 * number + place)
    return root


def repaint(path: Path, seed: int) -> None:
    """Another image of the same size, so that no two files are equal."""
    import cv2
    import numpy as np

    image = np.random.default_rng(seed).integers(0, 255, (20, 40, 3), np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def good() -> str:
    return xml(xml_object())


def sound(root: Path) -> Path:
    """Two splits, nothing wrong."""
    return voc_splits(root, train={"a": good(), "b": good()}, val={"c": good()})


def lists(root: Path, **splits: str) -> None:
    """Write the lists of splits anew."""
    for name, stems in splits.items():
        write_text(root / "ImageSets" / "Main" / f"{name}.txt", "\n".join(stems.split()))
