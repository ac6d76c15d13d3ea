"""A folder for unfinished files beside their place; what a killed process leaves is removed by the next one."""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ssd.system.files import writing

if sys.platform != "win32":
    import fcntl

_RANDOM = "[a-z0-9_]{8}"  # what `tempfile` appends


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder `<prefix>XXXXXXXX` in `parent` for the time of the block; folders of killed processes go.

    The folder is locked while its process lives, whatever host or container it runs in, so only abandoned ones go.

    Raises:
        SSDError: `parent` cannot be written.
    """
    _remove_abandoned(parent, prefix)
    with writing(parent):
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    lock = _lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove the folders that nobody holds; where the platform has no locks none is removed."""
    for folder in sorted(parent.glob(f"{prefix}*")):
        if folder.is_dir() and not folder.is_symlink() and re.fullmatch(re.escape(prefix) + _RANDOM, folder.name):
            lock = _lock(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a folder until the descriptor is closed; None where another holds it, or locks do not exist."""
    if sys.platform == "win32":
        return None
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor
    return None
