"""A checksum inside an exported file, so that a flipped byte is an error and not a wrong detection.

It is the SHA-256 of the file with zeros in place of the digest.
"""

import hashlib
import re
from pathlib import Path

from ssd.errors import CheckpointError

PLACEHOLDER = "sha256:" + "0" * 64
"""Text that a file must contain exactly once, for `add_checksum` to replace."""
_CHECKSUM = re.compile(rb"sha256:[0-9a-f]{64}")


def add_checksum(data: bytes) -> bytes:
    """Replace the placeholder by the checksum."""
    assert data.count(PLACEHOLDER.encode()) == 1
    return data.replace(PLACEHOLDER.encode(), f"sha256:{hashlib.sha256(data).hexdigest()}".encode())


def check_checksum(path: Path) -> None:
    """Raise `CheckpointError` if the file's checksum does not match; a file without one is from another program."""
    data = path.read_bytes()
    found = _CHECKSUM.search(data)
    if found is None:
        return
    sha = hashlib.sha256(data[: found.start()])
    sha.update(PLACEHOLDER.encode())
    sha.update(memoryview(data)[found.end() :])
    if found.group() != f"sha256:{sha.hexdigest()}".encode():
        remedy = "Copy it again, or export again; what other tools make of an export is loaded by those tools."
        raise CheckpointError(
            "has changed since it was exported: its SHA-256 does not match", place=path, remedy=remedy
        )
