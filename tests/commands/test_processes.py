"""Commands as processes: a Python that lacks the packages, and readers that leave."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssd.commands.main import COMMANDS, main
from ssd.system import python_environment

CHECKOUT = Path(__file__).parents[2]


def bare(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a tool without site-packages, as a Python does in which nothing was installed."""
    command = [sys.executable, "-I", "-S", arguments[0], *arguments[1:]]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"doctor", "completion"}))
def test_a_missing_package_is_one_line(name):
    done = bare(f"tools/{name.replace('-', '_')}.py", "--help")
    if done.returncode == 0:  # its help needs no package
        return
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert f" is not installed for {sys.executable}. " in line


def test_detecting_without_the_packages_names_the_tool():
    done = bare("tools/detect.py", "picture.jpg")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f" is not installed for {sys.executable}. " in done.stderr


def test_the_checkouts_own_python_is_named_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setattr(python_environment, "CHECKOUT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["tools/detect.py", "a.jpg"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    assert (
        python_environment.other_python() == f"Run `make install` in the clone, or: {sys.executable} -m pip install ."
    )
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert python_environment.other_python() == (
        "Use .venv/bin/python tools/detect.py ..., or activate it: . .venv/bin/activate"
    )
    monkeypatch.chdir("/")
    assert f"Use {python} tools/detect.py ..." in python_environment.other_python()
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ssd", "detect"])
    assert f"Use {python.parent}/ssd ..." in python_environment.other_python()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert "make install" in python_environment.other_python()


@pytest.mark.parametrize("missing", ["ssd", "ssd.nowhere", "torch.nowhere", "sqlite3", None])
def test_a_module_that_no_package_brings_is_a_bug(missing, monkeypatch):
    def fails(argv: list[str]) -> int:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    module = type(sys)("stand_in")
    module.main = fails
    monkeypatch.setitem(sys.modules, "ssd.commands.stand_in", module)
    monkeypatch.setitem(COMMANDS, "stand-in", "for this test")
    with pytest.raises(ModuleNotFoundError):
        main(["stand-in"])


def test_the_doctor_works_without_any_package():
    done = bare("tools/doctor.py")
    assert (done.returncode, done.stderr) == (1, "")
    assert "torch>=2.10 (missing), torchvision" in done.stdout
    assert "verdict: " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [(["completion", "bash"], ""), (["completion", "bash"], "1"), (["detect", "--help"], ""), (["--help"], "")],
)
def test_a_reader_that_leaves_ends_the_command_quietly(arguments, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "ssd", *arguments]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    try:
        done = subprocess.run(
            command, cwd=CHECKOUT, env=environment, stdout=writer, stderr=subprocess.PIPE, timeout=120, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
