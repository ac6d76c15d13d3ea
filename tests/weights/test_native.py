import dataclasses
import json
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch

from ssd.errors import CheckpointError
from ssd.inference.runtime.facts import Facts
from ssd.settings import BoxSettings, NetworkSettings, Settings
from ssd.weights import native

SETTINGS = Settings(
    network=NetworkSettings(input_size=300, width=0.125),
    boxes=BoxSettings(300, (2, 1), (150.0, 300.0), (30.0, 60.1), (60.1, 111.0), ((2.0,), (2.0, 3.0))),
    class_names=("Käse", "cat"),
)


def some_weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "head.boxes.0.weight": torch.randn(8, 3, 3, 3),
        "backbone.norm.num_batches_tracked": torch.tensor(7),
        "backbone.conv1_1.bias": torch.randn(5).to(torch.bfloat16),
        "empty": torch.zeros(0, 4),
    }


def test_weights_settings_and_extra_come_back_as_they_were(tmp_path):
    path = tmp_path / "best.safetensors"
    extra = {"config": {"name": "x", "lr": 1e-3}, "ap": 0.25}
    native.save_weights(path, some_weights(), SETTINGS, extra=extra)
    weights, settings, read = native.load_weights(path)
    torch.testing.assert_close(weights, some_weights(), rtol=0, atol=0)
    assert settings == SETTINGS
    assert read == extra
    assert native.is_ours(path)


@pytest.mark.parametrize("tiles", [1, 3, (2, 4), "auto"])
def test_the_number_of_tiles_travels_with_the_weights(tmp_path, tiles):
    settings = dataclasses.replace(SETTINGS, tiles=tiles)
    assert ("tiles" in settings.to_dict()) == (tiles != 1)  # files without tiles stay as they were
    native.save_weights(tmp_path / "w.safetensors", some_weights(), settings)
    assert native.load_weights(tmp_path / "w.safetensors")[1] == settings
    assert Facts.from_text(Facts(settings).to_text(), tmp_path).settings == settings  # of an exported graph


@pytest.mark.parametrize("tiles", [0, 33, (2, 0), (1, 2, 3), "many", 2.5])
def test_a_number_of_tiles_that_cannot_be_is_refused(tiles):
    with pytest.raises(CheckpointError, match="tiles"):
        Settings.from_dict(SETTINGS.to_dict() | {"tiles": tiles})


def test_equal_weights_make_equal_files(tmp_path):
    for name in ("a", "b"):
        native.save_weights(tmp_path / name, some_weights(), SETTINGS, extra={"b": 1, "a": 2})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_strided_and_shared_tensors_are_saved(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    native.save_weights(tmp_path / "w", {"t": base.t(), "same": base, "part": base[1]}, SETTINGS)
    weights, _, extra = native.load_weights(tmp_path / "w")
    assert torch.equal(weights["t"], base.t())
    assert torch.equal(weights["part"], base[1])
    assert extra == {}


def test_a_flipped_byte_anywhere_in_a_weights_file_is_an_error(tmp_path):
    path = tmp_path / "w.safetensors"
    native.save_weights(path, {"a": torch.randn(4, 4), "b": torch.ones(2)}, SETTINGS, extra={"note": "hello"})
    whole = path.read_bytes()
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            native.load_weights(path)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_cut_weights_file_is_an_error(tmp_path, keep):
    path = tmp_path / "w.safetensors"
    native.save_weights(path, some_weights(), SETTINGS)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"w\.safetensors"):
        native.load_weights(path)


def test_another_codes_safetensors_is_not_ours(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, path, {"format": "pt"})
    assert not native.is_ours(path)
    with pytest.raises(CheckpointError, match="is not a weights file of this package"):
        native.load_weights(path)
    (tmp_path / "picture").write_bytes(b"\xff" * 100)
    assert not native.is_ours(tmp_path / "picture")


def test_a_file_of_a_newer_version_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(native, "_VERSION", 2)
        native.save_weights(tmp_path / "w", some_weights(), SETTINGS)
    with pytest.raises(CheckpointError, match="has version 2, this package reads 1"):
        native.load_weights(tmp_path / "w")


def test_a_missing_file_is_named():
    with pytest.raises(CheckpointError, match="nowhere/best"):
        native.load_weights("nowhere/best.safetensors")


def test_half_a_surrogate_pair_in_the_facts_is_damage(tmp_path):
    facts = {"version": 1, "sha256": "", "settings": {"class_names": ["caf\udce9"]}}
    (tmp_path / "w").write_bytes(safetensors.torch.save(some_weights(), {native._KEY: json.dumps(facts)}))
    with pytest.raises(CheckpointError, match="surrogates not allowed"):
        native.load_weights(tmp_path / "w")


def test_extra_that_json_cannot_carry_is_an_error(tmp_path):
    for value in (float("nan"), Path("x")):
        with pytest.raises(CheckpointError, match="extra"):
            native.save_weights(tmp_path / "w", some_weights(), SETTINGS, extra={"v": value})
    assert list(tmp_path.iterdir()) == []


def test_every_torch_load_of_the_package_is_weights_only():
    package = Path(native.__file__).parents[1]
    for path in package.rglob("*.py"):
        text = path.read_text()
        assert "pickle.load" not in text, path
        for call in re.split(r"(?<!\.)torch\.load\(", text)[1:]:
            assert "weights_only=True" in call[:200], path
