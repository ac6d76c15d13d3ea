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
    name = url.rsplit("/", 1)[-1]
    digits = re.search(r"-([0-9a-f]{8,})\.\w+$", name)
    assert digits, f"{name} names no checksum"
    theirs = Path(torch.hub.get_dir()) / "checkpoints" / name
    ours = cache_folder() / "weights" / name
    if theirs.is_file() and not ours.exists() and _starts_with(theirs, digits.group(1)):
        return theirs
    return download(url, ours, sha256=digits.group(1))


def fetch_default() -> Path:
    """Path of the default detector's weights: torchvision's SSD300 with VGG16, trained on COCO."""
    from torchvision.models.detection import SSD300_VGG16_Weights  # slow to import

    return fetch(SSD300_VGG16_Weights.COCO_V1.url)


def _starts_with(path: Path, digits: str) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(digits)
