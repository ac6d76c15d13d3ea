import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from ssd.inference.runtime import prepacked
from ssd.inference.runtime.open import open_runtime
from ssd.inference.runtime.prepacked import FastConvolution, HalvingPool, PackedConvolution, available, prepack_
from ssd.model import factory

DTYPES = (torch.float32, torch.bfloat16)


def small_network(backbone: str = "vgg16", **options) -> nn.Module:
    torch.manual_seed(0)
    size = options.pop("input_size", 64)
    settings = factory.settings_for(("cat", "dog"), input_size=size, width=0.125, backbone=backbone, **options)
    network = factory.from_settings(settings).eval().requires_grad_(False)
    for name, value in network.state_dict().items():
        if value.is_floating_point() and "running" not in name:
            value.add_(0.05 * torch.randn(value.shape))  # biases and norms start as zeros and ones
    return network


def packed_and_plain(network: nn.Module, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    plain = network.to(dtype, memory_format=torch.channels_last)
    packed = copy.deepcopy(plain)
    prepack_(packed, dtype)
    return packed, plain


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=float(1e-5 * expected.abs().max()))


def count(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


@pytest.fixture(params=DTYPES, ids=["fp32", "bf16"])
def dtype(request):
    if not available(request.param):
        pytest.skip("PyTorch lacks the operators here")
    return request.param


KINDS = {
    "plain": {},
    "batch norm": {"backbone": "vgg11_bn"},
    "group norms": {"fc_norm": "group", "extras_norm": "group"},
    "full fc6": {"backbone": "vgg11", "atrous": False},
    "1x1 kernels, odd grids": {"backbone": "vgg16c", "input_size": 75},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("images", [1, 3])
def test_the_packed_network_computes_what_the_plain_one_does(kind, images, dtype):
    size = KINDS[kind].get("input_size", 64)
    packed, plain = packed_and_plain(small_network(**KINDS[kind]), dtype)
    batch = torch.randn(images, 3, size, size).to(dtype, memory_format=torch.channels_last)
    with torch.inference_mode():
        found, expected = packed(batch), plain(batch)
    if dtype == torch.bfloat16:
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.offsets, expected.offsets)
    else:
        assert_near(found.logits, expected.logits)
        assert_near(found.offsets, expected.offsets)


def test_every_convolution_of_vgg_extras_and_head_is_packed(dtype):
    packed, plain = packed_and_plain(small_network(), dtype)
    assert count(packed, FastConvolution) == count(packed, nn.Conv2d) == count(plain, nn.Conv2d)
    with torch.inference_mode():
        packed(torch.randn(1, 3, 64, 64).to(dtype))
    assert count(packed, nn.Conv2d) == count(packed, nn.ReLU) == 0  # the plain weights are gone
    assert count(packed, PackedConvolution) == count(plain, nn.Conv2d)
    assert count(packed, HalvingPool) == 4  # pool5 keeps its size


def test_another_backbone_stays_as_it_is_below_the_extra_layers(dtype):
    network = factory.from_settings(factory.settings_for(("cat",), input_size=64, backbone="mobilenet_v3_small"))
    packed, plain = packed_and_plain(network.eval().requires_grad_(False), dtype)
    assert count(packed.backbone, nn.Conv2d) == count(plain.backbone, nn.Conv2d)
    assert count(packed.head, FastConvolution) == count(plain.head, nn.Conv2d)
    batch = torch.randn(2, 3, 64, 64).to(dtype, memory_format=torch.channels_last)
    with torch.inference_mode():
        assert_near(packed(batch).logits, plain(batch).logits)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("shape", [(4, 6), (5, 6), (4, 7), (5, 7)])
def test_the_pool_takes_the_maximum_of_each_square(shape, ceil):
    features = torch.randn(2, 3, *shape).contiguous(memory_format=torch.channels_last)
    features[0, 0, 0, 0] = torch.nan
    found = HalvingPool(ceil=ceil)(features)
    assert torch.equal(found.nan_to_num(9), nn.MaxPool2d(2, ceil_mode=ceil)(features).nan_to_num(9))
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_computes_the_same(copied, dtype):
    packed, _ = packed_and_plain(small_network(), dtype)
    batch = torch.randn(1, 3, 64, 64).to(dtype, memory_format=torch.channels_last)
    before = copied(packed)  # no input yet
    with torch.inference_mode():
        expected = packed(batch).logits
        for one in (before, copied(packed)):
            assert torch.equal(one(batch).logits, expected)


def test_threads_that_share_a_new_network_all_get_its_results(dtype):
    packed, _ = packed_and_plain(small_network(), dtype)
    batch = torch.randn(1, 3, 64, 64).to(dtype, memory_format=torch.channels_last)

    def compute(_: int) -> torch.Tensor:
        with torch.inference_mode():
            return packed(batch).logits

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(compute, range(8)))
    assert all(torch.equal(one, found[0]) for one in found)


def test_a_runtime_on_the_cpu_is_packed_and_its_pickle_works(dtype):
    precision = "bf16" if dtype == torch.bfloat16 else "fp32"
    runtime = open_runtime(small_network(), input_size=64, device="cpu", precision=precision)
    assert count(runtime._network, FastConvolution) > 0
    batch = torch.randn(2, 3, 64, 64)
    restored = pickle.loads(pickle.dumps(runtime))
    assert torch.equal(restored.predict(batch).logits, runtime.predict(batch).logits)


@pytest.fixture
def fresh_probe():
    available.cache_clear()
    yield
    available.cache_clear()


def raises(*_: object) -> None:
    raise AttributeError("no such operator")


def wrong(features, weight, bias, padding, stride, dilation, groups, *_: object):
    return nn.functional.conv2d(features, weight.to_dense(), bias, stride, padding, dilation, groups)  # without ReLU


@pytest.mark.parametrize("operator", [raises, wrong])
def test_without_the_operators_the_network_stays_plain(operator, monkeypatch, fresh_probe):
    monkeypatch.setattr(prepacked.torch.ops.mkldnn, "_convolution_pointwise", operator)
    assert not available(torch.float32)
    runtime = open_runtime(small_network(), input_size=64, device="cpu", precision="fp32")
    assert count(runtime._network, FastConvolution) == 0
    assert runtime.predict(torch.randn(1, 3, 64, 64)).logits.isfinite().all()
