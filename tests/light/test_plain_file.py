"""The facts of a plain graph's file, read without the package onnx."""

import dataclasses
import json
from pathlib import Path

import pytest

from ssd.errors import CheckpointError
from ssd.exporters.plain import as_text
from ssd.inference.runtime.facts import Facts
from ssd.light.plain_file import PlainFacts, read_facts, read_metadata
from ssd.rules import Postprocessing
from tests.exporters import made


def facts(**changes: object) -> str:
    return json.dumps({"version": 1, "settings": made.settings(box_voting=0.05).to_dict()} | changes)


def saved(path: Path, metadata: dict[str, str], weights: bytes = b"") -> Path:
    onnx = pytest.importorskip("onnx")
    model = onnx.ModelProto(ir_version=8, producer_name="x", graph=onnx.GraphProto(name="g", doc_string="d" * 300))
    model.graph.initializer.add(name="w", raw_data=weights)
    onnx.helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path


def test_metadata_is_what_onnx_reads(tmp_path: Path) -> None:
    metadata = {"ssd_plain": facts(), "empty": "", "class_names": "Äpfel\n梨"}
    assert read_metadata(saved(tmp_path / "x.onnx", metadata, bytes(range(256)) * 300)) == metadata


def test_the_facts_are_those_of_the_settings(tmp_path: Path) -> None:
    found = read_facts(saved(tmp_path / "x.onnx", {"ssd_plain": facts()}))
    assert found == PlainFacts(made.CLASSES, 64, "uint8", made.settings(box_voting=0.05).postprocessing)
    assert isinstance(found.postprocessing, Postprocessing)


def test_a_depth_is_in_the_facts_in_numbers_and_in_words(tmp_path: Path) -> None:
    settings = made.settings()
    for depth, words in (((0.0, 4095.0), "0 and 4095 become 0 and 255"), ("percentile", "0.5 and 99.5 percentile")):
        pixels = dataclasses.replace(settings.preprocessing, depth=depth)
        text = as_text(Facts(dataclasses.replace(settings, preprocessing=pixels)))
        assert PlainFacts.from_text(text, tmp_path).depth == depth
        assert words in json.loads(text)["depth"]
        assert json.loads(text)["version"] == 2, "readers that know no depth must refuse it"
    plain = json.loads(as_text(Facts(settings)))
    assert "depth" not in plain
    assert plain["version"] == 1


@pytest.mark.parametrize("depth", ["high", [1], [2, 1], [0, "x"], 12])
def test_a_depth_that_cannot_be_is_a_damaged_fact(depth: object, tmp_path: Path) -> None:
    raw = json.loads(facts())
    raw["settings"]["preprocessing"]["depth"] = depth
    with pytest.raises(CheckpointError, match="its facts are damaged"):
        PlainFacts.from_text(json.dumps(raw), tmp_path)


def test_what_is_no_plain_graph_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"x\.onnx: no such file"):
        read_facts(tmp_path / "x.onnx")
    with pytest.raises(CheckpointError, match=r"no plain graph: it has suppression inside.*--plain"):
        read_facts(saved(tmp_path / "x.onnx", {"ssd": "{}"}))
    with pytest.raises(CheckpointError, match=r"no plain graph: it was not exported by this package"):
        read_facts(saved(tmp_path / "x.onnx", {}))
    for data in (b"\x0b\x01", b"not a graph", b"\x72\xff\x01", b"\x80" * 20):
        (tmp_path / "y.onnx").write_bytes(data)
        with pytest.raises(CheckpointError, match=r"y\.onnx: is not an ONNX file"):
            read_facts(tmp_path / "y.onnx")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", facts(settings={}), facts(settings={"postprocessing": 3}), facts(version=3)],
    ids=["empty", "list", "none", "settings", "rules", "version"],
)
def test_damaged_facts_are_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"x\.onnx: (its facts are damaged|was exported in version 3)"):
        PlainFacts.from_text(text, tmp_path / "x.onnx")


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    from ssd.inference.runtime.checksum import PLACEHOLDER, add_checksum

    path = saved(tmp_path / "x.onnx", {"ssd_plain": facts(), "digest": PLACEHOLDER}, b"weights")
    data = add_checksum(path.read_bytes())
    path.write_bytes(data)
    assert read_facts(path).input_size == 64
    path.write_bytes(data.replace(b"weights", b"weighta"))
    with pytest.raises(CheckpointError, match="SHA-256"):
        read_facts(path)
