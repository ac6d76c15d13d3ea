import shlex
from pathlib import Path

import pytest

from ssd.api.check_data import check_data
from ssd.commands import check_data as command
from ssd.data.dataset import open_dataset
from ssd.errors import ArgumentError, SSDError
from ssd.experiment.config_file import load
from ssd.experiment.data import open_split
from tests.audit.made import sound
from tests.data.made import write_text
from tests.data.videos import write_videos


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder of ten videos of six frames, and the frames of each."""
    root = tmp_path_factory.mktemp("videos")
    return root, write_videos(root, 10, frames=6, seed=1)


def test_lists_divide_the_folder_as_asked_and_train_at_once(videos, tmp_path, capsys):
    root, frames = videos
    out = tmp_path / "lists"
    assert command.main([str(root), "--divide", "0.2", "--out", str(out), "--quiet"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    words = shlex.split(last)
    assert words[:4] == ["ssd", "train", "--data", str(root)]
    config = load(None, [f"data.folder={root}", *words[4:]])
    train, val = (open_split(config, which) for which in ("train", "val"))
    stems = [{record.image_id for record in part.records} for part in (train, val)]
    assert len(stems[1]) in (12, 18)  # 18 where a class needs one more video
    assert not stems[0] & stems[1]
    assert len(stems[0] | stems[1]) == 60
    assert all(len({name in stems[1] for name in video}) == 1 for video in frames)


def test_without_groups_frames_are_mixed(videos):
    root, frames = videos
    val = {name.partition("/")[2][:5] for name in check_data(root).divide(0.2, by=["class"]).val}
    assert len(val) == 12
    assert any(len({name in val for name in video}) == 2 for video in frames)


def test_a_division_is_the_same_every_time(videos):
    root, _ = videos
    assert check_data(root).divide(0.3) == check_data(root).divide(0.3)


def test_what_check_data_sees_across_splits_is_kept_together_afterwards(videos, tmp_path):
    root, _ = videos
    before = check_data(root, overrides=["data.group=copies"])
    assert before.report.near
    assert any("like one of another split" in caution for caution in before.readiness.cautions)
    assert "looks like train/" in before.to_text()
    assert before.to_dict()["near_copies"]
    assert set(before.divide(0.2).val) != set(check_data(root).divide(0.2).val)  # data.group=copies holds here too
    train, val = check_data(root).divide(0.2).write(tmp_path)
    after = check_data(root, overrides=[f"data.train={train}", f"data.val={val}"])
    assert sum(split.images for split in after.report.splits) == 60
    assert not after.report.near
    assert not check_data(root).report.near  # nor where the program divides by itself


def test_mistakes_are_answered_before_the_work(videos, tmp_path, capsys):
    root, _ = videos
    write_text(tmp_path / "old" / "train.txt", "a.jpg\n")
    for words, said in (
        (["--divide", "0.2"], "Write --divide 0.2 --out FOLDER"),
        (["--divide", "2", "--out", "x"], "out of range"),
        (["--divide", "0.2", "--out", str(tmp_path / "old")], "--force"),
    ):
        assert command.main([str(root), *words]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="'colour' is unknown"):
        check_data(root).divide(0.2, by=["colour"])
    with pytest.raises(SSDError, match="0 is out of range"):
        check_data(root).divide(0.0)


def test_a_split_that_is_named_is_divided_alone(tmp_path):
    root = sound(tmp_path)
    divided = check_data(root, split="train").divide(0.5)
    assert sorted([*divided.train, *divided.val]) == ["JPEGImages/a.jpg", "JPEGImages/b.jpg"]
    assert open_dataset(root, str(divided.write(tmp_path / "lists")[1])).records


def test_frames_that_lie_in_folders_of_splits_stay_together(tmp_path):
    """As after Roboflow's random division; the rule of the documentation holds too."""
    name = "vid{video}_frame{frame:03d}"
    frames = write_videos(tmp_path / "flat", 8, frames=5, seed=2, name=name)
    for place, path in enumerate(sorted((tmp_path / "flat").rglob("*.jpg"))):
        split = "valid" if place % 5 == 4 else "train"
        image = tmp_path / "set" / split / "images" / path.name
        image.parent.mkdir(parents=True, exist_ok=True)
        path.rename(image)
        write_text(tmp_path / "set" / split / "labels" / f"{path.stem}.txt", "0 0.5 0.5 0.5 0.5\n")
    write_text(tmp_path / "set" / "data.yaml", "names: [cat]\ntrain: train/images\nval: valid/images\n")
    videos = [{Path(name).name for name in video} for video in frames]
    for keys in ([], [r"data.group=^(.+?)_"]):
        divided = check_data(tmp_path / "set", overrides=keys).divide(0.25)
        val = {Path(name).stem for name in divided.val}
        assert val
        assert all(video <= val or not video & val for video in videos), keys


def test_the_command_of_a_division_has_the_keys_of_the_check(tmp_path):
    folder = sound(tmp_path / "data")
    check = check_data(folder, overrides={"data.voc_offset": "0", "data.val_fraction": 0.3}, drop_bad_objects=True)
    divided = check.divide(0.5)
    command = divided.to_text(divided.write(tmp_path / "lists")).splitlines()[-1]
    assert shlex.split(command)[-2:] == ["data.voc_offset=0", "data.bad_objects=drop"]
