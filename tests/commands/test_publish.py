import pytest

from ssd.commands.publish import main
from ssd.model.factory import from_settings, settings_for
from ssd.weights import native


@pytest.fixture
def run(tmp_path):
    settings = settings_for(("cat",), input_size=64, width=0.125)
    (tmp_path / "run").mkdir()
    native.save_weights(tmp_path / "run" / "best.safetensors", from_settings(settings).state_dict(), settings)
    return tmp_path / "run"


def test_with_out_the_files_are_written_and_nothing_is_sent(run, tmp_path, capsys):
    out = tmp_path / "preview"
    assert main([str(run), "hf://me/cats", "--out", str(out), "--license", "mit"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "model.safetensors"]
    card = (out / "README.md").read_text()
    assert "finds 1 class of objects: cat." in card
    assert "license: mit" in card
    assert "## Figures" not in card, "there are none in this file"
    assert f"{out}: what would be uploaded to hf://me/cats" in capsys.readouterr().out


def test_a_folder_with_files_is_left_alone(run, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    assert main([str(run), "hf://me/cats", "--out", str(tmp_path / "mine")]) == 2
    assert "mine: is there already. Name a new or empty folder." in capsys.readouterr().err
    assert (tmp_path / "mine" / "README.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("source", "address", "problem"),
    [
        ("run", "me/cats", "me/cats: is no Hugging Face address. Write hf://owner/name"),
        ("nothing", "hf://me/cats", "nothing: no such file"),
        ("run", "hf://me/cats/v2.safetensors", "hf://me/cats/v2.safetensors: names the file 'v2.safetensors'. Name"),
        ("run", "hf://me/cats --private", "--private: has no effect with --out. Leave it out"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run, monkeypatch, capsys, source, address, problem):
    monkeypatch.chdir(run.parent)
    assert main([source, *address.split(), "--out", "preview"]) == 2
    error = capsys.readouterr().err
    assert [path.name for path in run.parent.iterdir()] == ["run"]
    assert error.startswith(f"error: {problem}")
    assert error.count("\n") == 1
