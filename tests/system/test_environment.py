import subprocess
from importlib import metadata
from pathlib import Path

import torch

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
