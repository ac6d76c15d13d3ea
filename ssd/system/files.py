"""Atomic files: written beside their place, flushed to disk, then renamed."""

import errno
import hashlib
import json
import logging
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ssd.errors import ArgumentError, SSDError

if sys.platform != "win32":
    import fcntl

log = logging.getLogger(__name__)

# A full disk, a file-size limit and a quota reach the user as the same thing.
NO_SPACE = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_PROBE_BYTES = 4096
_LONG_NAME = 200  # bytes
_LEFTOVER = re.compile(r"\..+\.tmp-(\d{1,7})", re.DOTALL)


def write_atomic(path: str | Path, *chunks: bytes | bytearray | memoryview) -> None:
    """Put `chunks`, one after another, into `path`; killed at any moment, the old file stays as it was.

    Raises:
        SSDError: no space left, or the folder cannot be written; nothing is left behind.
    """
    with open_atomic(path, size=sum(memoryview(chunk).nbytes for chunk in chunks)) as file:
        for chunk in chunks:
            file.write(chunk)


def write_json(path: str | Path, value: Any) -> None:
    """Write plain JSON types, indented; the folder is made.

    Raises:
        SSDError: no space left, or the folder cannot be made or written; an old file is kept.
        ValueError: a number is not finite.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False).encode())


@contextmanager
def open_atomic(path: str | Path, size: int = 0) -> Iterator[BinaryIO]:
    """Open a file that becomes `path` at the end of the block; `size` bytes are said to be needed where none are left.

    Raises:
        SSDError: no space left, or the folder cannot be written; nothing is left behind.
    """
    path = Path(path)
    temporary = _beside(path, f"tmp-{os.getpid()}")
    try:
        with writing(path, size):
            with temporary.open("wb") as file:
                yield file
                file.flush()
                # Without this the rename can reach the disk before the bytes do.
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def writing(path: Path, size: int = 0) -> Iterator[None]:
    """Turn what the system says while `path` is written into an error of ours.

    Raises:
        SSDError: no space left, or it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise _explain(error, path, size) from error


def check_writable(*named: str | Path | None) -> None:
    """Fail now, not after the work, if a file that is named for a result cannot be written.

    A small file is made beside each, or in the nearest folder above that exists, and removed again. `-` and None stand
    for no file.

    Raises:
        SSDError: the folder cannot be written, or has no space left.
    """
    for path in (Path(name) for name in named if name and str(name) != "-"):
        folder = path.parent
        with writing(path):
            while not folder.exists() and folder != folder.parent:
                folder = folder.parent
            descriptor, probe = tempfile.mkstemp(prefix=".probe-", dir=folder)
            try:
                os.write(descriptor, bytes(_PROBE_BYTES))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
                Path(probe).unlink(missing_ok=True)


def refuse_existing(*named: str | Path | None, force: bool) -> None:
    """Stop before a file that the user names for a result replaces another; `-` and None stand for no file.

    An empty file has nothing to lose.

    Raises:
        ArgumentError: it is there already, and `force` is not set; or it is a folder, or a device such as /dev/null,
            in whose place a file would be put.
    """
    for path in (Path(name) for name in named if name and str(name) != "-"):
        # /dev/stdout may be an ordinary file, but its name is a link that root could replace.
        if path.exists() and (not path.is_file() or path.absolute().parent == Path("/dev")):
            kind = "a folder" if path.is_dir() else "a device or a pipe"
            raise ArgumentError(f"is {kind}", place=path, remedy="Name a file.")
        if not force and path.exists() and path.stat().st_size > 0:
            raise ArgumentError(
                "is there already", place=path, remedy="Name another file, or add --force (in Python: force=True)."
            )


def refuse_one_file(*named: str | Path | None) -> None:
    """Stop before one result replaces another, where a user names one file for two.

    Raises:
        ArgumentError: two of the names are one path.
    """
    paths = [os.path.abspath(name) for name in named if name and str(name) != "-"]  # noqa: PTH100 - links stay
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise ArgumentError("is named for two results", place=twice, remedy="Name another file for one of them.")


def read_regular(path: str | Path, most: int) -> bytes:
    """The bytes of a regular file, or of a link to one; nothing is read, or waited for, of anything else.

    Raises:
        OSError: it is missing or cannot be read.
        ValueError: it is a pipe, socket, device or folder, or has more than `most` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, whose kind is known before anything is read
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_size > most:
            raise ValueError(f"it has {status.st_size:,} bytes, more than {most:,}")
        return file.read(status.st_size)  # a larger number would take that much memory first


@contextmanager
def alone(path: str | Path) -> Iterator[None]:
    """Work on `path` while no other process does: ranks, or two runs started together, wait for each other here.

    The lock is a file beside `path`; the system lets go of it when its holder dies, however that happens.

    Raises:
        SSDError: the lock cannot be made, because the folder cannot be written.
    """
    path = Path(path)
    lock = _beside(path, "lock")
    if sys.platform == "win32":  # no such lock there, and no ranks to wait for
        yield
        return
    try:
        descriptor = _lock(lock, path)
    except OSError as error:
        raise _explain(error, path, 0) from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # before unlocking: waiting processes see that the file is gone, and retry
        os.close(descriptor)


def _lock(lock: Path, path: Path) -> int:
    """Wait for the lock, and retry if its file was replaced meanwhile."""
    told = False
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if told else fcntl.LOCK_NB))
            if is_still(descriptor, lock):
                return descriptor
        except BlockingIOError:
            log.info("%s: another process is at it; waiting", path)
            told = True
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def is_still(descriptor: int, path: Path) -> bool:
    """Whether `path` is the file that was opened, and not one made since by somebody else."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _beside(path: Path, ending: str) -> Path:
    """A hidden name beside `path`; of a long one it has the start and a hash, for file systems allow 255 bytes."""
    name = path.name
    if len(os.fsencode(name)) > _LONG_NAME:
        name = f"{name[:20]}-{hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()}"
    return path.with_name(f".{name}.{ending}")


def clean_leftovers(folder: str | Path) -> tuple[Path, ...]:
    """Remove what killed writers left in `folder`, and say what it was; files of writers still alive stay."""
    removed = []
    for path in sorted(Path(folder).glob(".*.tmp-*")):
        match = _LEFTOVER.fullmatch(path.name)
        if match and path.is_file() and not _belongs_to_another(int(match.group(1))):
            path.unlink(missing_ok=True)
            removed.append(path)
    return tuple(removed)


def _belongs_to_another(process: int) -> bool:
    """Whether `process` is alive and not this one; in a container this one often has the number of the one killed."""
    if process == os.getpid() or os.name != "posix":  # elsewhere `kill` with 0 is not a question
        return process != os.getpid()
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; Windows has no such call and needs none."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(error: OSError, path: Path, size: int) -> SSDError:
    if error.errno in NO_SPACE:
        needed = f" (needs {size / 1e6:.1f} MB)" if size else ""
        return SSDError(
            f"no space left writing {path.name}{needed}",
            place=path,
            remedy="Free some space or choose another folder; the file that was there before is unharmed.",
        )
    reason = error.strerror or str(error)
    return SSDError(f"cannot be written ({reason})", place=path, remedy="Check that the folder exists and is yours.")
