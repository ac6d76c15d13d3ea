import dataclasses

import pytest
import torch

from ssd.benchmark import stages
from ssd.benchmark.stage_names import ON_GPU, STAGES
from ssd.benchmark.timing import DisagreementError, UnavailableError


def test_every_stage_has_a_comparison():
    assert list(stages.COMPARISONS) == list(STAGES)


@pytest.mark.parametrize(
    "name", ["decode", "network_fp32", "detect_fp32", "postprocess_typical", "postprocess_worst", "loss"]
)
def test_both_sides_agree(small, name):
    assert stages.COMPARISONS[name](small).check()


@pytest.mark.slow
@pytest.mark.parametrize("stage", [stages.inference.network, stages.inference.detect])
def test_both_sides_agree_with_torchvision_at_its_best(small, stage):
    changed = dataclasses.replace(small)  # its model changes its memory layout
    assert stage(changed, precision="fp32", images_at_once=2, torchvision_tuned=True).check()


def test_large_batches_are_for_gpus():
    assert {"network_batch32", "detect_batch128", "train_step32_best"} < ON_GPU < set(STAGES)
    assert not {"detect_fp32", "train_step", "coco_eval"} & ON_GPU


def test_augmented_images_of_both_sides_are_whole(small):
    assert "20 draws of each" in stages.COMPARISONS["augmentation"](small).check()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["network", "detect_bf16", "detect_batch8", "train_step", "train_step_best"])
def test_both_sides_agree_in_the_precision_of_choice(small, name):
    try:
        assert stages.COMPARISONS[name](small).check()
    except UnavailableError as reason:
        pytest.skip(str(reason))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_a_batch_finds_what_single_images_have(small, precision):
    try:
        assert "detections have a twin" in stages.inference.detect_many(small, precision, 3).check()
    except UnavailableError as reason:
        pytest.skip(str(reason))


def test_other_weights_are_noticed(small):
    changed = dataclasses.replace(small)  # caches nothing yet
    with torch.no_grad():
        changed.torchvision_model.backbone.features[0].weight.mul_(1.1)
    with pytest.raises(DisagreementError):
        stages.COMPARISONS["network_fp32"](changed).check()


def test_another_loss_is_noticed(small):
    changed = dataclasses.replace(small)
    changed.torchvision_model.neg_to_pos_ratio = 2.0
    with pytest.raises(DisagreementError):
        stages.COMPARISONS["loss"](changed).check()
