"""Remembers the labels that a detection wrote, so that a later call does not write over corrections.

YOLO's rows in `labels/` are not among them: they are written with their image and left as they are from then on.
"""

import hashlib
import json
from pathlib import Path

from ssd.errors import ArgumentError, counted
from ssd.inference.bulk.journal import JOURNAL, OPTIONS
from ssd.system.files import write_atomic

_REMEMBERED = ".labels.json"  # digests by path
_SUFFIXES = (".json", ".xml", ".txt", ".yaml")
_OTHERS = (JOURNAL, OPTIONS, "coco.json", _REMEMBERED)


def remember_labels(folder: Path) -> None:
    """Store the digests of the label files in a folder of results."""
    text = json.dumps(_digests(folder), ensure_ascii=True)
    write_atomic(folder / _REMEMBERED, text.encode())


def forget_labels(folder: Path) -> None:
    """Remove what `remember_labels` stored, before labels are written anew."""
    (folder / _REMEMBERED).unlink(missing_ok=True)


def refuse_corrected(folder: Path) -> None:
    """Stop before labels that somebody has changed are written anew.

    Raises:
        ArgumentError: a label file differs from what was written.
    """
    try:
        before = json.loads((folder / _REMEMBERED).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no labels, or those of an earlier version
        return
    now = _digests(folder)
    changed = sorted(path for path in before if path in now and now[path] != before[path])
    if changed:
        more = f", and {counted(len(changed) - 1, 'other file')}" if len(changed) > 1 else ""
        problem = f"{changed[0]} was changed after it was written{more}; going on would undo that"
        raise ArgumentError(problem, place=folder, remedy="Search further images into a new folder.")


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        is_row = name.startswith("labels/") and path.suffix == ".txt"
        if path.suffix in _SUFFIXES and path.name not in _OTHERS and not is_row and path.is_file():
            found[name] = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
    return found
