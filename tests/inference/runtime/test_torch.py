import pytest
import torch

from ssd.errors import ArgumentError
from ssd.inference.runtime.open import Runtime, open_runtime
from ssd.inference.runtime.torch import TorchRuntime
from ssd.model import factory
from tests.inference.pretended_gpu import pretended_gpu

SETTINGS = factory.settings_for(("cat", "dog"), input_size=64, width=0.125)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return factory.from_settings(SETTINGS).eval()


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


@pytest.mark.parametrize(("precision", "convolutions"), [("fp32", "ieee"), ("bf16", "tf32")])
def test_fp32_on_cuda_is_ieee_while_the_network_computes_and_only_then(precision, convolutions):
    conv = torch.backends.cudnn.conv
    seen = []
    with pretended_gpu():
        made = factory.from_settings(SETTINGS)
        made.register_forward_hook(lambda *_: seen.append((conv.fp32_precision, torch.backends.cudnn.benchmark)))
        runtime = open_runtime(made, device="cuda", precision=precision, backend="torch")
        for images in (2, 2, 1, 2):
            runtime.predict(torch.empty(images, 3, 64, 64, device="cuda"))
    # Algorithms are tuned from the second batch of a size on.
    assert seen == [(convolutions, False), (convolutions, True), (convolutions, False), (convolutions, True)]
    assert (conv.fp32_precision, torch.backends.cudnn.benchmark) == ("tf32", False)


def test_the_cpu_goes_on_with_a_message_where_mps_lacks_an_operator(network, monkeypatch, caplog):
    runtime = TorchRuntime(network, torch.device("cpu"))
    images = torch.randn(1, 3, 64, 64)
    expected = runtime.predict(images)
    runtime.device, plain = "mps", runtime._network.forward
    calls = []

    def lacking(pixels):
        calls.append(len(pixels))
        if len(calls) == 1:
            raise NotImplementedError(
                "The operator 'aten::odd' is not currently implemented for the MPS device. Please"
            )
        return plain(pixels)

    monkeypatch.setattr(runtime._network, "forward", lacking)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *words, **options: tensor)
    assert torch.equal(runtime.predict(images).logits, expected.logits)
    assert (calls, runtime.device) == ([1, 1], "cpu")
    assert "MPS lacks an operator: The operator 'aten::odd' is not currently implemented" in caplog.text


@pytest.mark.parametrize(("device", "ahead"), [("cuda:1", True), ("mps", False)])
def test_the_host_waits_for_the_copy_of_images_unless_the_device_is_cuda(network, monkeypatch, device, ahead):
    runtime = TorchRuntime(network, torch.device("cpu"))
    runtime.device, asked = device, []

    def to(tensor, *words, **options):
        asked.append((*words, options.get("non_blocking")))
        return tensor

    monkeypatch.setattr(torch.Tensor, "to", to)
    runtime.predict(torch.randn(1, 3, 64, 64))
    assert asked[0] == (device, torch.float32, ahead)


def test_another_error_of_that_kind_is_raised(network, monkeypatch):
    def broken(pixels):
        raise NotImplementedError("forward")

    runtime = TorchRuntime(network, torch.device("cpu"))
    monkeypatch.setattr(runtime._network, "forward", broken)
    with pytest.raises(NotImplementedError, match="forward"):
        runtime.predict(torch.randn(1, 3, 64, 64))
