"""Downloads a file, resumed after an interruption and checked against a published checksum.

The bytes collect in `<name>.part` beside the target and are renamed only once they are what was promised, so a
finished file is never half a file, and one that is already there is never replaced. Processes that want the same
file at the same time fetch it once.
"""

import hashlib
import http.client
import os
import stat
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from ssd.errors import ArgumentError, DownloadError
from ssd.system.files import alone

_CHUNK = 1 << 20


def cache_folder() -> Path:
    """Where fetched files are kept: `$SSD_HOME`, else `~/.cache/ssd`.

    A user without a home, as in `docker run --user 12345`, has a folder in the temporary one, which is made here.

    Raises:
        ArgumentError: that folder cannot be made, or is not this user's alone.
    """
    try:
        return Path(os.environ.get("SSD_HOME") or Path.home() / ".cache" / "ssd")
    except RuntimeError:
        return _temporary_home()


def _temporary_home() -> Path:
    """A folder that no other user can write, since what is found in it is trusted."""
    user = os.getuid() if os.name == "posix" else 0
    try:
        folder = Path(tempfile.gettempdir()) / f"ssd-{user}"
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
    except OSError as error:
        problem = f"no temporary one can be made ({error.strerror})"
    else:
        if stat.S_ISDIR(status.st_mode) and status.st_uid == user and not status.st_mode & 0o022:
            return folder
        problem = f"{folder} is not yours alone"
    raise ArgumentError(f"this user has no home folder, and {problem}", remedy="Set SSD_HOME to a folder of yours.")


def download(
    url: str,
    path: str | Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    progress: bool = True,
    attempts: int = 4,
    timeout: float = 60.0,
) -> Path:
    """Fetch `url` into `path`, unless the right file is there already; a checksum is required.

    `sha256` may be the digest's first eight or more digits, which is what some publishers put into file names.

    Raises:
        DownloadError: no checksum, another file in the way, no network (the message says where to put the file
            by hand), or bytes that are not the promised ones.
    """
    target = Path(path)
    kind, digest = _promised(url, sha256, md5)
    if _is_there(target, kind, digest, url):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"cannot be made ({error.strerror})", place=target.parent, remedy="Set SSD_HOME.") from None
    with alone(target):
        if _is_there(target, kind, digest, url):  # another process fetched it while this one waited
            return target
        part = target.with_name(f"{target.name}.part")
        _fetch(url, part, target, attempts, timeout, progress)
        found = _digest(part, kind)
        if not found.startswith(digest):
            size = part.stat().st_size
            part.unlink()
            problem = f"the {size:,} bytes received have the {kind} {found}, not {digest}"
            raise DownloadError(problem, place=url, remedy=f"Try again, or put the right file at {target} yourself.")
        part.replace(target)
    return target


def _is_there(target: Path, kind: str, digest: str, url: str) -> bool:
    """Whether the right file is there; another one in its place is an error, for nothing is ever replaced."""
    if not target.exists():
        return False
    if _digest(target, kind).startswith(digest):
        return True
    remedy = "Move it away, or delete it to fetch the file again."
    raise DownloadError(f"is there, but is not the file of {url} ({kind} differs)", place=target, remedy=remedy)


def _promised(url: str, sha256: str | None, md5: str | None) -> tuple[str, str]:
    if not url.startswith(("https://", "http://")):
        raise DownloadError(f"{url!r} is not an http address", place="url")
    if sha256 and len(sha256) >= 8:
        return "sha256", sha256.lower()
    if md5 and len(md5) == 32:
        return "md5", md5.lower()
    raise DownloadError("no checksum is known for this file", place=url, remedy="Give its sha256 or md5.")


def _fetch(url: str, part: Path, target: Path, attempts: int, timeout: float, progress: bool) -> None:
    """Try until the part is complete; a try that brought bytes does not use up an attempt."""
    failures = 0
    while True:
        before = _size(part)
        try:
            if _fetch_once(url, part, timeout, progress):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 429):
                failures = attempts  # asking again will not help
        except (OSError, http.client.HTTPException) as error:
            reason = str(error.reason if isinstance(error, urllib.error.URLError) else error) or type(error).__name__
        gained = _size(part) > before
        failures = failures if gained else failures + 1
        if failures >= attempts:
            remedy = f"Fetch it elsewhere and put it at {target}; a second try here goes on where this one stopped."
            raise DownloadError(f"cannot be fetched ({reason})", place=url, remedy=remedy)
        if not gained:
            time.sleep(min(2.0 ** (failures - 1), 10.0) * 0.5)


def _fetch_once(url: str, part: Path, timeout: float, progress: bool) -> bool:
    """Append what is missing; whether the file is complete now."""
    from tqdm import tqdm  # here: `ssd doctor` asks for the cache folder where tqdm may be missing

    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing lies beyond what we have: complete, or not this file at all
            error.close()
            return True
        raise
    with response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar = tqdm(
            total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None if progress else True
        )
        with part.open("ab" if resumed else "wb") as file, bar:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())  # before the rename, so that the name never stands for fewer bytes
    return total is None or _size(part) >= total


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
