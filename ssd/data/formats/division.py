"""Divides folders without splits, always in the same way."""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssd.data.formats.copies import copies
from ssd.data.formats.grouping import AUTO, COPIES, group_images

VAL_FRACTION = 0.1
_LEAST = 10  # images that make a figure worth reading, where a quarter of the set has as many


@dataclass(frozen=True)
class Division:
    """Which part of the images: `val` is about `fraction` of them, `train` the rest.

    The hash of a name decides, so that an image stays on its side when others are added to a large set. Images of one
    group stay together, and a class that one part lacks gets a group there where that is possible (`group`:
    data.group). Small sets give a quarter, up to ten images, to `val`.
    """

    part: Literal["train", "val", "all"]
    fraction: float = VAL_FRACTION
    group: str = AUTO

    def choose(
        self, images: Mapping[str, Path | None], classes: Callable[[str], Collection[str]] = lambda name: ()
    ) -> list[str]:
        """The names of this part among `images`, which are names and where the image of each is, if that is known.

        `classes` gives the classes of the objects in the image of a name.
        """
        names = sorted(images)
        if self.part == "all":
            return names
        least = min(_LEAST, max(1, len(names) // 4))
        if self.group == COPIES:
            val = _by_hash(names, copies(images), self.fraction, least)
        else:
            groups = group_images(images, self.group)
            val = divide({name: (groups[name], classes(name)) for name in names}, self.fraction, least)
        return [name for name in names if (name in val) == (self.part == "val")]


def divide(images: Mapping[str, tuple[str, Collection[str]]], fraction: float, least: int) -> set[str]:
    """Choose validation images: whole groups in the order of the hash of their names.

    `images` are names, each with its group and its classes. Groups whose hash is below `fraction` are taken, and
    further ones up to `least` images. Groups larger than the whole of `val` should be, and groups with the only object
    of a class, are taken only where the others do not suffice; never more than half of the images. Then groups change
    sides for classes that are on one side only.
    """
    total = len(images)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(images):
        groups[images[name][0]].append(name)
    order = sorted(groups, key=lambda name: (draw(name), name))
    sizes = {name: len(members) for name, members in groups.items()}
    wanted = max(least, round(fraction * total))
    most = max(1, min(max(total // 2, wanted), total - 1))
    kinds = {name: frozenset(kind for member in groups[name] for kind in images[member][1]) for name in groups}
    everywhere = Counter(kind for found in kinds.values() for kind in found)
    val, size = set[str](), 0
    for later, (lone, largest) in enumerate(itertools.product((False, True), (wanted, most))):
        for name in order:
            if size >= least and (later or draw(name) >= fraction):
                break
            fits = sizes[name] <= largest and size + sizes[name] <= most
            if name not in val and fits and (lone or all(everywhere[kind] > 1 for kind in kinds[name])):
                val.add(name)
                size += sizes[name]
    if not val and total > 1:  # nearly all images are in one group: no division keeps it together
        return divide({name: (name, found) for name, (_, found) in images.items()}, fraction, least)
    return {member for name in _with_every_class(val, order, sizes, kinds, most) for member in groups[name]}


def _with_every_class(
    val: Collection[str],
    order: Sequence[str],
    sizes: Mapping[str, int],
    kinds: Mapping[str, Collection[str]],
    most: int,
) -> set[str]:
    """Move groups, in their order, so that classes are in both parts, where that takes no class from the other part."""
    chosen = set(val)
    everywhere = Counter(kind for name in order for kind in kinds[name])
    inside = Counter(kind for name in chosen for kind in kinds[name])
    for kind in sorted(everywhere, key=lambda kind: (everywhere[kind], kind)):
        having = [name for name in order if kind in kinds[name]] if everywhere[kind] > 1 else []
        if having and not inside[kind]:
            size = sum(sizes[name] for name in chosen)
            free = (
                name
                for name in having
                if size + sizes[name] <= most and all(everywhere[other] - inside[other] > 1 for other in kinds[name])
            )
            if (moved := next(free, None)) is not None:
                chosen.add(moved)
                inside.update(kinds[moved])
        elif having and inside[kind] == everywhere[kind]:
            spare = (name for name in reversed(having) if all(inside[other] > 1 for other in kinds[name]))
            if (moved := next(spare, None)) is not None:
                chosen.remove(moved)
                inside.subtract(kinds[moved])
    return chosen


def draw(name: str) -> float:
    """A number from 0 to 1 that depends on a name alone."""
    return hashlib.sha256(_bytes(name)).digest()[0] / 256


def _bytes(name: str) -> bytes:
    """The name as the file system has it. JSON may hold names that no file can have, such as half a surrogate pair."""
    try:
        return name.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return name.encode(errors="surrogatepass")


def _by_hash(names: Sequence[str], first: Mapping[str, str], fraction: float, least: int) -> set[str]:
    """The division of earlier versions: by name, with copies on one side."""
    val = _draw_groups(names, first, fraction, least)
    return val or _draw_groups(names, {}, fraction, least)


def _draw_groups(names: Sequence[str], first: Mapping[str, str], fraction: float, least: int) -> set[str]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[first.get(name, name)].append(name)
    val: set[str] = set()
    for name in sorted(groups, key=lambda name: (draw(name), name)):
        if draw(name) >= fraction and len(val) >= least:
            break
        if 2 * len(groups[name]) <= len(names) or len(names) == 1:
            val.update(groups[name])
    return val
