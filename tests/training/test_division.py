"""The division of a folder into training and validation images, in runs that are resumed and evaluated."""

from pathlib import Path

import pytest
import yaml

from ssd.api.evaluation_data import find_config
from ssd.commands import train
from ssd.errors import ArgumentError
from ssd.experiment.data import open_split
from ssd.training.checkpoints import load_state, save_state
from tests.data.videos import write_videos
from tests.training.runs import TINY


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    write_videos(root, 6, frames=4, size=64)
    return root


def words(folder: Path, output: Path, *more: str) -> list[str]:
    tiny = [word for word in TINY if not word.startswith("data.format")]
    return [*tiny, "--data", str(folder), f"output={output}", "name=tiny", "train.epochs=1", *more, "--quiet"]


def make_old(run: Path) -> None:
    """Take the key `data.group` out of a run, as a version without it wrote its files."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["data"]["group"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    state = next(run.glob("state-*.pt"))
    saved = load_state(state)
    del saved["config"]["data"]["group"]
    save_state(state, saved)


def val_names(run: Path) -> set[object]:
    config = find_config(str(run))
    return {record.image_id for record in open_split(config, "val").records}


@pytest.mark.parametrize("how", ["run", "auto"])
def test_a_run_from_before_groups_goes_on_with_its_own_division(videos: Path, tmp_path: Path, how: str) -> None:
    assert train.main(words(videos, tmp_path, "data.group=copies")) == 0
    run = tmp_path / "tiny"
    before = val_names(run)
    make_old(run)
    assert val_names(run) == before  # evaluated on the images that it did not train on
    assert find_config(str(run)).data.group == "copies"
    resume = ["--resume", "auto"] if how == "auto" else ["--resume", str(run)]
    more = words(videos, tmp_path, "train.epochs=2", *resume)
    assert train.main(more if how == "auto" else [f"output={tmp_path}", "train.epochs=2", *resume, "--quiet"]) == 0
    assert max(load_state(path)["step"] for path in run.glob("state-*.pt")) > load_steps(run, epochs=1)
    assert val_names(run) == before


def load_steps(run: Path, epochs: int) -> int:
    states = [load_state(path)["step"] for path in sorted(run.glob("state-*.pt"))]
    return max(states) // 2 * epochs


def test_the_new_division_is_another_one(videos: Path, tmp_path: Path) -> None:
    """Otherwise the test above shows nothing."""
    assert train.main(words(videos, tmp_path)) == 0
    assert train.main(words(videos, tmp_path, "data.group=copies", "name=old")) == 0
    assert val_names(tmp_path / "tiny") != val_names(tmp_path / "old")


def test_other_data_is_divided_by_the_present_rule(videos: Path, tmp_path: Path) -> None:
    assert train.main(words(videos, tmp_path, "data.group=copies")) == 0
    assert find_config(str(tmp_path / "tiny"), str(videos)).data.group == "auto"
    chosen = find_config(str(tmp_path / "tiny"), str(videos), overrides=["data.group=^(.)"])
    assert chosen.data.group == "^(.)"


def test_what_is_said_of_other_data_holds(tmp_path: Path) -> None:
    run, said = tmp_path / "tiny", {"data.val": "train", "data.classes": ["sq"], "data.format": "voc"}
    run.mkdir()
    (run / "config.yaml").write_text("data: {folder: own, val: test, classes: [cat], format: coco}")
    data = find_config(str(run), "other", overrides=list(said.items())).data
    assert (data.folder, data.val, data.classes, data.format) == ("other", "train", ("sq",), "voc")
    assert find_config(str(run), "other", format="yolo", overrides=["data.format=voc"]).data.format == "yolo"
    assert find_config(str(run), "other", split="dev", overrides=["data.val=train"]).data.val == "dev"
    data = find_config(str(run), "other").data
    assert (data.val, data.classes, data.format) == (None, None, "auto")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.tiles=3", r"data\.tiles is in the weights\. Evaluate by another one: ssd eval --tiles VALUE"),
        ("model.box_voting=0", r"model\.box_voting is in the weights\. .* ssd eval --box-voting VALUE"),
        ("augment.mirror=false", r"augment\.mirror changes no evaluation\. Change keys of data alone"),
    ],
)
def test_what_an_evaluation_does_not_read_is_refused(override: str, said: str, tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    run.mkdir()
    (run / "config.yaml").write_text("data: {folder: own}")
    with pytest.raises(ArgumentError, match=said):
        find_config(str(run), overrides=[override])
