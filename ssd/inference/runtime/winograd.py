"""3x3 convolutions in fp32 by Winograd's method, which takes a quarter of the multiplications (Lavin and Gray 2016).

PyTorch carries NNPACK's kernels for tiles of 8x8 and calls them by itself on phones only. With AVX2, and on Zen 4, they
take half of oneDNN's time on large feature maps, though they transform the weights at each call. Rounding errors stay
small: scores of SSD300 are within 4e-6 of double precision, with oneDNN's kernels within 3e-6.

Two threads take half of the output channels each, and many images at once take a thread each. Each piece is computed
with one thread: threads of OpenMP, which wait actively for the next piece of work, would take cores from the others.
"""

import functools
import math
import threading
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssd.model.vgg import VGG
from ssd.system.cpu import vendor_and_family
from ssd.system.threads import compute_with, single_threads

# Below these oneDNN is faster; tiles of 6x6 results waste a fifth of a 38x38 map, and more than a third of a 19x19 one.
_FEWEST_CHANNELS, _SMALLEST_GRID = 64, 32
_ZEN_4 = ("AuthenticAMD", 25)  # Zen 3 is of the same family, without AVX-512
_MOST_THREADS = 2  # each transforms the whole input for its channels; more threads on an image were not measured


def pays(layer: nn.Conv2d, shape: list[int]) -> bool:
    """Whether a convolution on an input of this shape is one that the method computes, and faster."""
    fits = (layer.stride, layer.padding, layer.dilation) == ((1, 1), (1, 1), (1, 1))
    return fits and layer.groups == 1 and layer.bias is not None and large(layer.weight.shape, shape)


def large(weight: Sequence[int], features: Sequence[int]) -> bool:
    """Whether the method is faster for a convolution of these shapes: one with 3x3 kernels on many large maps."""
    return tuple(weight[2:]) == (3, 3) and min(weight[:2]) >= _FEWEST_CHANNELS and min(features[2:]) >= _SMALLEST_GRID


def suits(network: nn.Module) -> bool:
    """Whether the method makes PyTorch the fastest for many images of this network in fp32: VGG, on some CPUs."""
    return any(isinstance(module, VGG) for module in network.modules()) and faster_here()


class WinogradConvolution(nn.Module):
    """A 3x3 convolution that keeps the size, and ReLU after it if asked for.

    Where the calling thread computes with more than `_MOST_THREADS` threads, `otherwise` does it.
    """

    def __init__(self, layer: nn.Conv2d, otherwise: nn.Module, *, relu: bool) -> None:
        super().__init__()
        assert layer.bias is not None
        self._weight, self._bias, self._relu = layer.weight.detach().contiguous(), layer.bias.detach(), relu
        self.otherwise = otherwise

    def forward(self, features: Float[Tensor, "B _ h w"]) -> Float[Tensor, "B _ h w"]:
        """The convolution, image by image: NNPACK's kernel for batches is several times slower."""
        if torch.get_num_threads() > _MOST_THREADS:
            whole: Tensor = self.otherwise(features)
            return whole
        return convolve(features, self._weight, self._bias, relu=self._relu)


def convolve(
    features: Float[Tensor, "B c h w"],
    weight: Float[Tensor, "o c 3 3"],
    bias: Float[Tensor, "o"],
    *,
    relu: bool = False,
) -> Float[Tensor, "B o h w"]:
    """A 3x3 convolution with a border of zeros and stride 1, by the compute threads of the calling thread.

    It goes image by image: NNPACK's kernel for batches is several times slower. Each thread takes whole images where
    they can be shared out evenly, else part of the output channels of each.
    """
    images, threads = features.contiguous(), torch.get_num_threads()
    result = images.new_empty(len(images), len(weight), *images.shape[2:])
    part = -(-len(weight) * math.gcd(len(images), threads) // threads)
    pieces = [
        (image, slice(start, start + part)) for image in range(len(images)) for start in range(0, len(weight), part)
    ]
    each = map if threads == 1 else single_threads(threads).map
    for _ in each(functools.partial(_compute, images, weight, bias, result, relu), pieces):
        pass
    return result


@torch.inference_mode()
def _compute(
    images: Tensor, weight: Tensor, bias: Tensor, result: Tensor, relu: bool, piece: tuple[int, slice]
) -> None:
    """Some output channels of one image."""
    row, part = piece
    found = torch._nnpack_spatial_convolution(images[row : row + 1], weight[part], bias[part], [1, 1])
    if relu:
        torch.clamp_min(found[0], 0, out=result[row, part])
    else:
        result[row, part] = found[0]


def faster_here() -> bool:
    """Whether it is `available` on a CPU where oneDNN multiplies as many numbers at once as NNPACK does.

    That is 8 with AVX2, and with AVX-512 on Zen 4. Where AVX-512 multiplies 16 at once, NNPACK takes 1.8 times as long
    as oneDNN (Intel), or not less (Zen 5). The answer follows from the CPU's model: one by the clock could differ from
    run to run, and with it the last digits of scores.
    """
    capability = torch.backends.cpu.get_cpu_capability()
    narrow = capability == "AVX2" or (capability == "AVX512" and vendor_and_family() == _ZEN_4)
    return narrow and available()


@functools.cache
def available() -> bool:
    """Whether PyTorch has NNPACK here, and it computes a convolution as the plain layer does.

    The question also starts NNPACK, without which its convolutions fail. NNPACK takes as many threads as the thread has
    that computes first, and keeps to them: here one, so that several threads can compute at once.
    """
    answers: list[bool] = []

    def ask() -> None:
        compute_with(1)
        answers.append(_computes())

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join()
    return answers == [True]


@torch.inference_mode()
def _computes() -> bool:
    generator = torch.Generator().manual_seed(0)
    # The global generator belongs to the run, which a resumed one must repeat.
    with torch.random.fork_rng(devices=[]):
        layer = nn.Conv2d(64, 64, 3, padding=1)
    for tensor in layer.parameters():
        tensor.copy_(torch.randn(tensor.shape, generator=generator))
    features = torch.randn(1, 64, 32, 32, generator=generator)
    try:
        if not torch._nnpack_available():
            return False
        found, expected = WinogradConvolution(layer, layer, relu=True)(features), layer(features).relu()
    except (AttributeError, RuntimeError, TypeError):  # no such operator, or another by this name
        return False
    return bool((found - expected).abs().max() < 1e-4 * expected.abs().max())
