"""The facts in a plain graph's file: how images are resized, the thresholds, the names of the classes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ssd.errors import ArgumentError, CheckpointError
from ssd.inference.runtime.checksum import check_checksum
from ssd.rules import NUMBERS, Depth, Postprocessing, is_window
from ssd.system.other_content import refuse_other_file

KEY = "ssd_plain"
"""The key of the graph's facts in the metadata of the ONNX file."""
VERSION = 1
DEPTH_VERSION = 2
"""The version of a file with a depth, which a reader of version 1 would ignore; other files have `VERSION`."""
_REMEDY = "Export one: ssd export WEIGHTS --format onnx --plain"
_RESIZES = ("uint8", "float", "antialias", "area")
_METADATA, _BYTES, _VARINT = 14, 2, 0  # field of ONNX's ModelProto, and wire types of protocol buffers


@dataclass(frozen=True)
class PlainFacts:
    """What a program must know besides the graph."""

    class_names: tuple[str, ...]
    input_size: int  # side S of the input, in pixels
    resize: str  # uint8, float, antialias or area; see `ssd.images.resize`
    postprocessing: Postprocessing
    tiled: bool = False  # whether training had tiles, which are not searched here
    depth: Depth | None = None  # how images of more than 8 bits a channel are read; see `ssd.images.depth`

    @staticmethod
    def from_text(text: str, place: Path) -> "PlainFacts":
        """Read the JSON of the metadata.

        Raises:
            CheckpointError: it is damaged, or of a newer version.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            version, settings = raw["version"], raw["settings"]
            facts = PlainFacts(
                class_names=tuple(map(str, settings["class_names"])),
                input_size=int(settings["network"]["input_size"]),
                resize=str(settings["preprocessing"]["resize"]),
                postprocessing=_rules(settings["postprocessing"]),
                tiled="tiles" in settings,
                depth=_depth(settings["preprocessing"].get("depth")),
            )
        except (ValueError, KeyError, TypeError, ArgumentError) as error:
            raise CheckpointError(f"its facts are damaged ({error!r})", place=place, remedy="Export again.") from None
        if version not in (VERSION, DEPTH_VERSION) or facts.resize not in _RESIZES or facts.input_size < 1:
            problem = (
                f"was exported in version {version!r} with resize {facts.resize!r}, which this package cannot read"
            )
            raise CheckpointError(problem, place=place, remedy="Update the package, or export again.")
        return facts


def _depth(raw: Any) -> Depth | None:
    if raw is None or raw == "percentile":
        return raw  # type: ignore[no-any-return]
    low, high = map(float, raw)
    if not is_window((low, high)):
        raise ValueError(f"depth {raw!r}")
    return low, high


def _rules(raw: dict[str, Any]) -> Postprocessing:
    rules = Postprocessing(
        clip="before" if raw["clip"] == "before" else "after",
        own_thresholds=tuple(map(float, raw.get("own_thresholds", ()))),
        class_thresholds=tuple(map(float, raw.get("class_thresholds", ()))),
    )
    return rules.changed(**{name: raw[name] for name in NUMBERS})


def read_facts(path: Path) -> PlainFacts:
    """The facts of an exported plain graph.

    Raises:
        CheckpointError: missing, damaged, or no plain graph of this package.
    """
    if not path.is_file():
        problem = "is a folder, not a file" if path.is_dir() else "no such file"
        raise CheckpointError(problem, place=path, remedy="Name a plain graph, such as best.plain.onnx.")
    refuse_other_file(path, CheckpointError)
    try:
        metadata = read_metadata(path)
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"is not an ONNX file ({error})", place=path, remedy=_REMEDY) from None
    if KEY not in metadata:
        kind = "has suppression inside" if "ssd" in metadata else "was not exported by this package"
        raise CheckpointError(f"is no plain graph: it {kind}", place=path, remedy=_REMEDY)
    check_checksum(path)
    return PlainFacts.from_text(metadata[KEY], path)


def read_metadata(path: Path) -> dict[str, str]:
    """The `metadata_props` of an ONNX file; the graph itself is skipped, and the package onnx is not needed.

    Raises:
        ValueError, IndexError: the file is no protocol buffer.
    """
    found = {}
    with path.open("rb") as file:
        size = path.stat().st_size
        while file.tell() < size:
            number, kind = divmod(_varint(file), 8)
            if kind == _VARINT:
                _varint(file)
                continue
            if kind != _BYTES:
                raise ValueError(f"a field of wire type {kind}")
            length = _varint(file)
            if length > size - file.tell():
                raise ValueError("truncated")
            if number != _METADATA:
                file.seek(length, 1)
                continue
            key, value = (text for _, text in sorted(_strings(file, file.tell() + length)))
            found[key] = value
    return found


def _strings(file: BinaryIO, end: int) -> Iterator[tuple[int, str]]:
    """Field number and text of each string of a message."""
    while file.tell() < end:
        number, kind = divmod(_varint(file), 8)
        if kind != _BYTES:
            raise ValueError(f"metadata of wire type {kind}")
        yield number, file.read(_varint(file)).decode("utf-8")


def _varint(file: BinaryIO) -> int:
    """A number in groups of seven bits, the lowest first."""
    number = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)[0]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number
    raise ValueError("a number of more than ten bytes")
