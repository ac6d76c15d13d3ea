import contextlib
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.grad import conv2d_weight

from ssd.inference.runtime import winograd
from ssd.model.factory import from_settings, settings_for
from ssd.system.threads import compute_with
from ssd.training import convolutions
from ssd.training.convolutions import WinogradConvolutions, fast_convolutions, memory_format, weight_gradient

CPU = torch.device("cpu")
needs_nnpack = pytest.mark.skipif(not winograd.available(), reason="PyTorch has no NNPACK here")


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    compute_with(request.param)
    yield request.param
    compute_with(before)


def network(backbone: str = "vgg11", width: float = 0.5) -> nn.Module:
    torch.manual_seed(0)
    return from_settings(settings_for(("cat",), input_size=128, backbone=backbone, width=width)).train()


def close(found, expected, share: float = 1e-4) -> bool:
    return bool((found - expected).abs().max() <= share * expected.abs().max())


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("bytes_of_a_block", [1, 20_000, 2**22])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 4), (2, 5, 9), (5, 13, 6), (2, 1, 8)], ids=str)
def test_the_gradient_of_the_kernels_is_the_one_in_double_precision(shape, bytes_of_a_block, monkeypatch):
    monkeypatch.setattr(convolutions, "_MOST_BYTES", bytes_of_a_block)
    torch.manual_seed(0)
    count, height, width = shape
    features, gradient = torch.randn(count, 3, height, width), torch.randn(count, 5, height, width)
    expected = conv2d_weight(features.double(), (5, 3, 3, 3), gradient.double(), padding=1)
    found = weight_gradient(features, gradient)
    assert found.shape == (5, 3, 3, 3)
    assert close(found, expected)


@pytest.mark.usefixtures("threads")
def test_a_gradient_is_the_same_bits_each_time():
    features, gradient = torch.randn(3, 64, 33, 33), torch.randn(3, 64, 33, 33)
    assert torch.equal(weight_gradient(features, gradient), weight_gradient(features, gradient))


@needs_nnpack
@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last])
def test_results_and_all_gradients_are_those_of_the_plain_layer(threads, format_):
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 80, 3, padding=1).to(memory_format=format_)
    images = torch.randn(threads + 1, 64, 38, 35).to(memory_format=format_)
    towards = torch.randn(threads + 1, 80, 38, 35).to(memory_format=format_)
    results = []
    for context in (contextlib.nullcontext(), WinogradConvolutions()):
        features = images.clone().requires_grad_()
        layer.zero_grad()
        with context:
            result = layer(features)
        result.backward(towards)
        results.append((result.detach(), features.grad, layer.weight.grad.clone(), layer.bias.grad.clone()))
    assert not torch.equal(results[0][0], results[1][0])  # two methods, indeed
    for plain, fast in zip(*results, strict=True):
        assert plain.shape == fast.shape
        assert close(fast, plain)


@needs_nnpack
def test_what_needs_no_gradient_gets_none():
    layer = nn.Conv2d(64, 64, 3, padding=1).requires_grad_(False)
    features = torch.randn(2, 64, 32, 32, requires_grad=True)
    with WinogradConvolutions():
        layer(features).sum().backward()
    assert features.grad is not None
    assert layer.weight.grad is None
    layer.requires_grad_(True)
    with WinogradConvolutions():
        layer(features.detach()).sum().backward()
    assert layer.weight.grad is not None


def test_other_convolutions_stay_as_they_are(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)

    def never(*_):
        raise AssertionError("Winograd's method was used")

    monkeypatch.setattr(convolutions, "_Convolution", type("Never", (), {"apply": staticmethod(never)}))
    features, weight, bias = torch.randn(2, 64, 32, 32), torch.randn(64, 64, 3, 3), torch.randn(64)
    with WinogradConvolutions():
        for options in ({}, {"padding": 1, "stride": 2}, {"padding": 2, "dilation": 2}, {"padding": "same"}):
            F.conv2d(features, weight, bias, **options)
        F.conv2d(features, weight, None, padding=1)  # no bias
        F.conv2d(features, weight[:, :, :1, :1], bias)  # 1x1
        F.conv2d(features, weight[:, :32], bias, padding=1, groups=2)
        F.conv2d(features[:, :, :19, :19], weight, bias, padding=1)  # a small map
        F.conv2d(features[:, :3], weight[:, :3], bias, padding=1)  # few channels
        F.conv2d(features[:1], weight, bias, padding=1)  # fewer images than threads
        F.conv2d(features.double(), weight.double(), bias.double(), padding=1)
        with pytest.raises(AssertionError, match="was used"):
            F.conv2d(features, weight, bias, padding=1)


@needs_nnpack
def test_a_networks_gradients_are_those_of_the_plain_network(threads):
    both = network(width=1.0), network(width=1.0)
    images = torch.randn(threads, 3, 128, 128)
    for one, context in zip(both, (contextlib.nullcontext(), WinogradConvolutions()), strict=True):
        with context:
            predictions = one(images)
        (predictions.logits.logsumexp(-1).mean() + predictions.offsets.square().mean()).backward()
    for (name, plain), (_, fast) in zip(both[0].named_parameters(), both[1].named_parameters(), strict=True):
        assert close(fast.grad, plain.grad, 1e-2), name  # ReLU opens and closes at other elements near 0


def test_only_vgg_in_fp32_on_a_cpu_with_avx2_alone_changes(monkeypatch):
    monkeypatch.setattr(winograd, "available", lambda: True)
    networks = network(), network("mobilenet_v3_large", 1.0)
    answers = {}
    for place, capability, dtype in itertools.product(
        (0, 1), ("AVX2", "AVX512", "DEFAULT"), (torch.float32, torch.bfloat16)
    ):
        monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda capability=capability: capability)
        fast = isinstance(fast_convolutions(networks[place], CPU, dtype), WinogradConvolutions)
        contiguous = memory_format(networks[place], CPU, dtype) == torch.contiguous_format
        assert fast == contiguous
        answers[place, capability, dtype] = fast
    assert [case for case, fast in answers.items() if fast] == [(0, "AVX2", torch.float32)]
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    assert memory_format(networks[0], torch.device("meta"), torch.float32) == torch.channels_last


def test_without_nnpack_the_memory_format_alone_changes(monkeypatch):
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(winograd, "available", lambda: False)
    assert isinstance(fast_convolutions(network(), CPU, torch.float32), contextlib.nullcontext)
    assert memory_format(network(), CPU, torch.float32) == torch.contiguous_format
