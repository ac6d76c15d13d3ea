"""The range of values in the images of a data set that have more than 8 bits a channel."""

import logging

import numpy as np

from ssd.data.dataset import Dataset
from ssd.data.index import paths_of
from ssd.errors import SSDError
from ssd.images.decode import read_image_bytes
from ssd.images.value_range import ValueRange, measure

log = logging.getLogger(__name__)
_SUFFIXES = (".png", ".tif", ".tiff")
_LOOKED_AT = 100


def report_values(dataset: Dataset) -> None:
    """Log the range of values in some images, evenly spread, if any has more than 8 bits a channel."""
    paths = [path for path in paths_of(dataset.records) if path.lower().endswith(_SUFFIXES)]
    places = np.linspace(0, len(paths) - 1, min(_LOOKED_AT, len(paths))).round().astype(int).tolist()
    found: ValueRange | None = None
    for place in places:
        try:
            one = measure(read_image_bytes(paths[place]))
        except SSDError:  # missing or too large, which is said where it is read
            continue
        found = one if one is None or found is None else found.plus(one)
    if found is not None:
        level = logging.WARNING if found.loses(dataset.depth) else logging.INFO
        log.log(level, "%s: of %d images looked at, %s", dataset.name, len(places), found.about(dataset.depth))
