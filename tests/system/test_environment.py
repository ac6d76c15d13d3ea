import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from ssd.errors import MissingExtraError
from ssd.system import optional
from ssd.system.environment import environment

CHECKOUT = Path(__file__).resolve().parents[2]


def test_the_versions_are_those_that_run():
    facts = environment()
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert "not installed" not in facts["versions"].values()


def test_a_package_that_is_missing_is_said_to_be(monkeypatch):
    real = metadata.version

    def version(name: str) -> str:
        if name == "pycocotools":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    assert environment()["versions"]["pycocotools"] == "not installed"


def test_the_commit_is_that_of_the_checkout_and_nothing_without_git(monkeypatch):
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    expected = head.stdout.strip() if head.returncode == 0 else None
    assert environment()["git_commit"] == expected
    monkeypatch.setenv("PATH", "")
    assert environment()["git_commit"] is None


def test_an_extra_is_never_asked_of_pypi_by_the_name_of_this_package(monkeypatch):
    """pip keeps a package that is installed; one that is not it looks up, and anybody may have that name there."""
    monkeypatch.setitem(sys.modules, "gradio", None)
    for version, target in (("0.1.0", '"ssd-vgg[demo]"'), (optional.NEVER_INSTALLED, f'-e "{CHECKOUT}[demo]"')):
        monkeypatch.setattr(optional, "__version__", version)
        with pytest.raises(MissingExtraError) as caught:
            optional.load_extra("gradio", "demo")
        assert caught.value.remedy == f"Run: {sys.executable} -m pip install {target}"
