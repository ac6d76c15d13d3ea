"""Which file a name stands for."""

from pathlib import Path

import pytest

from ssd.errors import CheckpointError
from ssd.weights import resolve


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
