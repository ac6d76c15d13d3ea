"""Groups of images that stay together: copies, near duplicates, frames of one video, and what a user's rule says."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from ssd.data.formats import paths as folders
from ssd.data.formats.copies import copies
from ssd.errors import DatasetError
from ssd.images.looks import ALIKE, join_alike, read_looks

AUTO, COPIES = "auto", "copies"  # values of data.group that are no regular expressions
_STRICTER = (ALIKE, 0.96, 0.99)  # limits that are tried in turn while one group holds most images
ALIKE_IN_ORDER = 0.7  # limit for images whose names are numbered one after the other
_REACH = 3  # places in the order of the numbers at which two frames are compared
MOST_LOOKED_AT = 50_000  # images; in larger folders only names and copies count
_ROBOFLOW = re.compile(r"[_.](jpe?g|png|bmp|webp|tiff?)\.rf\.[0-9a-zA-Z]+$", re.IGNORECASE)  # a source image's variants
_LAST_NUMBER = re.compile(r"^(.*?)(\d+)(\D*)$", re.DOTALL)


def group_images(images: Mapping[str, Path | None], rule: str) -> dict[str, str]:
    """The group of each image, under the first of its names; `images` are names and where each file is.

    `rule` is `auto`, or a regular expression: names in which it matches the same text belong together too.

    Raises:
        DatasetError: the regular expression matches no name.
    """
    names = sorted(images)
    groups = _by_names(names, rule)
    same = copies(images)
    index = {name: place for place, name in enumerate(names)}
    groups = _joined(groups, [(index[name], index[first]) for name, first in same.items()])
    if len(names) <= MOST_LOOKED_AT:
        groups = _by_look(names, groups, read_looks([images[name] for name in names]))
    return {name: names[place] for name, place in zip(names, groups.tolist(), strict=True)}


def without_splits(paths: Sequence[str]) -> list[str]:
    """The paths without the folders of splits, so that a video cut into splits is one series again.

    A path that another one would equal stays: the images of each split have numbers of their own.
    """
    short = ["/".join(part for part in path.split("/") if not folders.is_split(part)) for path in paths]
    counts = Counter(short)
    return [name if counts[name] == 1 else path for name, path in zip(short, paths, strict=True)]


def _by_look(
    names: Sequence[str], groups: Int[np.ndarray, "N"], looks: Float32[np.ndarray, "N 192"]
) -> Int[np.ndarray, "N"]:
    """Join near duplicates; more strictly where most images would be in one group, as those of a fixed camera."""
    frames = [(one, other) for one, other in numbered_pairs(names) if looks[one] @ looks[other] >= ALIKE_IN_ORDER]
    for least in _STRICTER:
        joined = join_alike(_joined(groups, frames if least == ALIKE else []), looks, least)
        if 2 * np.bincount(joined).max(initial=0) <= len(names):
            return joined
    return groups


def numbered_pairs(names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of names that differ in their last number and are close in the order of it, as `clip_0007`, `clip_0008`."""
    series: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for place, name in enumerate(names):
        match = _LAST_NUMBER.match(source_name(name))
        if match is not None and len(match[2]) < 20:
            series[match[1], match[3]].append((int(match[2]), place))
    pairs = []
    for members in map(sorted, series.values()):
        for step in range(1, _REACH + 1):
            pairs += [(one, other) for (_, one), (_, other) in zip(members, members[step:], strict=False)]
    return pairs


def source_name(name: str) -> str:
    """The name without its image suffix, and without what Roboflow adds for each augmented copy of one image."""
    stem = name[: -len(Path(name).suffix)] if name.lower().endswith(folders.IMAGE_SUFFIXES) else name
    return _ROBOFLOW.sub("", stem)


def _by_names(names: Sequence[str], rule: str) -> Int[np.ndarray, "N"]:
    """Groups by the text that the user's rule matches, and of the variants that Roboflow makes of one image."""
    first: dict[object, int] = {}
    groups = np.arange(len(names))
    matched: Counter[object] = Counter()
    for place, name in enumerate(names):
        key: object = source_name(name)
        if rule != AUTO and (match := re.search(rule, source_name(name))) is not None:
            key = match.groups() or (match[0],)
            matched[key] += 1
        groups[place] = first.setdefault(key, place)
    if rule != AUTO and names and not matched:
        remedy = f"It is searched for in names such as {source_name(names[0])!r}."
        raise DatasetError(f"{rule!r} matches no image name", place="data.group", remedy=remedy)
    if len(matched) == 1 and 2 * matched.total() > len(names):
        remedy = "Put what tells the groups apart in brackets, such as '^(.+)_frame'; there must be two groups or more."
        raise DatasetError(f"{rule!r} puts most images in one group", place="data.group", remedy=remedy)
    return groups


def _joined(groups: Int[np.ndarray, "N"], pairs: Sequence[tuple[int, int]]) -> Int[np.ndarray, "N"]:
    """Join the groups of each pair; a group is the lowest index of its images."""
    above = groups.tolist()

    def top(place: int) -> int:
        while above[place] != place:
            above[place] = above[above[place]]
            place = above[place]
        return place

    for one, other in pairs:
        low, high = sorted((top(one), top(other)))
        above[high] = low
    return np.array([top(place) for place in range(len(above))], np.int64)
