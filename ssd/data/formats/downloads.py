"""Named data sets: their addresses, checksums and folders.

`voc07+12` trains on VOC2007 trainval and VOC2012 trainval and validates on VOC2007 test, as the paper's main table
does; `coco2017` trains on train2017 and validates on val2017. Only the archives that a split needs are fetched.
"""

import logging
import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ssd.data.formats import coco, voc
from ssd.data.formats.annotations import RawSplit, join
from ssd.data.formats.voc import Offset
from ssd.errors import DownloadError
from ssd.system.download import cache_folder, download
from ssd.system.files import alone

log = logging.getLogger(__name__)
NAMES = ("voc07+12", "coco2017")
SPLITS = ("train", "val")
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


@dataclass(frozen=True)
class Archive:
    """One published archive, and a path that is there once it is unpacked."""

    url: str
    md5: str
    unpacked: str


# VOC: addresses and MD5 as in torchvision 0.29 (torchvision/datasets/voc.py). COCO publishes no checksums; these MD5
# are PaddleDetection's (ppdet/utils/download.py, commit 005e0ff84c75), whose three for VOC are torchvision's.
_VOC = "https://thor.robots.ox.ac.uk/pascal/VOC"
_COCO = "http://images.cocodataset.org"
VOC07_TRAINVAL = Archive(
    f"{_VOC}/voc2007/VOCtrainval_06-Nov-2007.tar",
    "c52e279531787c972589f7e41ab4ae64",
    "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt",
)
VOC07_TEST = Archive(
    f"{_VOC}/voc2007/VOCtest_06-Nov-2007.tar",
    "b6e924de25625d8de591ea690078ad9f",
    "VOCdevkit/VOC2007/ImageSets/Main/test.txt",
)
VOC12_TRAINVAL = Archive(
    f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar",
    "6cd6e144f989b92b3379bac3b3de84fd",
    "VOCdevkit/VOC2012/ImageSets/Main/trainval.txt",
)
COCO_TRAIN = Archive(f"{_COCO}/zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", "train2017")
COCO_VAL = Archive(f"{_COCO}/zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", "val2017")
COCO_ANNOTATIONS = Archive(
    f"{_COCO}/annotations/annotations_trainval2017.zip",
    "f4bbac642086de4f52a3fdda2de5fa2c",
    "annotations/instances_val2017.json",
)
ARCHIVES = {
    ("voc07+12", "train"): (VOC07_TRAINVAL, VOC12_TRAINVAL),
    ("voc07+12", "val"): (VOC07_TEST,),
    ("coco2017", "train"): (COCO_ANNOTATIONS, COCO_TRAIN),
    ("coco2017", "val"): (COCO_ANNOTATIONS, COCO_VAL),
}


def home(name: str) -> Path:
    """Where a named set lives when no folder is given: `$SSD_HOME/data/<name>`, else below `~/.cache/ssd`."""
    return cache_folder() / "data" / name


def read(name: str, folder: Path, split: str, *, offset: Offset = "1", allow_outside: bool = False) -> RawSplit:
    """Download the missing files of a split, and read its annotations.

    Raises:
        DownloadError: an archive is missing and cannot be fetched; the message says which one to put where.
    """
    for archive in ARCHIVES[name, split]:
        fetch(archive, folder)
    if name == "coco2017":
        return coco.read(folder, f"{split}2017", allow_outside=allow_outside)
    devkit = folder / "VOCdevkit"
    parts = [("VOC2007", "trainval"), ("VOC2012", "trainval")] if split == "train" else [("VOC2007", "test")]
    return join(
        voc.read(devkit / year, part, offset=offset, classes=VOC_CLASSES, allow_outside=allow_outside)
        for year, part in parts
    )


def fetch(archive: Archive, folder: Path) -> None:
    """Download and unpack one archive into `folder`, unless that is done."""
    path = folder / archive.url.rpartition("/")[2]
    unpacking = folder / f".{path.name}.unpacking"
    if _is_unpacked(archive, folder, unpacking):
        return
    log.info("%s: fetching %s", folder, archive.url)
    download(archive.url, path, md5=archive.md5)
    with alone(folder / f"{path.name}.unpacking"):
        if _is_unpacked(archive, folder, unpacking):  # by another process, while this one waited
            return
        log.info("%s: unpacking", path)
        shutil.rmtree(unpacking, ignore_errors=True)
        unpack(path, unpacking)
        _move_into(unpacking, folder)
        shutil.rmtree(unpacking)  # only now the set counts as complete
    log.info("%s is unpacked and may be deleted", path)


def _is_unpacked(archive: Archive, folder: Path, unpacking: Path) -> bool:
    return (folder / archive.unpacked).exists() and not unpacking.exists()


def unpack(path: Path, folder: Path) -> None:
    """Unpack a .tar or .zip; a member that would land outside the folder is refused.

    Raises:
        DownloadError: damaged, of another kind, or unsafe.
    """
    folder.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if not (folder / name).resolve().is_relative_to(folder.resolve()):
                        raise DownloadError(
                            f"the member {name!r} would land outside", place=path, remedy="Do not use it."
                        )
                archive.extractall(folder)
        else:
            with tarfile.open(path) as tar:
                tar.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise DownloadError(f"holds an unsafe member ({error})", place=path, remedy="Do not use it.") from None
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise DownloadError(f"cannot be unpacked ({error})", place=path, remedy="Delete it and try again.") from None


def _move_into(source: Path, target: Path) -> None:
    """Move every file to its place; two archives may share folders (VOC2007 trainval and test do)."""
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
