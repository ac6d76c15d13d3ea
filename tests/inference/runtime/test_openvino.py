import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ssd.inference.runtime.openvino_conversion as convert
from ssd.errors import ArgumentError, MissingExtraError
from ssd.inference.runtime import ir
from ssd.inference.runtime.open import Runtime, choose_backend, open_runtime
from ssd.model import factory

SETTINGS = factory.settings_for(("cat", "dog"), input_size=64, width=0.125, backbone="vgg11")


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return factory.from_settings(SETTINGS).train()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder of these tests' own; what the first one converts serves the others."""
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSD_HOME", str(folder))
        yield folder / "openvino"


def opened(network: torch.nn.Module, **options) -> Runtime:
    return open_runtime(network, **{"input_size": 64, "backend": "openvino", "precision": "fp32"} | options)


def copy_of(path: Path, folder: Path) -> object:
    """Read a model from copies of its files, because it stays connected to the files that it was read from."""
    for part in (path, path.with_suffix(".bin")):
        shutil.copy(part, folder)
    return ir.read(folder / path.name)


@pytest.fixture
def no_conversion(monkeypatch):
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(convert, "convert", refused)


def test_predictions_are_the_networks_own(network, cache):
    runtime = opened(network)
    assert isinstance(runtime, Runtime)
    assert (runtime.backend, runtime.precision, runtime.device) == ("openvino", "fp32", "cpu")
    assert network.training
    network.eval()
    for count in (1, 3, 2):
        images = torch.randn(count, 3, 64, 64).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            expected = network(images)
        found = runtime.predict(images)
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.offsets, expected.offsets, rtol=1e-4, atol=1e-4)


def test_later_predictions_leave_earlier_ones_alone(network, cache):
    runtime = opened(network)
    first = runtime.predict(torch.zeros(1, 3, 64, 64))
    kept = first.logits.clone()
    runtime.predict(torch.ones(1, 3, 64, 64))
    assert torch.equal(first.logits, kept)


def test_bf16_predictions_come_in_fp32_and_close_by(network, cache):
    images = torch.randn(2, 3, 64, 64)
    exact, fast = (opened(network, precision=precision).predict(images) for precision in ("fp32", "bf16"))
    assert fast.logits.dtype == torch.float32
    assert (exact.logits - fast.logits).abs().max() < 0.05 * exact.logits.abs().max()


def test_a_network_is_converted_once(network, cache, no_conversion):
    assert len(list(cache.glob("*.xml"))) == 1
    opened(network)


def test_other_weights_or_sizes_are_another_network(network):
    key = convert._key(network, 64, "1")
    assert convert._key(network, 64, "1") == key
    others = [convert._key(network, 64, "2"), convert._key(network, 96, "1")]
    state = network.state_dict()
    state["head.boxes.0.bias"] = state["head.boxes.0.bias"] + 1
    changed = factory.from_settings(SETTINGS)
    changed.load_state_dict(state)
    assert len({key, *others, convert._key(changed, 64, "1")}) == 4


def test_a_damaged_kept_network_is_converted_again(network, cache, caplog, monkeypatch, tmp_path):
    (kept,) = cache.glob("*.bin")
    model, good = copy_of(kept.with_suffix(".xml"), tmp_path), kept.read_bytes()
    monkeypatch.setattr(convert, "convert", lambda *_: model)
    middle = len(good) // 2
    kept.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    opened(network)
    assert "SHA-256 does not match" in caplog.text
    assert "converting again" in caplog.text
    assert kept.read_bytes() == good


def test_a_cache_that_cannot_be_written_is_no_obstacle(network, cache, monkeypatch, tmp_path, caplog):
    model = copy_of(next(cache.glob("*.xml")), tmp_path)
    monkeypatch.setattr(convert, "convert", lambda *_: model)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SSD_HOME", str(tmp_path / "file"))
    assert opened(network).predict(torch.zeros(1, 3, 64, 64)).logits.shape[0] == 1
    assert "cannot be kept" in caplog.text


def test_a_network_that_is_not_to_be_kept_leaves_the_cache_alone(network, cache, monkeypatch, tmp_path):
    model = copy_of(next(cache.glob("*.xml")), tmp_path)
    monkeypatch.setattr(convert, "convert", lambda *_: model)
    monkeypatch.setenv("SSD_HOME", str(tmp_path / "home"))
    opened(network, keep=False)
    assert not (tmp_path / "home").exists()


def test_only_the_last_used_networks_are_kept(tmp_path):
    for number in range(12):
        for suffix in (".xml", ".bin"):
            (tmp_path / f"{number:02}{suffix}").touch()
            os.utime(tmp_path / f"{number:02}{suffix}", (number, number))
    convert._prune(tmp_path)
    assert sorted(path.stem for path in tmp_path.glob("*.xml")) == [f"{number:02}" for number in range(4, 12)]
    assert len(list(tmp_path.iterdir())) == 16


def test_what_openvino_cannot_do_is_named(network, monkeypatch):
    with pytest.raises(ArgumentError, match=r"8 bits.*ssd export"):
        opened(network, precision="int8")
    monkeypatch.setattr("ssd.inference.runtime.open.choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr("ssd.inference.runtime.open.choose_dtype", lambda *_: torch.float32)
    with pytest.raises(ArgumentError, match="OpenVINO does not run on 'cuda'"):
        opened(network, device="cuda")


def test_without_openvino_the_extra_is_named(network, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r'openvino is not installed.*pip install "ssd-vgg\[openvino\]"'):
        opened(network)


def test_auto_takes_openvino_for_large_networks_on_the_cpu_where_it_is_installed(network, monkeypatch):
    monkeypatch.delenv("SSD_BACKEND")
    large = torch.nn.Linear(5000, 1001, device="meta")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert choose_backend(large, device="cpu") == "openvino"
    assert choose_backend(network, device="cpu") == "torch"
    assert choose_backend(network, device="cpu", backend="openvino") == "openvino"
    monkeypatch.setenv("SSD_BACKEND", "openvino")
    assert choose_backend(network, device="cpu") == "openvino"
    assert choose_backend(large, device="cpu", backend="torch") == "torch"
    monkeypatch.setenv("SSD_BACKEND", "abacus")
    with pytest.raises(ArgumentError, match="SSD_BACKEND: 'abacus' is unknown"):
        choose_backend(large, device="cpu")
    monkeypatch.delenv("SSD_BACKEND")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert choose_backend(large, device="cpu") == "torch"
    monkeypatch.setattr("ssd.inference.runtime.open.choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert choose_backend(large) == "torch"


@pytest.mark.parametrize(
    ("options", "rule"),
    [({}, "ceil"), ({"padding": 1}, "ceil_torch"), ({"stride": 3}, "ceil_torch"), ({"ceil_mode": False}, "floor")],
)
def test_pools_round_up_by_openvinos_rule_where_it_is_the_same(options, rule):
    pytest.importorskip("openvino")
    pool = torch.nn.MaxPool2d(**{"kernel_size": 2, "ceil_mode": True} | options)
    images = torch.randn(2, 3, 9, 9)
    model = convert.convert(torch.nn.Sequential(pool), images)
    (rounding,) = (node.get_attributes()["rounding_type"] for node in model.get_ops() if "Pool" in node.get_type_name())
    assert rounding == rule
    found = ir.core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images.numpy())[0]
    torch.testing.assert_close(torch.from_numpy(found), pool(images), rtol=0, atol=0)


MODELS_END_IN_ANY_ORDER = """
import os, signal
import numpy as np
from openvino import Model, opset13
from ssd.inference.runtime.openvino import CompiledModel
def made():
    number = opset13.parameter([1], np.float32)
    return CompiledModel(Model([opset13.add(number, number)], [number], "twice"), "fp32")
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
first, second = made(), made()
del first
third = made()
del second, third
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_after_the_end_of_several_models_is_handled():
    """With a core for each model, OpenVINO leaves a stack for signals that is gone: Ctrl-C was a segmentation fault."""
    pytest.importorskip("openvino")
    root = Path(__file__).parents[3]
    words = [sys.executable, "-c", MODELS_END_IN_ANY_ORDER]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
