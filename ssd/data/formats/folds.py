"""Divides images into folds of about one size, always in the same way."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from ssd.data.formats.division import draw


def divide_into_folds(images: Mapping[str, tuple[str, Collection[object]]], folds: int) -> list[list[str]]:
    """The names of each fold; `images` are names, each with its group and its classes.

    Images of one group stay together. Groups with the rarest classes are dealt out first, each to the fold that has
    fewest images with its rarest class, then fewest images. There may be fewer groups than folds: then folds are empty.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(images):
        groups[images[name][0]].append(name)
    everywhere = Counter(kind for _, kinds in images.values() for kind in set(kinds))
    rarest = {
        group: min(
            (kind for name in members for kind in images[name][1]),
            key=lambda kind: (everywhere[kind], str(kind)),
            default=None,
        )
        for group, members in groups.items()
    }
    order = sorted(groups, key=lambda name: (everywhere[rarest[name]] or len(images), -len(groups[name]), draw(name)))
    chosen: list[list[str]] = [[] for _ in range(folds)]
    having: list[Counter[object]] = [Counter() for _ in range(folds)]
    for group in order:
        place = min(range(folds), key=lambda fold: (having[fold][rarest[group]], len(chosen[fold]), fold))
        chosen[place] += groups[group]
        having[place].update(kind for name in groups[group] for kind in set(images[name][1]))
    return [sorted(names) for names in chosen]
