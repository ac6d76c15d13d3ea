"""A review end to end, with networks too small to learn: what is written, what is left alone, and what goes on."""

import dataclasses
import json
from pathlib import Path

import pytest

import ssd
import ssd.api.review as review_module
from ssd.api.review import ReviewResult
from ssd.commands.review import main
from ssd.data.dataset import open_dataset
from ssd.data.labels.label_formats import LABEL_FORMATS
from ssd.data.shapes.dataset import shapes
from ssd.errors import ArgumentError
from ssd.evaluation.causes.suspects import Fault
from tests.api.corrupted import write_shapes
from tests.commands.small_detector import save_small_weights, snapshot

TINY = (
    "model.backbone=vgg16_bn",
    "model.backbone_weights=none",
    "model.width=0.05",
    "model.input_size=80",
    "model.extras_norm=batch",
    "data.workers=0",
    "train.batch_size=4",
    "train.precision=fp32",
    "train.device=cpu",
    "augment.crop=1",
    "optim.warmup=2",
)


def made(folder: Path) -> Path:
    drawn = shapes("train", 14, 80)
    return write_shapes(folder, drawn, drawn.records)


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[Path, bytes], ReviewResult]:
    folder = made(tmp_path_factory.mktemp("data") / "drawn")
    before, output = snapshot(folder), tmp_path_factory.mktemp("review") / "out"
    result = ssd.review(folder, folds=2, output=output, epochs=1, overrides=TINY)
    return folder, output, before, result


def test_every_image_is_judged_once_by_a_network_that_never_saw_it(reviewed) -> None:
    folder, output, _, result = reviewed
    seen = {key: (output / "lists" / f"{key}.txt").read_text().split() for key in ("fold-1-train", "fold-1-val")}
    assert not set(seen["fold-1-train"]) & set(seen["fold-1-val"])
    assert [fold.images for fold in result.folds] == [7, 7]
    assert len(result.dataset) == 14
    assert sorted(path for paths in seen.values() for path in paths) == sorted(
        str(path) for path in (folder / "images" / "train").iterdir()
    )
    assert [fold.weights.parent.name for fold in result.folds] == ["fold-1", "fold-2"]


def test_nothing_of_the_users_is_changed_and_everything_is_written_into_the_output(reviewed) -> None:
    folder, output, before, result = reviewed
    assert snapshot(folder) == before
    facts = json.loads((output / "review.json").read_text())
    assert len(facts["suspects"]) == len(result.suspects) > 0
    assert facts["figures"]["AP50"].keys() == {"mean", "spread"}
    page = (output / "review.html").read_text(encoding="utf-8")
    assert page.startswith("<!")
    assert "networks that were trained without them" in page


def test_the_same_call_goes_on_without_training_again(reviewed, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    folder, output, _, result = reviewed
    monkeypatch.setattr("ssd.api.review_folds.train", lambda *args, **options: pytest.fail("trained again"))
    words = [str(folder), "--folds", "2", "--epochs", "1", "--output", str(output), "--as", "yolo", "--quiet", *TINY]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "14 images in 2 folds" in printed
    assert f"proposed labels: {output / 'proposed-yolo'}" in printed
    again = ssd.review(folder, folds=2, output=output, epochs=1, overrides=TINY)
    assert [dataclasses.asdict(item) for item in again.suspects] == [
        dataclasses.asdict(item) for item in result.suspects
    ]


def test_other_options_want_another_folder(reviewed) -> None:
    folder, output, *_ = reviewed
    with pytest.raises(ArgumentError, match="holds a review of other data or with other options"):
        ssd.review(folder, folds=3, output=output, epochs=1, overrides=TINY)
    with pytest.raises(ArgumentError, match="is not empty"):
        ssd.review(folder, folds=2, output=folder, epochs=1, overrides=TINY)


def test_a_stopped_training_ends_the_review_with_the_way_on(tmp_path: Path, monkeypatch, capsys) -> None:
    class Stopped:
        exit_code = 130

    monkeypatch.setattr("ssd.api.review_folds.train", lambda *args, **options: Stopped())
    folder = made(tmp_path / "drawn")
    assert main([str(folder), "--output", str(tmp_path / "out"), "--quiet"]) == 130
    assert "stopped in fold 1; the same command goes on" in capsys.readouterr().err


def test_too_few_images_for_the_folds_are_named(tmp_path: Path) -> None:
    folder = made(tmp_path / "drawn")
    with pytest.raises(ArgumentError, match="too few for 20 folds"):
        ssd.review(folder, folds=20, output=tmp_path / "out", overrides=TINY)


@pytest.mark.parametrize("format", list(LABEL_FORMATS))
def test_proposed_labels_are_a_data_set_of_the_images_in_question(reviewed, format: str, tmp_path: Path) -> None:
    _, _, _, result = reviewed
    sure = [dataclasses.replace(item, score=0.9) for item in result.suspects if item.image < 3]
    review_module._write_proposals(tmp_path / "out", [format], result.dataset, sure)
    proposed = open_dataset(tmp_path / "out", "train" if format == "yolo" else "all")
    assert len(proposed) == len({item.image for item in sure}) == 3
    added = sum(item.fault is Fault.MISSING for item in sure) - sum(item.fault is Fault.SPARE for item in sure)
    before = sum(len(record.labels) for record in result.dataset.records[:3])
    assert sum(len(record.labels) for record in proposed.records) + len(proposed.dropped) == before + added


def test_the_figures_are_the_mean_and_the_standard_deviation_over_the_folds(reviewed) -> None:
    result = reviewed[3]
    fold = result.folds[0]
    aps = (0.5, None, 0.7)
    made = dataclasses.replace(result, folds=tuple(dataclasses.replace(fold, ap=ap, ap50=0.8) for ap in aps))
    assert made.figures() == {
        "AP": {"mean": pytest.approx(0.6), "spread": pytest.approx(0.02**0.5)},
        "AP50": {"mean": pytest.approx(0.8), "spread": pytest.approx(0)},
    }


def test_weights_to_start_from_bring_their_network_as_in_a_training(tmp_path: Path, monkeypatch) -> None:
    asked = []

    def opened(config, *_):
        asked.append(config.model)
        raise ArgumentError("enough", place="here")

    monkeypatch.setattr(review_module, "open_whole", opened)
    weights = save_small_weights(tmp_path / "small.safetensors")
    with pytest.raises(ArgumentError, match="enough"):
        ssd.review(made(tmp_path / "drawn"), output=tmp_path / "out", overrides={"model.weights": str(weights)})
    assert (asked[0].backbone, asked[0].width, asked[0].input_size) == ("vgg16", 0.125, 64)
