"""Which file a name stands for."""

import dataclasses
from pathlib import Path

import pytest
import torch

from ssd.errors import CheckpointError
from ssd.experiment.config import Config
from ssd.model.factory import from_settings, settings_for
from ssd.weights import resolve
from ssd.weights.native import save_weights
from tests.weights import made


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the published weights that are fetched; the current folder is empty."""
    names: list[str] = []
    monkeypatch.setattr(resolve, "fetch_detector", lambda name: names.append(name) or Path(f"{name}.pth"))
    monkeypatch.chdir(tmp_path)
    return names


@pytest.mark.parametrize("name", resolve.PUBLISHED)
def test_a_folder_without_weights_does_not_hide_published_ones(name: str, fetched: list[str]) -> None:
    Path(name).mkdir()
    (Path(name) / "annotations.json").touch()
    assert resolve.find_weights(name) == Path(f"{name}.pth")
    assert fetched == [name]
    with pytest.raises(CheckpointError, match=r"no weights in this folder\. Name .* coco or ssdlite"):
        resolve.find_weights(f"./{name}")


def test_a_run_or_a_file_of_that_name_comes_before_published_weights(fetched: list[str]) -> None:
    run = Path("coco")
    run.mkdir()
    for name in ("last.safetensors", "best.safetensors"):
        (run / name).touch()
        assert resolve.find_weights("coco") == run / name
    Path("ssdlite").touch()
    assert resolve.find_weights("ssdlite") == Path("ssdlite")
    assert fetched == []


def test_the_config_beside_weights_is_that_of_their_run(tmp_path: Path, fetched: list[str]) -> None:
    run = tmp_path / "coco"
    run.mkdir()
    (run / "config.yaml").touch()
    assert resolve.config_beside("coco") is None  # a data folder with a file of that name
    (run / "best.safetensors").touch()
    assert resolve.config_beside("coco") == Path("coco/config.yaml")
    assert resolve.config_beside(run / "best.safetensors") == run / "config.yaml"
    (run / "config.yaml").write_text("project: another program's\n")
    (run / "other.safetensors").touch()
    assert resolve.config_beside(run / "other.safetensors") is None
    (run / "config.yaml").write_text("data: {folder: cells}\n")
    assert resolve.config_beside(run / "other.safetensors") == run / "config.yaml"
    assert resolve.folder_of("ssdlite") is resolve.folder_of("nowhere.safetensors") is None


def test_a_config_is_known_by_its_keys() -> None:
    assert {field.name for field in dataclasses.fields(Config)} == resolve.CONFIG_KEYS


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("foreign", [False, True])
def test_weights_that_are_not_finite_are_refused_by_name(value: float, foreign: bool, tmp_path: Path) -> None:
    path = tmp_path / ("vgg.pth" if foreign else "ours.safetensors")
    if foreign:
        state = made.amdegroot()
        state["vgg.2.bias"][3] = value
        torch.save(state, path)
    else:
        settings = settings_for(("cat",), input_size=64, width=0.125)
        state = from_settings(settings).state_dict()
        state["backbone.conv1_2.bias"][3] = value
        save_weights(path, state, settings)
    with pytest.raises(CheckpointError, match=rf"{path.name}: backbone\.conv1_2\.bias has values that are not finite"):
        resolve.read_weights(path)
