"""Initialisation of new layers: as in Caffe, and optionally scaled on real images so that no unit is dead.

Without ImageNet weights for conv6 and conv7, the new layers receive the un-normalised activations of conv5_3
(hundreds), the first loss is in the tens, and units die in the first steps. `fit_to_data_` sets their scale.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

# A level of one cell has 8 values per channel in a batch of 8 images: too few for statistics of each channel.
_ENOUGH = 64
# Logits and offsets start small, because confident wrong predictions have a high loss.
_HEAD_SPREAD = 0.1


def caffe_(module: nn.Module) -> None:
    """Caffe's `xavier` filler: uniform within sqrt(3 / fan_in), biases zero (filler.hpp; PyTorch's Xavier differs)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            bound = math.sqrt(3 / layer.weight[0].numel())
            nn.init.uniform_(layer.weight, -bound, bound)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def fit_to_data_(
    network: nn.Module, images: Float[Tensor, "B 3 S S"], fresh: Iterable[str], head: str = "head"
) -> None:
    """Scale and shift the `fresh` convolutions, in order, so that each channel's output is zero-mean and unit-variance.

    One forward pass: each layer is corrected before the next one sees its output. Layers under `head` are only scaled,
    to a spread of 0.1. After Kraehenbuehl et al., "Data-dependent initializations of CNNs", ICLR 2016, equation 4.

    `fresh` names the convolutions without pretrained weights. BatchNorm layers behind them are skipped meanwhile; a new
    one behind a pretrained convolution starts with the mean and the variance of these images.
    """
    modules = dict(network.named_modules())
    fresh = tuple(fresh)
    hooks = [layer.register_forward_pre_hook(_set_statistics) for layer in _new_norms(modules, fresh)]
    for name in fresh:
        layer = modules[name]
        assert isinstance(layer, nn.Conv2d), name
        # The depthwise convolution of an SSDLite head is a layer before the one that predicts.
        hook = _scale_head if name.startswith(f"{head}.") and layer.groups == 1 else _standardise
        hooks.append(layer.register_forward_hook(hook))
    training = network.training
    network.eval()
    try:
        network(images)
    finally:
        for handle in hooks:
            handle.remove()
        network.train(training)


def _new_norms(modules: Mapping[str, nn.Module], fresh: Collection[str]) -> Iterator[nn.Module]:
    """Yield the untrained BatchNorms, such as `norm6`, behind pretrained convolutions, such as `conv6`."""
    for name, layer in modules.items():
        conv = name.replace("norm", "conv")
        behind_pretrained = isinstance(layer, nn.BatchNorm2d) and conv in modules and conv not in fresh
        if behind_pretrained and not layer.get_buffer("running_mean").any():
            yield layer


def _set_statistics(layer: nn.Module, inputs: tuple[Tensor]) -> None:
    values = inputs[0].transpose(0, 1).flatten(1)
    layer.get_buffer("running_mean").copy_(values.mean(1))
    layer.get_buffer("running_var").copy_(values.var(1))


def _standardise(layer: nn.Module, _: object, output: Tensor) -> Tensor:
    assert isinstance(layer, nn.Conv2d)
    values = output.transpose(0, 1).flatten(1)
    if values.shape[1] >= _ENOUGH:
        mean, spread = values.mean(1), values.std(1)
        spread = spread.clamp(min=float(spread.mean()) * 0.1 + 1e-8)
    else:
        mean, spread = values.new_zeros(len(values)), values.std().clamp(min=1e-8).expand(len(values))
    layer.weight /= spread[:, None, None, None]
    if layer.bias is not None:
        layer.bias.copy_((layer.bias - mean) / spread)
    return (output - mean[:, None, None]) / spread[:, None, None]


def _scale_head(layer: nn.Module, _: object, output: Tensor) -> Tensor:
    assert isinstance(layer, nn.Conv2d)
    factor = _HEAD_SPREAD / output.std().clamp(min=1e-8)
    layer.weight *= factor
    return output * factor
