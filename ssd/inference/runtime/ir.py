"""OpenVINO's files: an `.xml` that describes a graph, and a `.bin` beside it that holds the numbers.

The `.xml` carries the SHA-256 of its `.bin` and of the facts: neither a flipped byte in them nor the `.bin` of another
export goes unseen.
"""

import functools
import hashlib
import os
from pathlib import Path
from typing import Any

from ssd.errors import CheckpointError, SSDError
from ssd.system.optional import load_extra

_DIGEST, _FACTS = ["ssd", "sha256"], ["ssd", "facts"]


def write(path: Path, model: Any, facts: str | None = None) -> None:
    """Write both files, the `.xml` last; with `facts`, a text for `read_facts`.

    Raises:
        SSDError: no space left, or the folder cannot be written.
    """
    openvino = load_extra("openvino", "openvino")
    half_done = path.with_name(f".{path.stem}.tmp-{os.getpid()}.xml")
    numbers = half_done.with_suffix(".bin")
    try:
        openvino.save_model(model, half_done, compress_to_fp16=False)
        if facts is not None:
            model.set_rt_info(facts, _FACTS)
        model.set_rt_info(_digest(numbers, facts), _DIGEST)
        openvino.save_model(model, half_done, compress_to_fp16=False)
        numbers.replace(path.with_suffix(".bin"))
        half_done.replace(path)
    except (OSError, RuntimeError) as error:
        raise SSDError(f"cannot be written ({error})", place=path, remedy="Is there space, and is it yours?") from None
    finally:
        for part in (half_done, numbers):
            part.unlink(missing_ok=True)


def core() -> Any:
    """OpenVINO's one core of this process, which lasts as long.

    Each core changes the stack that signals are handled on, and restores the one before at its end: of several that end
    in another order, the last restores one that is gone, and the next Ctrl-C is a segmentation fault.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    return _made_once(load_extra("openvino", "openvino"))


@functools.cache
def _made_once(openvino: Any) -> Any:
    return openvino.Core()


def read(path: Path) -> Any:
    """Read a graph back.

    Raises:
        CheckpointError: one of the two files is missing, or they are not what was written.
        MissingExtraError: OpenVINO is not installed.
    """
    reader = core()
    numbers = path.with_suffix(".bin")
    for part in (path, numbers):
        if not part.is_file():
            raise CheckpointError("no such file", place=part, remedy="An OpenVINO graph is an .xml and a .bin.")
    try:
        model = reader.read_model(path)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[-160:]
        raise CheckpointError(f"is not a graph that OpenVINO can read ({reason})", place=path) from None
    if model.has_rt_info(_DIGEST) and model.get_rt_info(_DIGEST).astype(str) != _digest(numbers, read_facts(model)):
        problem = "is not the file that was written with its .xml: the SHA-256 does not match"
        raise CheckpointError(problem, place=numbers, remedy="Copy both again, or export again.")
    return model


def read_facts(model: Any) -> str | None:
    """The text given to `write`; None for a graph of somebody else's."""
    return model.get_rt_info(_FACTS).astype(str) if model.has_rt_info(_FACTS) else None


def _digest(numbers: Path, facts: str | None) -> str:
    with numbers.open("rb") as file:
        sha = hashlib.file_digest(file, "sha256")
    sha.update((facts or "").encode())
    return sha.hexdigest()
