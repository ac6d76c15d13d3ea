"""Nothing in a training step, and nothing before suppression, may wait for the GPU. Proven on machines without one."""

from contextlib import contextmanager

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssd.multibox.candidates import best_candidates
from ssd.multibox.loss import multibox_loss
from ssd.multibox.matcher import match
from ssd.multibox.postprocess import postprocess, postprocess_without_waiting
from ssd.settings import LossRules, Postprocessing
from ssd.structures import Predictions, Targets
from tests.multibox.made import RULES, VARIANCES, random_boxes, random_predictions, random_targets

aten = torch.ops.aten

# What needs the numbers, not just the shapes, of a tensor on the host.
WAITING = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
}


class NoWaiting(TorchDispatchMode):
    """Refuse operations that copy between host and device or make the host wait for a number."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_device = any(tensor.device.type == "cuda" for tensor in tensors)
        if on_device:
            assert func not in WAITING, f"{func} waits for the device"
            # Numbers without dimensions travel as launch arguments; everything else is a copy that waits.
            hosts = [tensor for tensor in tensors if tensor.device.type == "cpu" and tensor.dim() > 0]
            assert not hosts, f"{func} mixes host and device"
            if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
                masks = [index for index in args[1] if index is not None and index.dtype in (torch.bool, torch.uint8)]
                assert not masks, f"{func} with a mask waits for the device"
        out = func(*args, **kwargs)
        if on_device and any(leaf.device.type == "cpu" for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)):
            raise AssertionError(f"{func} copies to the host")
        return out


@contextmanager
def pretended_gpu(shape_env=None):
    with FakeTensorMode(shape_env=shape_env), NoWaiting():
        yield


def empty(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device="cuda")


def pretended_batch(images, objects, boxes, classes, dtype=torch.float32, *, masked=False):
    targets = Targets(
        boxes=empty(images, objects, 4),
        labels=empty(images, objects, dtype=torch.long),
        crowd=empty(images, objects, dtype=torch.bool),
        valid=empty(images, objects, dtype=torch.bool),
        complete=empty(images, classes, dtype=torch.bool) if masked else None,
    )
    predictions = Predictions(empty(images, boxes, 4, dtype=dtype), empty(images, boxes, classes, dtype=dtype))
    return predictions, targets, empty(boxes, 4)


shape_envs = pytest.mark.parametrize("shape_env", [None, ShapeEnv()], ids=["static", "symbolic"])


@shape_envs
@pytest.mark.parametrize("objects", [0, 1, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
def test_matching_and_loss_never_wait_for_the_device(shape_env, objects, dtype, masked):
    with pretended_gpu(shape_env):
        predictions, targets, default_boxes = pretended_batch(3, objects, 50, 7, dtype, masked=masked)
        predictions.offsets.requires_grad_()
        predictions.logits.requires_grad_()
        rules = LossRules(label_smoothing=0.1)
        matches = match(default_boxes, targets, rules)
        parts = multibox_loss(predictions, targets, matches, default_boxes, rules, VARIANCES)
        assert matches.object_index.shape == (3, 50)
        assert {parts.total.device.type, matches.missed_best_box.device.type} == {"cuda"}
        assert parts.total.dtype == torch.float32
        assert parts.total.requires_grad  # backward itself asks for a real device


@shape_envs
def test_more_objects_than_default_boxes_need_no_waiting_either(shape_env):
    with pretended_gpu(shape_env):
        _, targets, default_boxes = pretended_batch(2, 9, 4, 3)
        assert match(default_boxes, targets, LossRules()).ignored.shape == (2, 4)


@shape_envs
@pytest.mark.parametrize("limit", [20, 1000])
def test_candidates_have_a_shape_known_before_the_scores(shape_env, limit):
    with pretended_gpu(shape_env):
        predictions, _, default_boxes = pretended_batch(3, 1, 50, 7)
        scores = predictions.logits.softmax(dim=-1)[..., 1:]
        best = best_candidates(scores, predictions.offsets, default_boxes, Postprocessing(top_k=10), VARIANCES, limit)
        assert best.boxes.shape == (3, min(limit, 300), 4)
        assert best.accepted.device.type == "cuda"


@shape_envs
@pytest.mark.parametrize("box_voting", [0.0, 0.05])
@pytest.mark.parametrize("clip", ["before", "after"])
def test_detections_have_a_shape_known_before_the_scores(shape_env, box_voting, clip):
    with pretended_gpu(shape_env):
        predictions, _, default_boxes = pretended_batch(3, 1, 500, 7, torch.bfloat16)
        rules = Postprocessing(box_voting=box_voting, clip=clip, max_detections=30)
        found, unfinished = postprocess_without_waiting(predictions, default_boxes, rules, VARIANCES)
        assert found.boxes.shape == (3, 30, 4)
        assert {found.boxes.device.type, found.counts.device.type, unfinished.device.type} == {"cuda"}
        assert unfinished.shape == (3,)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda on_gpu: on_gpu[torch.tensor([0, 1])],
        lambda on_gpu: on_gpu[on_gpu > 0],
        lambda on_gpu: on_gpu.sum().item(),
        lambda on_gpu: on_gpu.nonzero(),
        lambda on_gpu: on_gpu + torch.ones(5),
        lambda on_gpu: on_gpu.cpu(),
    ],
    ids=["host index", "mask", "item", "nonzero", "host operand", "copy"],
)
def test_the_guard_of_these_tests_sees_what_waits(mistake):
    with pretended_gpu(ShapeEnv()):
        on_gpu = empty(5)
        with pytest.raises((AssertionError, RuntimeError)):
            mistake(on_gpu)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestOnARealGPU:
    @pytest.mark.parametrize("grid", [None, 3])
    def test_matches_equal_those_of_the_cpu(self, grid):
        generator = torch.Generator().manual_seed(0)
        default_boxes, targets = random_boxes(200, generator, grid), random_targets(8, 12, generator, grid=grid)
        ours = match(default_boxes.cuda(), targets.to("cuda"), LossRules())
        theirs = match(default_boxes, targets, LossRules())
        assert ours.object_index.tolist() == theirs.object_index.tolist()
        assert ours.ignored.tolist() == theirs.ignored.tolist()
        assert ours.missed_best_box.item() == theirs.missed_best_box.item()

    def test_losses_and_gradients_equal_those_of_the_cpu(self):
        generator = torch.Generator().manual_seed(0)
        default_boxes, targets = random_boxes(500, generator), random_targets(4, 6, generator)
        host = random_predictions(4, 500, 6, generator)
        sides = {}
        for device in ("cpu", "cuda"):
            predictions = Predictions(
                host.offsets.detach().to(device).requires_grad_(), host.logits.detach().to(device).requires_grad_()
            )
            boxes, there = default_boxes.to(device), targets.to(device)
            parts = multibox_loss(predictions, there, match(boxes, there, LossRules()), boxes, LossRules(), VARIANCES)
            parts.total.backward()
            sides[device] = [parts.box, parts.confidence, predictions.offsets.grad, predictions.logits.grad]
        for cpu, cuda in zip(sides["cpu"], sides["cuda"], strict=True):
            torch.testing.assert_close(cuda.cpu(), cpu, atol=1e-5, rtol=1e-4)

    def test_detections_equal_those_of_the_cpu(self):
        generator = torch.Generator().manual_seed(0)
        default_boxes, predictions = random_boxes(500, generator), random_predictions(5, 500, 21, generator)
        on_gpu = Predictions(predictions.offsets.cuda(), predictions.logits.cuda())
        ours = postprocess(on_gpu, default_boxes.cuda(), RULES, VARIANCES)
        theirs = postprocess(predictions, default_boxes, RULES, VARIANCES)
        assert ours.counts.tolist() == theirs.counts.tolist()
        torch.testing.assert_close(ours.scores.cpu(), theirs.scores)
        torch.testing.assert_close(ours.boxes.cpu(), theirs.boxes, atol=1e-5, rtol=1e-5)
