import copy
import pickle
import threading

import pytest
import torch
from torch import nn

from ssd.inference.runtime import winograd
from ssd.inference.runtime.open import choose_backend, open_runtime
from ssd.inference.runtime.winograd import WinogradConvolution, available, faster_here, pays
from ssd.model import factory
from ssd.system.threads import map_at_once

DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
needs_nnpack = pytest.mark.skipif(not available(), reason="PyTorch has no NNPACK here")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)


def layer(inputs: int = 64, outputs: int = 64, **options) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(inputs, outputs, **{"kernel_size": 3, "padding": 1} | options).requires_grad_(False)


@needs_nnpack
@pytest.mark.parametrize("shape", [(1, 64, 32, 32), (3, 64, 38, 35)])
@pytest.mark.parametrize("relu", [False, True])
def test_the_convolution_is_the_plain_one(shape, relu):
    plain, features = layer(outputs=80), torch.randn(shape).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = plain(features).relu() if relu else plain(features)
        found = WinogradConvolution(plain, plain, relu=relu)(features)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


@needs_nnpack
def test_an_image_of_a_batch_gets_the_bits_it_gets_alone():
    fast, features = WinogradConvolution(layer(), layer(), relu=True), torch.randn(3, 64, 32, 32)
    assert torch.equal(fast(features)[1:2], fast(features[1:2]))


def test_it_pays_for_large_maps_of_many_channels_alone():
    assert pays(layer(), [1, 64, 38, 38])
    assert not pays(layer(), [1, 64, 19, 19])
    assert not pays(layer(3), [1, 3, 300, 300])
    for options in ({"stride": 2}, {"padding": 6, "dilation": 6}, {"kernel_size": 1, "padding": 0}, {"bias": False}):
        assert not pays(layer(**options), [1, 64, 38, 38])


def network() -> nn.Module:
    torch.manual_seed(0)
    settings = factory.settings_for(("cat",), input_size=128, backbone="vgg11", width=0.5)
    return factory.from_settings(settings).eval().requires_grad_(False)


def count(runtime) -> int:
    return sum(isinstance(module, WinogradConvolution) for module in runtime._network.modules())


@needs_nnpack
def test_a_runtime_in_fp32_uses_it_and_scores_stay_within_1e_4(monkeypatch):
    monkeypatch.setattr(winograd, "faster_here", lambda: True)
    plain, images = network(), torch.randn(2, 3, 128, 128)
    runtime = open_runtime(plain, input_size=128, device="cpu", precision="fp32")
    runtime.predict(images)
    assert count(runtime) == 2  # conv3_1 and conv3_2; conv2_1 has 32 inputs, conv4_1 a grid of 16
    with torch.inference_mode():
        expected = plain(images)
    for each in (runtime, copy.deepcopy(runtime), pickle.loads(pickle.dumps(runtime))):
        found = each.predict(images)
        assert (found.logits.softmax(-1) - expected.logits.softmax(-1)).abs().max() < 1e-4
        torch.testing.assert_close(found.offsets, expected.offsets, rtol=1e-4, atol=1e-4)


@pytest.fixture
def threads(monkeypatch):
    monkeypatch.undo()
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@needs_nnpack
@pytest.mark.parametrize("images", [1, 2, 3])
def test_two_threads_divide_channels_or_images_and_give_the_bits_of_one(images, threads):
    features, fast = torch.randn(images, 64, 38, 35), WinogradConvolution(layer(outputs=81), nn.Identity(), relu=True)
    threads(1)
    expected = fast(features)
    threads(2)
    assert torch.equal(fast(features), expected)
    for found in map_at_once(fast, [features, features], threads=2):  # each thread has one
        assert torch.equal(found, expected)


@needs_nnpack
def test_more_threads_on_one_image_take_the_other_layer(threads):
    threads(3)
    features = torch.randn(1, 64, 32, 32)
    assert WinogradConvolution(layer(), nn.Identity(), relu=False)(features) is features


@needs_nnpack
def test_threads_that_share_a_layer_get_their_own_results():
    fast, images = WinogradConvolution(layer(), layer(), relu=False), [torch.randn(1, 64, 40, 40) for _ in range(6)]
    expected, found = [fast(image) for image in images], {}

    def work(number: int) -> None:
        for _ in range(5):
            found[number] = fast(images[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[number], expected[number]) for number in range(6))


def test_auto_takes_pytorch_for_vgg_in_fp32_where_winograds_method_is_faster(monkeypatch):
    monkeypatch.delenv("SSD_BACKEND")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    large = factory.from_settings(factory.settings_for(("cat",), input_size=64, backbone="vgg11", width=0.7))
    for faster, precision, expected in (
        (True, "fp32", "torch"),
        (False, "fp32", "openvino"),
        (True, "bf16", "openvino"),
    ):
        monkeypatch.setattr(winograd, "faster_here", lambda faster=faster: faster)
        monkeypatch.setattr("ssd.inference.runtime.open.choose_dtype", lambda name, _: getattr(torch, DTYPES[name]))
        assert choose_backend(large, device="cpu", precision=precision) == expected


@pytest.mark.parametrize(
    ("capability", "cpu", "faster"),
    [
        ("AVX2", ("GenuineIntel", 6), True),
        ("AVX512", ("AuthenticAMD", 25), True),
        ("AVX512", ("AuthenticAMD", 26), False),
        ("AVX512", ("GenuineIntel", 6), False),
        ("DEFAULT", ("", 0), False),
    ],
)
def test_it_is_used_where_avx_512_is_not_twice_as_wide(capability, cpu, faster, monkeypatch):
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    monkeypatch.setattr(winograd, "vendor_and_family", lambda: cpu)
    for nnpack in (True, False):
        monkeypatch.setattr(winograd, "available", lambda nnpack=nnpack: nnpack)
        assert faster_here() is (faster and nnpack)


def test_where_it_is_not_faster_the_layers_are_packed(monkeypatch):
    monkeypatch.setattr(winograd, "faster_here", lambda: False)
    runtime = open_runtime(network(), input_size=128, device="cpu", precision="fp32")
    runtime.predict(torch.randn(1, 3, 128, 128))
    assert count(runtime) == 0


def test_without_nnpack_it_is_not_available(monkeypatch):
    available.cache_clear()
    monkeypatch.setattr(torch, "_nnpack_available", lambda: False)
    assert not available()
    available.cache_clear()


def test_the_probe_draws_no_number_of_the_training_run() -> None:
    """A resumed run would otherwise go on with another random state than the uninterrupted one."""
    available.cache_clear()
    before = torch.get_rng_state()
    available()
    assert torch.equal(torch.get_rng_state(), before)
