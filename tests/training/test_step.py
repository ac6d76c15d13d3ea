"""One training step against the same step in plain PyTorch."""

import copy
import dataclasses
import sys

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ssd.experiment.start import freeze
from ssd.model import factory
from ssd.model.predictor import Predictor
from ssd.model.ssd import SSD
from ssd.multibox.default_boxes import default_boxes
from ssd.multibox.loss import LossParts, multibox_loss
from ssd.multibox.matcher import match
from ssd.settings import LossRules, Preprocessing, Settings
from ssd.structures import Targets
from ssd.training.optim import AveragedNetwork
from ssd.training.step import TrainStep, network_input
from tests.multibox.made import ALL_NEGATIVE, random_targets

SIZE = 64
SETTINGS = factory.settings_for(("a", "b"), input_size=SIZE, width=0.1)
PREPROCESSING = Preprocessing(mean=(100.0, 110.0, 120.0), std=(50.0, 51.0, 52.0))


def network(settings: Settings = SETTINGS) -> SSD:
    torch.manual_seed(0)
    return factory.from_settings(settings).to(memory_format=torch.channels_last)


def batch(seed: int = 0) -> tuple[torch.Tensor, Targets]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    return pixels, random_targets(3, 4, generator, num_classes=2)


def joined(*batches: tuple[torch.Tensor, Targets]) -> tuple[torch.Tensor, Targets]:
    """One batch of the images of several."""
    pixels, targets = zip(*batches, strict=True)
    names = ("boxes", "labels", "crowd", "valid")
    columns = ([row for each in targets for row in getattr(each, name)] for name in names)
    return torch.cat(pixels), Targets(*(pad_sequence(rows, batch_first=True) for rows in columns))


def make(net: nn.Module, *, ema: float = 0.9, compiled: bool = False, **changes: object) -> TrainStep:
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4, fused=True)
    return TrainStep(
        net,
        AveragedNetwork(net, ema),
        optimizer,
        torch.amp.GradScaler("cpu", enabled=False),
        default_boxes=default_boxes(SETTINGS.boxes),
        preprocessing=PREPROCESSING,
        compiled=compiled,
        **({"rules": ALL_NEGATIVE, "variances": SETTINGS.boxes.variances} | changes),  # type: ignore[arg-type]
    )


def gradients(step: TrainStep, images: torch.Tensor, targets: Targets, *, more: bool = False) -> LossParts:
    """Add a batch's gradients as the loop of the trainer does."""
    inputs, objects = step.to_device(images, targets)
    with step.accumulating(more):
        losses = step.loss(step.forward(inputs), objects, step.match(objects))
        step.backward(losses)
    return losses


def plain_loss(
    net: nn.Module, pixels: torch.Tensor, targets: Targets, negative_iou: float = 1.0, negative_ratio: int = 3
) -> torch.Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (PREPROCESSING.mean, PREPROCESSING.std))
    boxes = default_boxes(SETTINGS.boxes)
    rules = LossRules(negative_iou=negative_iou, negative_ratio=negative_ratio)
    predictions, matches = net((pixels.float() - mean) / std), match(boxes, targets, rules)
    return multibox_loss(predictions, targets, matches, boxes, rules, SETTINGS.boxes.variances).total


def test_boxes_that_nearly_match_are_no_negatives_of_a_step() -> None:
    net = network()
    pixels, targets = batch()
    all_of_them = 100_000
    losses = [float(plain_loss(net, pixels, targets, limit, all_of_them).detach()) for limit in (0.4, 1.0)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
    for limit, expected in zip((0.4, 1.0), losses, strict=True):
        step = make(net, rules=LossRules(negative_iou=limit, negative_ratio=all_of_them))
        parts = gradients(step, pixels, targets)
        assert float(parts.total.detach()) == pytest.approx(expected, rel=1e-5)


def test_steps_equal_those_written_out_in_plain_pytorch() -> None:
    net = network()
    twin, average = copy.deepcopy(net), copy.deepcopy(net)
    step = make(net, clip_norm=0.5, accumulate=2)
    optimizer = torch.optim.SGD(twin.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    for update in (1, 2, 3):
        for part in (0, 1):
            pixels, targets = batch(2 * update + part)
            parts = gradients(step, pixels, targets, more=part == 0)
            loss = plain_loss(twin, pixels, targets)
            assert float(parts.total.detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
        plain_loss(twin, *joined(batch(2 * update), batch(2 * update + 1))).backward()
        step.update(update)
        nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        weight = 1 - min(0.9, (1 + update) / (10 + update))
        for mine, theirs in zip(average.parameters(), twin.parameters(), strict=True):
            mine.data.lerp_(theirs.data, weight)
    for ours, theirs in ((net, twin), (step.average.network, average)):
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(parameter, theirs.get_parameter(name), rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_step_in_parts_is_the_step_of_one_batch(images: int) -> None:
    pixels, targets = batch()
    empty = dataclasses.replace(targets, valid=targets.valid & (torch.arange(3) != 1)[:, None])
    net = network()
    whole = copy.deepcopy(net)
    step, one = make(net, accumulate=4), make(whole)  # the last update of an epoch has fewer batches
    parts = [slice(start, start + images) for start in range(0, 3, images)]
    for part in parts:
        some = Targets(empty.boxes[part], empty.labels[part], empty.crowd[part], empty.valid[part])
        gradients(step, pixels[part], some, more=part != parts[-1])
    gradients(one, pixels, empty)
    for each in (step, one):
        each.update(1)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter, whole.get_parameter(name), rtol=1e-4, atol=1e-7, msg=name)


def test_heads_that_skip_cells_have_the_gradients_of_plain_convolutions() -> None:
    net = network()
    twin = copy.deepcopy(net)
    for layers in (twin.head.boxes, twin.head.classes):
        for place, layer in enumerate(layers):
            assert isinstance(layer, Predictor)
            layers[place] = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
    twin.load_state_dict(net.state_dict())
    pixels, targets = batch()
    gradients(make(net, rules=LossRules(negative_iou=1.0)), pixels, targets)
    plain_loss(twin, pixels, targets).backward()
    for name, parameter in net.named_parameters():
        expected = twin.get_parameter(name).grad
        # Elements near 0 are sums of large numbers: their rounding follows the largest gradient.
        atol = 2e-6 * float(expected.abs().max())
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=atol, msg=name)


def test_low_precision_is_for_layers_alone() -> None:
    net = network()
    step = make(net, dtype=torch.bfloat16)
    parts = gradients(step, *batch())
    exact = plain_loss(net, *batch())
    assert parts.total.dtype == torch.float32
    assert float(parts.total.detach()) == pytest.approx(float(exact.detach()), rel=0.03)
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())


def test_images_reach_the_network_normalised_and_channels_last() -> None:
    pixels, _ = batch()
    images = network_input(pixels, torch.device("cpu"), PREPROCESSING)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images[1, 2, 3, 4] == pytest.approx((float(pixels[1, 2, 3, 4]) - 120) / 52)


def test_without_an_update_nothing_moves() -> None:
    net = network()
    before = copy.deepcopy(net.state_dict())
    gradients(make(net), *batch())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_frozen_stage_keeps_the_statistics_of_its_batch_norms() -> None:
    net = network(factory.settings_for(("a", "b"), input_size=SIZE, width=0.1, backbone="vgg11_bn"))
    freeze(net, 2)
    before = copy.deepcopy(net.state_dict())
    step = make(net)
    for update in (1, 2):
        step.train()  # as at the start of each epoch
        gradients(step, *batch(update))
        step.update(update)
    changed = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    statistics = {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    frozen = {name for name in statistics if name.startswith(("backbone.norm1_", "backbone.norm2_"))}
    assert len(frozen) == 6
    assert statistics - changed == frozen


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="asks for a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # torch.compile warns of much that is its own affair
def test_a_compiled_step_is_the_same_step() -> None:
    net = network()
    twin = copy.deepcopy(net)
    compiled, plain = make(net, compiled=True), make(twin)
    for update in (1, 2):
        losses = []
        for step in (compiled, plain):
            parts = gradients(step, *batch(update))
            step.update(update)
            losses.append(float(parts.total.detach()))
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter, twin.get_parameter(name), rtol=1e-3, atol=1e-5, msg=name)
