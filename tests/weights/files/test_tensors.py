import argparse
import os
import sys
import types

import numpy as np
import pytest
import safetensors.torch
import torch

from ssd.errors import CheckpointError
from ssd.weights.files.tensors import read_checkpoint, read_metadata, read_tensors

STATE = {"a.weight": torch.arange(3.0), "a.steps": torch.tensor(4)}


def assert_is_state(tensors: dict[str, torch.Tensor]) -> None:
    assert list(tensors) == list(STATE)
    assert all(torch.equal(tensors[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state_dict"])
def test_a_network_is_found_next_to_its_optimizer(tmp_path, wrapper):
    path = tmp_path / "x.pth"
    torch.save({"optimizer": {"state": {}}, wrapper: STATE, "iteration": 7}, path)
    assert_is_state(read_tensors(path))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "net.", "_orig_mod.module."])
def test_the_prefixes_of_wrappers_go(tmp_path, prefix):
    path = tmp_path / "x.pth"
    torch.save({f"{prefix}{name}": tensor for name, tensor in STATE.items()}, path)
    assert_is_state(read_tensors(path))


def test_the_arguments_that_torchvisions_training_stores_are_no_obstacle(tmp_path):
    path = tmp_path / "model_25.pth"
    torch.save({"model": STATE, "args": argparse.Namespace(lr=0.1, data="x"), "epoch": 3}, path)
    assert_is_state(read_tensors(path))


def test_the_old_torch_format_is_read(tmp_path):
    path = tmp_path / "x.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    assert_is_state(read_tensors(path))


def test_safetensors_and_npz_are_read(tmp_path):
    safetensors.torch.save_file(STATE, tmp_path / "x.safetensors", {"input": "RGB"})
    assert {n: t.tolist() for n, t in read_tensors(tmp_path / "x.safetensors").items()} == {
        n: t.tolist() for n, t in STATE.items()
    }
    assert read_metadata(tmp_path / "x.safetensors") == {"input": "RGB"}
    np.savez(tmp_path / "x.npz", **{name: tensor.numpy() for name, tensor in STATE.items()})
    assert_is_state(read_tensors(tmp_path / "x.npz"))
    assert read_metadata(tmp_path / "x.npz") == {}


class _Evil:
    def __reduce__(self):
        return (os.system, (f"touch {os.environ['SSD_EVIL']}",))


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_malicious_file_executes_nothing(tmp_path, monkeypatch, forced, zipped):
    monkeypatch.setenv("SSD_EVIL", str(tmp_path / "executed"))
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = tmp_path / "evil.pth"
    torch.save({"model": STATE, "x": _Evil()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"evil\.pth: holds posix\.system, not only tensors"):
        read_tensors(path)
    assert not (tmp_path / "executed").exists()


def test_mmdetections_training_checkpoint_is_stripped_with_its_own_tool(tmp_path, monkeypatch):
    class HistoryBuffer:
        pass

    module = types.ModuleType("mmengine.logging.history_buffer")
    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    torch.save({"state_dict": STATE, "message_hub": HistoryBuffer()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"holds mmengine\..*HistoryBuffer, .*publish_model\.py"):
        read_tensors(tmp_path / "x.pth")


def test_object_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([_Evil], dtype=object))
    with pytest.raises(CheckpointError, match=r"x\.npz: cannot be read"):
        read_tensors(tmp_path / "x.npz")


def test_a_tensor_that_claims_a_terabyte_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1).expand(1 << 20, 1 << 20)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"a has the shape \(1048576, 1048576\), but not as many numbers"):
        read_tensors(tmp_path / "x.pth")
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"x\.pth: "):
        read_tensors(tmp_path / "x.pth")


def test_what_lies_beside_the_network_is_kept_as_notes(tmp_path):
    torch.save({"state_dict": STATE, "meta": {"CLASSES": ("a",)}}, tmp_path / "x.pth")
    tensors, notes = read_checkpoint(tmp_path / "x.pth")
    assert_is_state(tensors)
    assert notes == {"meta": {"CLASSES": ("a",)}}
    torch.save(STATE, tmp_path / "x.pth")
    assert read_checkpoint(tmp_path / "x.pth")[1] == {}


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x.npz"])
@pytest.mark.parametrize("keep", [0, 20, -30])
def test_a_cut_file_is_an_error_that_names_it(tmp_path, name, keep):
    path = tmp_path / name
    if name == "x.pth":
        torch.save(STATE, path)
    elif name == "x.npz":
        np.savez(path, **{key: tensor.numpy() for key, tensor in STATE.items()})
    else:
        safetensors.torch.save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=name):
        read_tensors(path)


def test_other_contents_are_errors(tmp_path):
    path = tmp_path / "x.pth"
    with pytest.raises(CheckpointError, match="no such file"):
        read_tensors(path)
    path.write_text("<html>Not found</html>")
    with pytest.raises(CheckpointError, match="is a web page, not the file"):
        read_tensors(path)
    torch.save({"epoch": 1, "lr": 0.1}, path)
    with pytest.raises(CheckpointError, match="holds no tensors; its keys are epoch, lr"):
        read_tensors(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds list"):
        read_tensors(path)
