"""The shell's own completion, asked as a user's Tab asks it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ssd.commands.completion import main
from ssd.commands.main import COMMANDS, all_parsers

BASH = shutil.which("bash")


@pytest.fixture
def complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What bash offers for the last word."""
    pytest.importorskip("shtab")
    if BASH is None:
        pytest.skip("there is no bash")
    assert main(["bash"]) == 0
    program = capsys.readouterr().out

    def ask(*words: str) -> list[str]:
        line = " ".join(f"'{word}'" for word in ("ssd", *words))
        find = 'function_name=$(complete -p ssd | sed "s/.*-F \\([^ ]*\\).*/\\1/")'
        run = f'COMP_WORDS=({line}); COMP_CWORD={len(words)}; $function_name; printf "%s\\n" "${{COMPREPLY[@]}}"'
        done = subprocess.run(
            [BASH, "--norc", "-c", f"{program}\n{find}\n{run}"],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if line]

    return ask


def test_the_first_word_is_a_command(complete):
    assert set(complete("")) >= set(COMMANDS)
    assert complete("ch") == ["check-data"]


def test_a_dash_offers_the_options_of_that_command(complete):
    assert complete("train", "--res") == ["--resume"]
    assert "--resume" not in complete("summary", "--")


def test_an_option_with_choices_offers_them(complete):
    assert complete("check-data", "--fix", "") == ["drop"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh", "powershell"])
def test_every_shell_gets_a_script_with_every_command(shell, capsys):
    pytest.importorskip("shtab")
    assert main([shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)


@pytest.mark.parametrize(
    ("shell", "check"), [("zsh", ["-f", "-n"]), ("fish", ["--no-execute"]), ("tcsh", ["-f", "-n"])]
)
def test_every_shell_can_parse_its_script(shell, check, tmp_path, capsys):
    pytest.importorskip("shtab")
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    assert main([shell]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    done = subprocess.run([shell, *check, "script"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_scripts_complete_one_program(capsys):
    """`ssd ssd` as its name is no word of zsh's `case`, and two arguments for fish."""
    pytest.importorskip("shtab")
    for shell in ("zsh", "fish", "powershell"):
        assert main([shell]) == 0
        assert "ssd ssd" not in capsys.readouterr().out


def test_without_shtab_the_error_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["bash"]) == 2
    assert 'pip install "ssd-vgg[completion]"' in capsys.readouterr().err


def test_an_unknown_shell_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["cmd"])
    assert stop.value.code == 2
    assert "bash" in capsys.readouterr().err


def test_one_tree_parses_what_each_command_parses():
    args = all_parsers().parse_args(["check-data", "cells", "--fix", "drop"])
    assert (args.words, args.fix) == (["cells"], "drop")
