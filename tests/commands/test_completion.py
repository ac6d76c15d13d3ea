"""The shell's own completion, asked as a user's Tab asks it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ssd.commands.completion import bash_script, fish_script, main
from ssd.commands.main import COMMANDS

BASH = shutil.which("bash")


def _complete(*words: str, folder: Path) -> list[str]:
    """What bash offers for the last word."""
    if BASH is None:
        pytest.skip("there is no bash")
    line = " ".join(f"'{word}'" for word in ("ssd", *words))
    script = f'COMP_WORDS=({line}); COMP_CWORD={len(words)}; _ssd; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        [BASH, "--norc", "-c", f"{bash_script()}\n{script}"],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return [line for line in done.stdout.splitlines() if line]


def test_the_first_word_is_a_command(tmp_path):
    assert _complete("", folder=tmp_path) == list(COMMANDS)
    assert _complete("ch", folder=tmp_path) == ["check-data"]


def test_a_dash_offers_the_options_of_that_command(tmp_path):
    assert _complete("train", "--res", folder=tmp_path) == ["--resume"]
    assert "--resume" not in _complete("summary", "--", folder=tmp_path)


def test_an_option_with_choices_offers_them(tmp_path):
    assert _complete("check-data", "--fix", "", folder=tmp_path) == ["drop"]


def test_train_offers_config_keys_and_else_files(tmp_path):
    (tmp_path / "train.yaml").touch()
    assert _complete("train", "train.ep", folder=tmp_path) == ["train.epochs="]
    assert _complete("train", "train.y", folder=tmp_path) == ["train.yaml"]
    assert _complete("train", "", folder=tmp_path) == ["train.yaml"]


def test_everything_else_is_a_file(tmp_path):
    (tmp_path / "cells").mkdir()
    assert _complete("check-data", "ce", folder=tmp_path) == ["cells"]


def test_fish_gets_a_line_for_every_command():
    for name in COMMANDS:
        assert f"-f -a {name} -d " in fish_script()
    assert "-l fix -x -a drop" in fish_script()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed(shell, capsys):
    assert main([shell]) == 0
    assert "train" in capsys.readouterr().out


def test_an_unknown_shell_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["tcsh"])
    assert stop.value.code == 2
    assert "bash" in capsys.readouterr().err
