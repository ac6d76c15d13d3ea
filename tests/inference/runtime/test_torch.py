import pytest
import torch

from ssd.errors import ArgumentError
from ssd.inference.runtime.open import Runtime, open_runtime
from ssd.model import factory


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return factory.from_settings(factory.settings_for(("cat", "dog"), input_size=64, width=0.125)).eval()


def test_an_open_runtime_keeps_the_protocol(network):
    runtime = open_runtime(network, device="cpu", precision="fp32", backend="torch")
    assert isinstance(runtime, Runtime)
    assert (runtime.backend, runtime.precision, runtime.device) == ("torch", "fp32", "cpu")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_predictions_are_the_networks_own(network, layout):
    images = torch.randn(2, 3, 64, 64).contiguous(memory_format=layout)
    with torch.inference_mode():
        expected = network(images)
    found = open_runtime(network, device="cpu", precision="fp32").predict(images)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.offsets, expected.offsets, rtol=1e-4, atol=1e-4)
    assert not found.logits.requires_grad


def test_bf16_predictions_come_in_fp32(network):
    found = open_runtime(network, device="cpu", precision="bf16").predict(torch.randn(1, 3, 64, 64))
    assert found.logits.dtype == found.offsets.dtype == torch.float32


def test_auto_takes_bf16_where_the_cpu_has_it(network, monkeypatch):
    for has, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("ssd.system.device.cpu_has_bf16", lambda has=has: has)
        assert open_runtime(network, device="cpu").precision == expected


def test_an_unknown_backend_is_named_with_the_known_ones(network):
    with pytest.raises(ArgumentError, match=r"backend: 'abacus' is unknown. Choose from auto, torch"):
        open_runtime(network, backend="abacus")
