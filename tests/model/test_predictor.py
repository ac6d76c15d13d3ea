"""The predicting convolution against `nn.Conv2d`, whose gradients it has for fewer products."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ssd.model import predictor
from ssd.model.predictor import Predictor

IMAGES, CHANNELS, OUTPUTS, SIDE = 2, 5, 6, 7
CORNERS = [(0, 0, 0), (0, 6, 6), (1, 0, 6)]
NEIGHBOURS = [(0, 3, 3), (0, 3, 4), (0, 4, 3)]
EVERYWHERE = [(image, row, column) for image in (0, 1) for row in range(SIDE) for column in range(SIDE)]


def made(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Predictor, nn.Conv2d]:
    """Features, a predictor and a plain layer with its weights."""
    torch.manual_seed(0)
    features = torch.randn(IMAGES, CHANNELS, SIDE, SIDE, dtype=dtype).to(memory_format=torch.channels_last)
    layer = Predictor(CHANNELS, OUTPUTS).to(dtype).to(memory_format=torch.channels_last)
    plain = nn.Conv2d(CHANNELS, OUTPUTS, 3, padding=1).to(dtype)
    plain.load_state_dict(layer.state_dict())
    return features, layer, plain


def with_gradient(cells: list[tuple[int, int, int]], dtype: torch.dtype = torch.float64) -> Tensor:
    """A gradient of the output that is zero but in these cells (image, row, column), as negative mining leaves it."""
    chosen = torch.zeros(IMAGES, 1, SIDE, SIDE, dtype=dtype)
    for image, row, column in cells:
        chosen[image, 0, row, column] = 1
    return torch.randn(IMAGES, OUTPUTS, SIDE, SIDE, dtype=dtype) * chosen


def gradients(layer: nn.Module, features: Tensor, gradient: Tensor) -> list[Tensor]:
    """Of the features, the weight and the bias."""
    features = features.clone(memory_format=torch.preserve_format).requires_grad_()
    return list(torch.autograd.grad(layer(features), [features, *layer.parameters()], gradient))


@pytest.mark.parametrize("cells", [[], CORNERS, NEIGHBOURS, EVERYWHERE[:24], EVERYWHERE[:25], EVERYWHERE])
def test_gradients_are_those_of_the_plain_layer(cells: list[tuple[int, int, int]]) -> None:
    features, layer, plain = made()
    gradient = with_gradient(cells)
    for mine, expected in zip(gradients(layer, features, gradient), gradients(plain, features, gradient), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-12)


def test_bf16_is_rounded_a_few_times_and_not_for_every_sum() -> None:
    features, layer, _ = made(torch.bfloat16)
    gradient = with_gradient(EVERYWHERE[:24], torch.bfloat16)
    exact = gradients(copy.deepcopy(layer).double(), features.double(), gradient.double())
    for mine, expected in zip(gradients(layer, features, gradient), exact, strict=True):
        assert mine.dtype == torch.bfloat16
        assert float((mine - expected).abs().max()) < 2**-7 * float(expected.abs().max())


def test_the_output_is_bit_for_bit_that_of_the_plain_layer() -> None:
    features, layer, plain = made(torch.float32)
    assert torch.equal(layer(features), plain(features))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(features).dtype == torch.bfloat16
        assert torch.equal(layer(features), plain(features))


def test_weights_stay_fp32_under_autocast() -> None:
    features, layer, _ = made(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(features)
    output.backward(with_gradient(CORNERS, torch.bfloat16))
    assert {parameter.grad.dtype for parameter in layer.parameters() if parameter.grad is not None} == {torch.float32}


def test_products_are_counted_for_the_cells_with_a_gradient_alone() -> None:
    features, layer, _ = made()
    with FlopCounterMode(display=False) as counter:
        layer(features.requires_grad_()).backward(with_gradient(CORNERS))
    forward = 2 * len(EVERYWHERE) * 9 * CHANNELS * OUTPUTS
    backward = 2 * (2 * len(CORNERS) * 9 * CHANNELS * OUTPUTS)  # of the weight and of the features
    assert counter.get_total_flops() == forward + backward


def test_features_without_a_gradient_cost_no_product() -> None:
    features, layer, _ = made()
    for cells in (CORNERS, EVERYWHERE):
        with FlopCounterMode(display=False) as counter:
            layer(features).backward(with_gradient(cells))
        assert features.grad is None
        assert counter.get_total_flops() == 2 * (len(EVERYWHERE) + len(cells)) * 9 * CHANNELS * OUTPUTS


def test_a_gradient_that_is_no_number_is_not_taken_for_none() -> None:
    features, layer, _ = made()
    gradient = with_gradient(CORNERS)
    gradient[0, 2, 3, 3] = torch.nan
    by_features, by_weight, by_bias = gradients(layer, features, gradient)
    assert by_features[0, :, 2:5, 2:5].isnan().all()
    assert by_weight[2].isnan().all()
    assert by_bias[2].isnan()


def test_the_same_batch_gives_the_same_bits() -> None:
    features, layer, _ = made(torch.float32)
    gradient = with_gradient(NEIGHBOURS, torch.float32)
    first, second = (gradients(layer, features, gradient) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def _evaluation(layer: Predictor, _: pytest.MonkeyPatch) -> None:
    layer.eval()


def _other_device(_: Predictor, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(predictor, "on_cpu", lambda tensor: False)


def _compiling(_: Predictor, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.compiler, "is_compiling", lambda: True)


@pytest.mark.parametrize("change", [_evaluation, _other_device, _compiling])
def test_elsewhere_it_is_the_plain_layer(
    change: Callable[[Predictor, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    features, layer, plain = made()
    assert layer(features).grad_fn.name() != plain(features).grad_fn.name()  # type: ignore[union-attr]
    change(layer, monkeypatch)
    assert layer(features).grad_fn.name() == plain(features).grad_fn.name()  # type: ignore[union-attr]
