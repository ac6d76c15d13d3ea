"""A review end to end, with networks too small to learn: what is written, what is left alone, and what goes on."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

import ssd
import ssd.api.review as review_module
from ssd.api.review import ReviewResult
from ssd.api.review_folds import divide, fingerprint, open_whole
from ssd.commands.review import main
from ssd.data.dataset import open_dataset
from ssd.data.labels.label_formats import LABEL_FORMATS
from ssd.data.shapes.dataset import shapes
from ssd.errors import ArgumentError, ImageDecodeError
from ssd.evaluation.causes.suspects import Fault
from ssd.experiment.data import open_split
from ssd.experiment.training_config import training_config
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


def leave_out(folder: Path, what: str) -> None:
    """The first image, or the first object."""
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    if what == "images":
        first = content["images"].pop(0)["id"]
        content["annotations"] = [item for item in content["annotations"] if item["image_id"] != first]
    else:
        content["annotations"].pop(0)
    file.write_text(json.dumps(content))


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
    with pytest.raises(ArgumentError, match="holds a review of other images, labels or options"):
        ssd.review(folder, folds=3, output=output, epochs=1, overrides=TINY)
    with pytest.raises(ArgumentError, match="is not empty"):
        ssd.review(folder, folds=2, output=folder, epochs=1, overrides=TINY)


@pytest.mark.parametrize("change", ["labels", "images"])
def test_other_labels_or_images_want_another_folder_which_the_error_names(
    change: str, reviewed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr("ssd.api.review_folds.train", lambda *args, **options: pytest.fail("trained"))
    folder, output = (shutil.copytree(path, tmp_path / path.name) for path in reviewed[:2])
    options = output / "options.json"
    options.write_text(options.read_text().replace(str(reviewed[0]), str(folder)))
    leave_out(folder, change)
    assert main([str(folder), "--folds", "2", "--epochs", "1", "--output", str(output), "--quiet", *TINY]) == 2
    printed = capsys.readouterr().err
    assert "holds a review of other images, labels or options" in printed
    assert f"--output {output}-2" in printed


def test_networks_of_the_same_images_and_labels_judge_them_again(reviewed) -> None:
    whole, facts = reviewed[3].dataset, json.loads((reviewed[1] / "options.json").read_text())
    parts = divide(whole, 2, "auto")
    assert fingerprint(whole, parts) == facts["data"]
    assert fingerprint(whole, parts[::-1]) != facts["data"], "the folds count too"


def test_a_review_of_an_earlier_version_wants_another_folder(reviewed, tmp_path: Path) -> None:
    facts = json.loads((reviewed[1] / "options.json").read_text())
    del facts["data"]
    (tmp_path / "out" / "fold-1").mkdir(parents=True)
    (tmp_path / "out" / "options.json").write_text(json.dumps(facts, indent=2))
    with pytest.raises(ArgumentError, match="another version"):
        ssd.review(reviewed[0], folds=2, output=tmp_path / "out", epochs=1, overrides=TINY)


def test_images_may_change_until_a_training_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after the error about a damaged image."""

    def damaged(*_: object, **__: object) -> None:
        raise ImageDecodeError("is damaged")

    monkeypatch.setattr("ssd.api.review_folds.train", damaged)
    folder = made(tmp_path / "drawn")
    for _ in range(2):
        with pytest.raises(ImageDecodeError):
            ssd.review(folder, folds=2, output=tmp_path / "out", overrides=TINY)
        leave_out(folder, "images")


def test_images_that_the_rule_of_groups_joins_stay_in_one_fold(tmp_path: Path) -> None:
    whole = open_whole(training_config(None, made(tmp_path / "drawn"), []), ["train"])
    joined = {place for place, record in enumerate(whole.records) if Path(record.path).name.startswith("shape-1")}
    assert len(joined) == 5
    assert not any(joined <= set(part) for part in divide(whole, 2, "auto"))
    assert any(joined <= set(part) for part in divide(whole, 2, "^images/train/shape-(1)"))
    assert len(divide(whole, 14, "copies")) == 14


@pytest.mark.parametrize("key", ["data.train", "data.val"])
def test_lists_of_images_to_train_on_are_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=rf"{key}: .* --split train"):
        ssd.review(made(tmp_path / "drawn"), output=tmp_path / "out", overrides={key: "train"})


@pytest.mark.parametrize("change", ["name=mine", "output=elsewhere", "train.eval_every=2"])
def test_a_key_that_the_review_sets_itself_is_refused(change: str, tmp_path: Path) -> None:
    key = change.partition("=")[0]
    with pytest.raises(ArgumentError, match=f"{key}: is .* a review sets it for each fold itself"):
        ssd.review(made(tmp_path / "drawn"), output=tmp_path / "out", overrides=[change])
    assert not (tmp_path / "out").exists()


def test_a_fold_that_was_killed_before_its_first_state_begins_anew_in_its_folder(reviewed, tmp_path: Path) -> None:
    """Otherwise it would be trained in another folder, and again by each later call."""
    folder, output = reviewed[0], tmp_path / "out"
    shutil.copytree(reviewed[1], output)
    config = output / "fold-2" / "config.yaml"
    config.write_text(config.read_text().replace(str(reviewed[1]), str(output)))
    (output / "lists" / "fold-2.done").unlink()
    for path in (output / "fold-2").iterdir():
        if path.is_file() and path != config:
            path.unlink()
    result = ssd.review(folder, folds=2, output=output, epochs=1, overrides=TINY)
    assert [fold.weights.parent for fold in result.folds] == [output / "fold-1", output / "fold-2"]
    assert (output / "lists" / "fold-2.done").is_file()


def test_linked_images_are_reviewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def opening(config, **_):
        opened.extend(open_split(config, which) for which in ("train", "val"))
        raise ArgumentError("enough", place="here")

    monkeypatch.setattr("ssd.api.review_folds.train", opening)
    folder = made(tmp_path / "drawn")
    (tmp_path / "pool").mkdir()
    for path in sorted((folder / "images" / "train").iterdir()):
        path.symlink_to(path.rename(tmp_path / "pool" / f"x{path.name}"))
    linked = tmp_path / "linked"
    linked.symlink_to(folder)
    with pytest.raises(ArgumentError, match="enough"):
        ssd.review(linked, folds=2, output=tmp_path / "out", overrides=[*TINY, "data.allow_outside=true"])
    assert [len(dataset) for dataset in opened] == [7, 7]


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
