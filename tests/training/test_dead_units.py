"""Dead units are counted, and a hopeless start is named."""

import math

import pytest
import torch
from torch import nn

from ssd.training.dead_units import plain_guess, warn_about_start, watching


def network() -> nn.Module:
    layers = nn.Sequential()
    layers.add_module("conv1", nn.Conv2d(3, 4, 1))
    layers.add_module("relu1", nn.ReLU())
    layers.add_module("conv2", nn.Conv2d(4, 2, 1))
    nn.init.ones_(layers.conv1.weight)
    nn.init.zeros_(layers.conv1.bias)
    return layers


def test_a_channel_that_is_zero_everywhere_is_dead() -> None:
    net = network()
    with torch.no_grad():
        net.conv1.bias[1] = -100
    with watching(net, ["conv1"]) as units:
        net(torch.ones(2, 3, 5, 5))
    assert units.share == 1 / 4


def test_a_channel_that_fires_in_one_pass_of_two_is_alive() -> None:
    net = network()
    with watching(net, ["conv1"]) as units:
        net(-torch.ones(1, 3, 2, 2))
        assert units.share == 1
        net(torch.ones(1, 3, 2, 2))
    assert units.share == 0


def test_convolutions_without_a_relu_are_left_out_and_hooks_do_not_stay() -> None:
    net = network()
    with watching(net, ["conv2"]) as units:
        net(torch.ones(1, 3, 2, 2))
    assert units.share is None
    assert not net.relu1._forward_hooks


def test_a_plain_guess_of_three_classes_costs_four_logarithms() -> None:
    assert plain_guess(3, 3) == pytest.approx(4 * math.log(4))


@pytest.mark.parametrize(
    ("loss", "dead", "word"), [(44.0, 0.0, "first loss is 44"), (4.0, 0.7, "70% of the new layers"), (6.0, 0.1, None)]
)
def test_a_hopeless_start_is_named(loss: float, dead: float, word: str | None) -> None:
    said = warn_about_start(loss, dead, num_classes=3, negative_ratio=3)
    assert (said == []) if word is None else (word in said[0])
