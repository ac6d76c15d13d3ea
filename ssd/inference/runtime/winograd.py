"""3x3 convolutions in fp32 by Winograd's method, which takes a quarter of the multiplications (Lavin and Gray 2016).

PyTorch carries NNPACK's kernels for tiles of 8x8 and calls them by itself on phones only. On a CPU with AVX-512 they
take half of oneDNN's time on large feature maps, though they transform the weights at each call. Rounding errors stay
small: scores of SSD300 are within 4e-6 of double precision, with oneDNN's kernels within 3e-6.

Two threads take half of the output channels each, and many images at once take a thread each. Each piece is computed
with one thread: threads of OpenMP, which wait actively for the next piece of work, would take cores from the others.
"""

import functools
import threading

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssd.model.vgg import VGG
from ssd.system.threads import compute_with, single_threads

# Below these oneDNN is faster; tiles of 6x6 results waste a fifth of a 38x38 map, and more than a third of a 19x19 one.
_FEWEST_CHANNELS, _SMALLEST_GRID = 64, 32
_MOST_THREADS = 2  # each transforms the whole input for its channels; more threads on an image were not measured


def pays(layer: nn.Conv2d, shape: list[int]) -> bool:
    """Whether a convolution on an input of this shape is one that the method computes, and faster."""
    fits = (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (1, 1), (1, 1))
    whole = layer.dilation == (1, 1) and layer.groups == 1 and layer.bias is not None
    large = min(layer.in_channels, layer.out_channels) >= _FEWEST_CHANNELS and min(shape[2:]) >= _SMALLEST_GRID
    return fits and whole and large


def suits(network: nn.Module) -> bool:
    """Whether the method makes PyTorch the fastest for many images of this network in fp32: VGG, with NNPACK."""
    return any(isinstance(module, VGG) for module in network.modules()) and available()


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
        threads = torch.get_num_threads()
        if threads > _MOST_THREADS:
            whole: Tensor = self.otherwise(features)
            return whole
        images = features.contiguous()
        count, channels = len(images), len(self._weight)
        result = images.new_empty(count, channels, *images.shape[2:])
        part = -(-channels // threads) if count % threads else channels
        pieces = [(row, slice(start, start + part)) for row in range(count) for start in range(0, channels, part)]
        each = map if threads == 1 else single_threads(threads).map
        for _ in each(functools.partial(self._compute, images, result), pieces):
            pass
        return result

    @torch.inference_mode()
    def _compute(self, images: Tensor, result: Tensor, piece: tuple[int, slice]) -> None:
        """Some output channels of one image."""
        row, part = piece
        found = torch._nnpack_spatial_convolution(images[row : row + 1], self._weight[part], self._bias[part], [1, 1])
        if self._relu:
            torch.clamp_min(found[0], 0, out=result[row, part])
        else:
            result[row, part] = found[0]


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
    # Without numbers at first: the global generator belongs to the run, which a resumed one must repeat.
    layer = nn.Conv2d(64, 64, 3, padding=1, device="meta").to_empty(device="cpu")
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
