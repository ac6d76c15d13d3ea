import pytest
import torch
from torch import nn

from ssd.model.vgg import L2Norm
from ssd.training.optim import AveragedNetwork, Schedule, new_sgd, parameter_groups, set_lr


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), L2Norm(4))


def test_paper_trains_biases_at_twice_the_rate_without_decay() -> None:
    groups = parameter_groups(network(), weight_decay=5e-4, bias_lr_factor=2.0, decay_l2_scale=True)
    optimizer = torch.optim.SGD(groups, lr=0.0)
    set_lr(optimizer, 0.1)
    weights, biases, scales = optimizer.param_groups
    assert (weights["lr"], weights["weight_decay"]) == (0.1, 5e-4)
    assert (biases["lr"], biases["weight_decay"]) == (0.2, 0.0)
    assert (scales["lr"], scales["weight_decay"]) == (0.1, 5e-4)  # Caffe's default for a layer without `param`
    assert [group["weight_decay"] for group in parameter_groups(network(), weight_decay=5e-4)] == [5e-4, 0.0, 0.0]
    assert [len(g["params"]) for g in optimizer.param_groups] == [1, 1, 1]


def test_an_overflow_in_the_first_update_leaves_no_trace_in_the_momentum() -> None:
    def updated(gradients: list[float]) -> torch.Tensor:
        torch.manual_seed(0)
        layer = nn.Linear(64, 64)
        optimizer = new_sgd(parameter_groups(layer, weight_decay=5e-4))
        set_lr(optimizer, 0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
        scaler.scale(torch.ones(()))
        for gradient in gradients:
            scale = scaler.get_scale()
            for parameter in layer.parameters():
                parameter.grad = torch.full_like(parameter, gradient * scale)
            scaler.step(optimizer)
            scaler.update()
        return torch.cat([optimizer.state[each]["momentum_buffer"].flatten() for each in layer.parameters()])

    assert torch.equal(updated([float("inf")]), torch.zeros(64 * 64 + 64))
    assert torch.equal(updated([float("inf"), 0.5, 0.25]), updated([0.5, 0.25]))


def test_pretrained_layers_learn_at_their_share_of_the_rate() -> None:
    groups = parameter_groups(
        network(), weight_decay=0.1, bias_lr_factor=2.0, pretrained={"0.weight", "0.bias"}, pretrained_lr_factor=0.3
    )
    assert [(len(g["params"]), g["lr_factor"]) for g in groups] == [(1, 1.0), (1, 0.3), (1, 0.6)]


def test_a_share_of_one_changes_no_group() -> None:
    plain = parameter_groups(network(), weight_decay=0.1)
    named = parameter_groups(network(), weight_decay=0.1, pretrained={"0.weight"})
    assert [(len(g["params"]), g["lr_factor"]) for g in named] == [(len(g["params"]), g["lr_factor"]) for g in plain]


def test_frozen_parameters_are_in_no_group() -> None:
    net = network()
    net[0].requires_grad_(False)
    (scales,) = parameter_groups(net, weight_decay=0.1)
    assert len(scales["params"]) == 1


def test_the_papers_schedule_falls_tenfold_at_80k_and_100k_of_120k() -> None:
    schedule = Schedule(1e-3, total=120_000, shape=(0.6666667, 0.8333333))
    at = [schedule.at(step) for step in (0, 79_999, 80_000, 99_999, 100_000, 119_999)]
    assert at == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_warm_up_rises_linearly_and_the_cosine_ends_at_its_floor() -> None:
    schedule = Schedule(1.0, total=110, warmup=10, shape="cosine", final=0.01)
    assert [schedule.at(s) for s in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert schedule.at(10) == pytest.approx(1.0)
    assert schedule.at(60) == pytest.approx(0.505)
    assert schedule.at(110) == pytest.approx(0.01)


def test_a_short_run_warms_up_for_a_tenth_of_it() -> None:
    schedule = Schedule(1.0, total=50, warmup=500)
    assert [schedule.at(step) for step in (0, 4, 5)] == pytest.approx([0.2, 1.0, 1.0])


def test_the_average_follows_the_network_and_copies_counters() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1))
    nn.init.zeros_(net[0].weight)
    average = AveragedNetwork(net, decay=0.9)
    nn.init.ones_(net[0].weight)
    net[1].num_batches_tracked.fill_(7)
    average.update(net, steps=10_000)
    assert average.network[0].weight.item() == pytest.approx(0.1)
    assert average.network[1].num_batches_tracked == 7
    early = AveragedNetwork(nn.Sequential(nn.Conv2d(1, 1, 1)), decay=0.9)
    assert not any(p.requires_grad for p in early.network.parameters())


def test_without_averaging_the_network_itself_is_used() -> None:
    net = network()
    average = AveragedNetwork(net, decay=0.0)
    average.update(net, steps=1)
    assert average.network is net
