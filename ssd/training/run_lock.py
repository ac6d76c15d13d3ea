"""A lock on a run's folder, which its process holds until it ends."""

import errno
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ssd.errors import SSDError
from ssd.system.files import is_still

if sys.platform != "win32":
    import fcntl

log = logging.getLogger(__name__)

LOCK = ".lock"  # the file in the run's folder; it holds the number of the process
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


@dataclass
class RunLock:
    """A lock on a run's folder. The system releases it when its process ends for any reason."""

    path: Path
    descriptor: int | None  # None where the file system or the platform has no locks

    def close(self) -> None:
        """Release the folder."""
        if self.descriptor is not None:
            self.path.unlink(missing_ok=True)  # before unlocking, so that no process locks a file about to be removed
            os.close(self.descriptor)
            self.descriptor = None


def lock_folder(folder: Path) -> RunLock | None:
    """Lock a folder for this process; None when another process, or another run of this one, holds it.

    Raises:
        SSDError: nothing can be written there.
    """
    path = folder / LOCK
    if sys.platform == "win32":
        return RunLock(path, None)
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            problem = f"the folder cannot be written ({error.strerror})"
            raise SSDError(problem, place=folder, remedy="Set output=FOLDER to a folder of yours.") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _NO_LOCKS:
                raise
            log.warning("%s: this file system has no locks; start no second run in this folder", folder)
            return RunLock(path, None)
        if is_still(descriptor, path):
            os.truncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            return RunLock(path, descriptor)
        os.close(descriptor)  # its owner ended in between and removed the file


def owner_of(folder: Path) -> str:
    """The process that holds a folder, for a message."""
    try:
        return f"process {int((folder / LOCK).read_bytes())}"
    except (OSError, ValueError):
        return "another process"
