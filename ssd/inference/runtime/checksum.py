"""A file that carries the SHA-256 of itself, so that a flipped byte in it is an error and not a wrong detection.

The digest is that of the file with zeros in the digest's place.
"""

import hashlib
import re
from pathlib import Path

from ssd.errors import CheckpointError

OPEN = "sha256:" + "0" * 64
"""To be written somewhere into the file, once, and then replaced by `seal`."""
_SEAL = re.compile(rb"sha256:[0-9a-f]{64}")


def seal(data: bytes) -> bytes:
    """Put the digest in its place."""
    assert data.count(OPEN.encode()) == 1
    return data.replace(OPEN.encode(), f"sha256:{hashlib.sha256(data).hexdigest()}".encode())


def check_seal(path: Path) -> None:
    """Raise `CheckpointError` if the file has a seal and is not what was sealed; one without a seal is not ours."""
    data = path.read_bytes()
    found = _SEAL.search(data)
    if found is None:
        return
    sha = hashlib.sha256(data[: found.start()])
    sha.update(OPEN.encode())
    sha.update(memoryview(data)[found.end() :])
    if found.group() != f"sha256:{sha.hexdigest()}".encode():
        remedy = "Copy it again, or export again; what other tools make of an export is loaded by those tools."
        raise CheckpointError(
            "has changed since it was exported: its SHA-256 does not match", place=path, remedy=remedy
        )
