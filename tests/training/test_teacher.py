"""A detector whose answers are learned beside the labels, or without any."""

from pathlib import Path
from unittest import mock

import pytest
import torch

from ssd.data.dataset import open_dataset
from ssd.errors import ConfigError
from ssd.experiment import config_file as configs
from ssd.experiment import data as experiment_data
from ssd.experiment.config import resolve
from ssd.model.factory import from_settings, settings_for
from ssd.multibox.coder import decode
from ssd.multibox.default_boxes import default_boxes
from ssd.settings import Settings
from ssd.structures import Predictions
from ssd.training import run_folder, trainer
from ssd.training.parts import build_parts
from ssd.training.teacher import Teacher, open_teacher, resized
from ssd.weights.native import save_weights
from tests.audit.made import sound
from tests.commands.small_detector import write_image
from tests.training.runs import TINY, assert_same
from tests.training.test_trainer import final_state, rows, tiny

CPU = torch.device("cpu")


def settings(size: int = 80, names: tuple[str, ...] = ("circle", "square", "star", "triangle")) -> Settings:
    return settings_for(names, input_size=size, backbone="vgg16_bn", width=0.05, extras_norm="batch", table="fine")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_weights(path, from_settings(settings()).state_dict(), settings())
    return path


def images(size: int = 80) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def opened(path: Path, student: Settings) -> Teacher:
    return open_teacher(str(path), student, CPU, torch.float32)


def test_for_equal_default_boxes_the_answers_are_its_predictions(teacher: Path) -> None:
    one = opened(teacher, settings())
    own = settings().preprocessing
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (own.mean, own.std))
    with torch.no_grad():
        expected: Predictions = one._network((images().float() - mean) / std)
    answers = one.answers(images())
    assert torch.allclose(answers.logits, expected.logits, atol=1e-4)
    assert torch.allclose(answers.offsets, expected.offsets, atol=1e-4)


def test_for_other_default_boxes_the_nearest_of_its_own_answers(teacher: Path) -> None:
    """The box that an answer means is the same in terms of either default box."""
    smaller = settings(64)
    answers = opened(teacher, smaller).answers(images())
    whole = opened(teacher, settings()).answers(images())
    mine, theirs = default_boxes(settings().boxes), default_boxes(smaller.boxes)
    places = decode(answers.offsets[0], theirs, smaller.boxes.variances)
    for k in (0, 7, len(theirs) // 2, len(theirs) - 1):
        left, top = (torch.maximum(theirs[k, i], mine[:, i]) for i in (0, 1))
        right, bottom = (torch.minimum(theirs[k, i], mine[:, i]) for i in (2, 3))
        shared = (right - left).clamp(min=0) * (bottom - top).clamp(min=0)
        areas = [(b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]) for b in (mine, theirs[k])]
        nearest = int((shared / (areas[0] + areas[1] - shared)).argmax())
        assert torch.equal(answers.logits[0, k], whole.logits[0, nearest])
        there = decode(whole.offsets[0, nearest], mine[nearest], settings().boxes.variances)
        assert torch.allclose(places[k], there, atol=1e-4)


def test_resizing_keeps_images_of_the_size_and_averages_larger_ones() -> None:
    assert resized(images(), 80) is not None
    assert torch.equal(resized(images(), 80), images())
    flat = torch.full((1, 3, 80, 80), 7, dtype=torch.uint8)
    assert torch.equal(resized(flat, 64), torch.full((1, 3, 64, 64), 7, dtype=torch.uint8))


def test_a_teacher_of_other_classes_is_refused(teacher: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"knows circle, square, star, triangle; the data has cat.*model\.teacher=null"
    ):
        opened(teacher, settings(names=("cat",)))


def test_a_run_with_a_larger_teacher_resumes_bit_for_bit(teacher: Path, tmp_path: Path) -> None:
    words = (
        f"model.teacher={teacher}",
        "model.input_size=64",
        "train.epochs=2",
        "train.eval_every=2",
        "data.shapes=[8, 4, 80]",
    )
    with mock.patch.object(run_folder, "STATES_KEPT", 9):
        trainer.train(tiny(tmp_path / "whole", *words), progress=False)
    run = tmp_path / "again" / "tiny"
    run.mkdir(parents=True)
    for name in ("train.jsonl", "state-00000002.pt"):
        (run / name).write_bytes((tmp_path / "whole" / "tiny" / name).read_bytes())
    torch.manual_seed(999)  # whatever the process did before
    trainer.train(tiny(tmp_path / "again", *words), resume="auto", progress=False)
    assert_same(final_state(tmp_path / "again") | {"config": None}, final_state(tmp_path / "whole") | {"config": None})
    assert rows(tmp_path / "again") == rows(tmp_path / "whole")


def test_images_without_labels_teach_the_teachers_answers_alone(tmp_path: Path) -> None:
    names = open_dataset(str(sound(tmp_path / "data")), "train").class_names
    own = tmp_path / "own.safetensors"
    save_weights(own, from_settings(settings(names=names)).state_dict(), settings(names=names))
    write_image(tmp_path / "more" / "unlabelled.png")
    words = [word for word in TINY if not word.startswith(("data.format", "data.shapes"))]
    places = [f"data.folder={tmp_path / 'data'}", f"data.unlabelled={tmp_path / 'more'}", f"output={tmp_path}"]
    changes = [f"model.teacher={own}", "train.batch_size=1", "model.backbone=vgg16", "model.extras_norm=group"]
    seen = set()
    with build_parts(resolve(configs.load(None, [*words, *places, *changes])), CPU, None) as parts:
        step = parts.step
        step.train()
        for batch in parts.loader.epoch(0):
            inputs, targets = step.to_device(batch.images, batch.targets)
            predictions = step.forward(inputs)
            losses = step.loss(predictions, targets, step.match(targets))
            outputs = [predictions.offsets, predictions.logits]
            of_labels = torch.autograd.grad(losses.box + losses.confidence, outputs, retain_graph=True)
            of_teacher = torch.autograd.grad(losses.teacher, outputs, allow_unused=True)
            labelled = not batch.paths[0].endswith("unlabelled.png")
            seen.add(labelled)
            assert [bool(gradient.any()) for gradient in of_labels] == [labelled, labelled]
            assert of_teacher[1].any()
            expected = 0.5 * (losses.box + losses.confidence) + 0.5 * losses.teacher
            assert torch.allclose(losses.total, expected)
    assert seen == {True, False}


def test_images_without_labels_need_a_teacher(tmp_path: Path) -> None:
    folder = sound(tmp_path / "data")
    config = configs.load(None, [f"data.folder={folder}", f"data.unlabelled={folder}"])
    with pytest.raises(ConfigError, match=r"data\.unlabelled=.*without a teacher nothing can be learned"):
        experiment_data.open_sets(config)
