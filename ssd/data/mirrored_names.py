"""Classes of which one is the mirror image of the other, by their names."""

import re
from collections.abc import Sequence

_SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}
_WORD = re.compile(r"left|right|(?<![a-z])[lr](?![a-z])")  # `left` also inside of a word, `l` alone


def mirrored_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of class names that differ by left and right alone, such as `turn_left` and `turn_right`.

    Mirroring an image makes one class look like the other: `augment.mirror` teaches that they are the same.
    """
    by_plain = {name.casefold(): name for name in names}
    found = []
    for plain, name in by_plain.items():
        other = _WORD.sub(lambda side: _SIDES[side[0]], plain)
        if plain < other and other in by_plain:
            found.append((name, by_plain[other]))
    return found


def mirror_advice(names: Sequence[str]) -> str | None:
    """What to say of such classes where training mirrors images; None where there are none."""
    pairs = mirrored_names(names)
    if not pairs:
        return None
    more = f" and {len(pairs) - 1} more" if len(pairs) > 1 else ""
    one, other = pairs[0]
    return f"the classes {one!r} and {other!r}{more} are told apart by left and right: set augment.mirror=false"
