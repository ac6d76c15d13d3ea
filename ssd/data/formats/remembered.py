"""Remembers the format of a folder with a large COCO file, so that a later start need not list its images."""

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from ssd.data import cache
from ssd.data.formats import coco
from ssd.data.formats import paths as folders

_MOST = 1000  # files beside the images that are watched


def remembered_format(root: Path, recognise: Callable[[Path], str]) -> str:
    """What `recognise` says of a folder.

    It is valid until a folder in it, or a file that is no image, has changed.

    Raises:
        SSDError: as `recognise`.
    """
    key = {"what": "format 1", "root": str(root)}
    if (entry := cache.load(key)) is not None:
        return str(entry.facts["format"])
    began = time.time()
    found = recognise(root)
    if found == "coco" and any(map(coco.is_large, coco.annotation_files(root))):
        places = list(folders.listings(root))
        others = (Path(place, name) for place, names in places for name in names if not folders.is_image_name(name))
        watched: list[str | Path] = [*(place for place, _ in places), *islice(others, _MOST + 1)]
        if len(watched) <= len(places) + _MOST:
            try:
                states = cache.states(watched)
            except OSError:  # removed meanwhile
                return found
            cache.store(key, states, {"format": found}, began=began)
    return found
