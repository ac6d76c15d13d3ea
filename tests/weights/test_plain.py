"""sgrvinod, qfgaohao, mmdetection, chainercv, Caffe: from an image to boxes and scores, the same here as there."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ssd.errors import CheckpointError
from ssd.inference.detector import Detector
from ssd.inference.pipelines import NetworkPipeline
from ssd.model.factory import from_settings
from ssd.multibox.coder import decode
from ssd.multibox.default_boxes import boxes_per_cell, default_boxes
from ssd.settings import Settings
from ssd.weights.ports.class_names import COCO, VOC
from ssd.weights.ports.layout import ConvertedCheckpoint
from ssd.weights.ports.registry import convert_checkpoint
from tests.weights import plain


def picture() -> np.ndarray:
    """Coarse noise in colour: every rule of resizing makes something else of it."""
    coarse = np.random.default_rng(3).integers(0, 256, (67, 80, 3), np.uint8)
    return coarse.repeat(7, axis=0).repeat(9, axis=1)


def ours_say(foreign: ConvertedCheckpoint, image: np.ndarray) -> tuple[Tensor, Tensor]:
    network = from_settings(foreign.settings)
    network.load_state_dict(foreign.state_dict)
    detector = Detector(NetworkPipeline(network, foreign.settings, device="cpu", precision="fp32", backend="torch"))
    predictions = detector.predict(detector.preprocess([image]))
    boxes = decode(predictions.offsets[0], detector.default_boxes, foreign.settings.boxes.variances)
    return boxes, predictions.logits[0].softmax(1)[:, 1:]


def assert_they_agree(
    foreign: ConvertedCheckpoint, theirs: tuple[Tensor, Tensor], priors: Tensor | None = None
) -> None:
    """`priors`, centre form: theirs, where the order inside a cell is another."""
    boxes, scores = ours_say(foreign, picture())
    their_boxes, their_scores = theirs
    if priors is not None:
        order = order_in_cells(foreign.settings, priors)
        their_boxes, their_scores = their_boxes[order], their_scores[order]
    assert scores.std() > 1e-3, "the comparison would be empty"
    moved = (boxes - default_boxes(foreign.settings.boxes)).abs().max()
    assert moved > 0.01, "offsets would not count"
    assert (boxes - their_boxes).abs().max() * foreign.settings.network.input_size < 0.02  # pixels
    torch.testing.assert_close(scores, their_scores, rtol=1e-3, atol=1e-5)


def order_in_cells(settings: Settings, priors: Tensor) -> Tensor:
    """Which of their boxes each of ours is: the nearest of its cell."""
    ours = default_boxes(settings.boxes)
    theirs = torch.cat([priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2], dim=1)
    order, start = [], 0
    for grid, count in zip(settings.boxes.grids, boxes_per_cell(settings.boxes), strict=True):
        for cell in range(start, start + grid * grid * count, count):
            here = slice(cell, cell + count)
            nearest = (ours[here, None] - theirs[None, here]).abs().sum(2).argmin(1)
            assert sorted(nearest.tolist()) == list(range(count))
            order.append(nearest + cell)
        start += grid * grid * count
    return torch.cat(order)


def test_sgrvinod_says_the_same_here():
    state = plain.sgrvinod()
    foreign = convert_checkpoint(state, "x.pth")
    assert foreign.format == "sgrvinod's tutorial"
    assert foreign.settings.class_names == VOC
    assert_they_agree(foreign, plain.sgrvinod_says(state, picture()), plain.sgrvinod_priors())


def test_sgrvinods_boxes_are_its_own_but_for_a_third_that_it_rounds():
    boxes = default_boxes(convert_checkpoint(plain.sgrvinod(), "x").settings.boxes)
    cxcywh = plain.sgrvinod_priors()
    theirs = plain.corners(torch.zeros(8732, 4), cxcywh)[
        order_in_cells(convert_checkpoint(plain.sgrvinod(), "x").settings, cxcywh)
    ]
    assert ((boxes - theirs).abs().max(dim=1).values > 1e-6).sum() == 19**2 + 10**2 + 5**2
    assert (boxes - theirs).abs().max() < 3e-4


def test_qfgaohao_says_the_same_here_with_batch_norm_at_conv4_3():
    state = plain.qfgaohao()
    foreign = convert_checkpoint(state, "vgg16-ssd.pth")
    assert foreign.format == "qfgaohao/pytorch-ssd"
    assert foreign.settings.network.first_level_norm == "batch"
    assert foreign.state_dict["first_norm.num_batches_tracked"] == 1234
    assert_they_agree(foreign, plain.qfgaohao_says(state, picture()))


@pytest.mark.slow
def test_qfgaohaos_other_version_has_an_l2_normalisation_there():
    state = plain.qfgaohao(4, l2=True)
    foreign = convert_checkpoint(state, "x.pth", ("a", "b", "c"))
    assert foreign.settings.network.first_level_norm == "l2"
    assert foreign.settings.boxes.min_sizes[0] == 30  # VOC's, whatever it was trained on
    assert_they_agree(foreign, plain.qfgaohao_says(state, picture(), 4))


def test_mmdetection_300_says_the_same_here():
    state = plain.mmdetection()
    foreign = convert_checkpoint(state, "ssd300_coco.pth")
    assert foreign.format == "mmdetection SSD"
    assert foreign.settings.class_names == COCO
    assert foreign.settings.postprocessing.clip == "before"
    assert_they_agree(foreign, plain.mmdetection_says(state, picture()))


def test_mmdetection_before_2_14_has_other_keys_for_the_same_thing():
    new, old = convert_checkpoint(plain.mmdetection(), "x"), convert_checkpoint(plain.mmdetection(old=True), "x")
    assert new.settings == old.settings
    assert all(torch.equal(new.state_dict[name], old.state_dict[name]) for name in new.state_dict)


CONFIG = "model = dict(bbox_head=dict(anchor_generator=dict(basesize_ratio_range=({}, 0.9))))"


@pytest.mark.parametrize(("ratio", "size", "smallest"), [("0.15", 300, 21), ("0.2", 300, 30), ("0.15", 512, 35)])
def test_mmdetections_configuration_tells_the_boxes_and_the_classes(ratio, size, smallest):
    meta = {"mmdet_version": "2.28.1", "config": CONFIG.format(ratio), "CLASSES": ("cat", "dog", "owl")}
    foreign = convert_checkpoint(plain.mmdetection(4, size), "x.pth", notes={"meta": meta})
    assert foreign.settings.boxes.min_sizes[0] == smallest
    assert foreign.settings.class_names == ("cat", "dog", "owl")
    three = {"mmdet_version": "3.3.0", "cfg": CONFIG.format(ratio), "dataset_meta": {"classes": ["cat", "dog", "owl"]}}
    assert convert_checkpoint(plain.mmdetection(4, size), "x.pth", notes={"meta": three}).settings == foreign.settings
    named = convert_checkpoint(plain.mmdetection(4, size), "x.pth", ("a", "b", "c"), notes={"meta": meta})
    assert named.settings.class_names == ("a", "b", "c")


def test_the_last_of_several_configurations_of_mmdetection_counts():
    meta = {"mmdet_version": "2.28.1", "config": f"{CONFIG.format('0.2')}\n{CONFIG.format('0.15')}"}
    settings = convert_checkpoint(plain.mmdetection(4), "x.pth", notes={"meta": meta}).settings
    assert settings.boxes.min_sizes[0] == 21
    assert (settings.postprocessing.score_threshold, settings.postprocessing.top_k) == (0.02, 1000)


def test_mmdetection_1_counts_otherwise_and_is_refused():
    with pytest.raises(CheckpointError, match=r"x\.pth: was made by mmdetection 1\.2\.0.*upgrade_model_version"):
        convert_checkpoint(plain.mmdetection(old=True), "x.pth", notes={"meta": {"mmdet_version": "1.2.0"}})


def test_mmdetection_with_other_classes_and_no_configuration_asks_which_boxes():
    with pytest.raises(CheckpointError, match=r"has 3 classes, and does not say which default boxes.*--boxes voc"):
        convert_checkpoint(plain.mmdetection(4), "x.pth")
    assert convert_checkpoint(plain.mmdetection(4), "x.pth", box_table="voc").settings.boxes.min_sizes[0] == 30


def test_chainercv_300_says_the_same_here():
    state = plain.chainercv()
    foreign = convert_checkpoint(state, "ssd300_voc0712.npz")
    assert foreign.format == "chainercv SSD"
    assert foreign.settings.class_names == VOC
    assert_they_agree(foreign, plain.chainercv_says(state, picture()))


def test_chainercv_is_found_inside_a_trainers_snapshot():
    state = plain.chainercv(4)
    snapshot = {f"updater/model:main/model/{name}": tensor for name, tensor in state.items()}
    snapshot["updater/optimizer:main/t"] = torch.tensor(7)
    inside, alone = convert_checkpoint(snapshot, "snapshot"), convert_checkpoint(state, "x.npz")
    assert inside.settings == alone.settings
    assert all(torch.equal(inside.state_dict[name], alone.state_dict[name]) for name in alone.state_dict)


def test_caffe_300_says_the_same_here():
    state = plain.caffe()
    foreign = convert_checkpoint(state, "VGG_VOC0712_SSD_300x300.npz")
    assert foreign.format == "Caffe SSD"
    assert foreign.settings.class_names == VOC
    assert foreign.settings.preprocessing.channels == "bgr"
    assert_they_agree(foreign, plain.caffe_says(state, picture()))


@pytest.mark.parametrize(
    ("weight", "bias"), [("-0", "-1"), (".weight", ".bias"), ("_w", "_b"), ("/W", "/b"), ("_weights", "_biases")]
)
def test_caffes_blobs_may_be_numbered_or_named(weight, bias):
    expected, found = (
        convert_checkpoint(plain.caffe(), "x"),
        convert_checkpoint(plain.caffe(21, 300, weight, bias), "x"),
    )
    assert found.settings == expected.settings
    assert all(torch.equal(found.state_dict[name], expected.state_dict[name]) for name in expected.state_dict)


def test_caffes_old_blobs_have_four_dimensions_where_one_would_do():
    state = plain.caffe()
    for name in [name for name in state if name.endswith("/1")]:
        state[name] = state[name].view(1, 1, 1, -1)
    assert convert_checkpoint(state, "x").settings == convert_checkpoint(plain.caffe(), "x").settings


@pytest.mark.parametrize(
    ("make", "outputs", "sizes", "largest"),
    [
        (plain.mmdetection, 81, (20, 51, 133, 215, 296, 378, 460), 542),
        (plain.mmdetection, 21, (35, 76, 153, 230, 307, 384, 460), 537),
        (plain.caffe, 81, (20, 51, 133, 215, 296, 378, 460), 542),
        (plain.caffe, 21, (35, 76, 153, 230, 307, 384, 460), 537),
        (plain.chainercv, 21, (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8), 537.6),
    ],
)
def test_512_has_the_boxes_of_its_origin(make, outputs, sizes, largest):
    settings = convert_checkpoint(make(outputs, 512), "x").settings
    assert settings.network.input_size == 512
    assert settings.boxes.min_sizes == sizes
    assert settings.boxes.max_sizes == (*sizes[1:], largest)
    assert len(default_boxes(settings.boxes)) == 24564


@pytest.mark.slow
@pytest.mark.parametrize("outputs", [21, 81])
def test_mmdetection_and_caffe_512_say_the_same_here(outputs):
    percent = (7, 15) if outputs == 21 else (4, 10)
    for make, says in ((plain.mmdetection, plain.mmdetection_says), (plain.caffe, plain.caffe_says)):
        state = make(outputs, 512)
        assert_they_agree(convert_checkpoint(state, "x"), says(state, picture(), outputs, 512, percent))


@pytest.mark.slow
def test_chainercv_512_says_the_same_here():
    state = plain.chainercv(21, 512)
    assert_they_agree(convert_checkpoint(state, "x"), plain.chainercv_says(state, picture(), 21, 512))


@pytest.mark.parametrize("make", [plain.sgrvinod, plain.qfgaohao, plain.mmdetection, plain.chainercv, plain.caffe])
def test_what_is_lacking_left_over_or_of_another_shape_is_named(make):
    state = make(21)
    last = next(name for name in reversed(list(state)) if state[name].dim() == 4)
    with pytest.raises(CheckpointError, match=r"x: looks like .*, but also has 'attention'"):
        convert_checkpoint({**state, "attention": torch.zeros(1)}, "x")
    with pytest.raises(CheckpointError, match=r"x: head\.classes\.5\.weight has shape \(84, 7, 3, 3\)"):
        convert_checkpoint({**state, last: torch.zeros(84, 7, 3, 3)}, "x")
    with pytest.raises(CheckpointError, match=r"x: looks like .*, but lacks"):
        convert_checkpoint(
            {name: tensor for name, tensor in state.items() if "3_2" not in name and ".12." not in name}, "x"
        )
