"""Downloads published weights once, into this package's cache folder."""

import hashlib
import re
from pathlib import Path

import torch

from ssd.system.download import cache_folder, download


def fetch(url: str) -> Path:
    """Return the local copy of one of torchvision's published files, downloading it if need be.

    Its name ends in the first digits of its SHA-256, which are compared. A copy that torchvision has fetched for itself
    serves too.

    Raises:
        DownloadError: no network and no copy; says which file to put where.
    """
    ours, theirs, digits = _places(url)
    if theirs.is_file() and not ours.exists() and _starts_with(theirs, digits):
        return theirs
    return download(url, ours, sha256=digits)


def is_fetched(url: str) -> bool:
    """Whether a whole copy is on this machine, so that `fetch` needs no network."""
    ours, theirs, digits = _places(url)
    return any(path.is_file() and _starts_with(path, digits) for path in (ours, theirs))


def fetch_detector(name: str) -> Path:
    """Path of the weights of a published detector, "coco" or "ssdlite", fetched once.

    Raises:
        DownloadError: no network and no copy; says which file to put where.
    """
    return fetch(detector_url(name))


def detector_url(name: str) -> str:
    """Address of a detector that torchvision trained on COCO: SSD300 with VGG16, or SSDLite320 with MobileNet v3."""
    from torchvision.models import detection  # slow to import

    known = {"coco": detection.SSD300_VGG16_Weights, "ssdlite": detection.SSDLite320_MobileNet_V3_Large_Weights}
    url: str = known[name].COCO_V1.url
    return url


def _places(url: str) -> tuple[Path, Path, str]:
    """Where this package keeps a file and where torchvision does, and the first digits of its SHA-256."""
    name = url.rsplit("/", 1)[-1]
    digits = re.search(r"-([0-9a-f]{8,})\.\w+$", name)
    assert digits, f"{name} names no checksum"
    theirs = Path(torch.hub.get_dir()) / "checkpoints" / name
    return cache_folder() / "weights" / name, theirs, digits.group(1)


def _starts_with(path: Path, digits: str) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(digits)
