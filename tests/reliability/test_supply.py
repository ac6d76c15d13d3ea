"""What is installed, from where, and that it fits together."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (CHECKOUT / "requirements" / "dev.lock").read_text(encoding="utf-8")


def locked() -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", LOCK, re.MULTILINE)}


def test_the_lock_file_has_every_requirement_at_a_fitting_version() -> None:
    """A failure here: run `make lock`."""
    versions = locked()
    for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), text


def test_every_locked_package_has_hashes_and_no_address() -> None:
    entries = re.split(r"^(?=[\w.-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked()) > 50
    for entry in entries:
        assert re.fullmatch(r"[\w.-]+==[\w.+!-]+( \\\n    --hash=sha256:[0-9a-f]{64})+\n", entry), entry
    assert "://" not in LOCK


def test_both_wheels_of_opencv_are_locked_to_one_version() -> None:
    versions = locked()
    assert versions["opencv-python"] == versions["opencv-python-headless"]


def test_everything_imports_without_a_network_and_asks_for_none() -> None:
    """albumentations asks the package index for its newest version at import, unless told not to."""
    program = """
import socket, sys
asked = []
def refuse(*args, **keywords):
    asked.append(args)
    raise OSError("there is no network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
import importlib
import ssd.training.trainer, ssd.evaluation.metrics.coco, ssd.data.augment.transforms
from ssd.commands.main import COMMANDS
for command in COMMANDS:
    importlib.import_module(f"ssd.commands.{command.replace('-', '_')}")
assert "albumentations" in sys.modules
print(len(asked))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "0"


def wants(name: str, extras: frozenset[str] = frozenset()) -> Iterator[Requirement]:
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in extras or {""}):
            yield requirement


@pytest.mark.parametrize("extra", [*PROJECT["optional-dependencies"]])
def test_the_packages_of_an_extra_fit_to_each_other(extra: str) -> None:
    """Each installed package of the extra, and whatever it needs in turn, has what it asks for."""
    open_ends = [Requirement(text) for text in PROJECT["optional-dependencies"][extra]]
    if any(not is_installed(requirement.name) for requirement in open_ends):
        pytest.skip(f"the extra {extra} is not installed")
    seen: set[tuple[str, frozenset[str]]] = set()
    while open_ends:
        requirement = open_ends.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        assert is_installed(requirement.name), f"{requirement} is missing"
        found = metadata.version(requirement.name)
        assert requirement.specifier.contains(found, prereleases=True), f"{requirement}, but {found} is installed"
        if key not in seen:
            seen.add(key)
            open_ends += wants(requirement.name, key[1])


def is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


# summary counts with the dispatcher, which has no public home yet; training and detecting do without.
PRIVATE = {"layers.py": {"torch.utils._python_dispatch", "torch.utils._pytree"}}
# Tried before use, with the public way where they are gone.
TRIED = {
    "prepacked.py": {"torch.ops.mkldnn._reorder_convolution_weight", "torch.ops.mkldnn._convolution_pointwise"},
    "winograd.py": {"torch._nnpack_spatial_convolution", "torch._nnpack_available"},
    "product_rates.py": {"torch._int_mm"},
}


# Functions of our own in autograd, in today's form; the plain layer is beside each as its twin.
FUNCTIONS = {"convolutions.py", "predictor.py"}


def test_nothing_private_of_torch_and_no_function_of_our_own_in_autograd_is_used_but_what_is_listed() -> None:
    """Such code is what stopped the older SSD projects with a new PyTorch."""
    for path in sorted((CHECKOUT / "ssd").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                name = ast.unparse(node)
                is_private = re.match(r"torch(\.\w+)*\._(?!_)", name) and name not in TRIED.get(path.name, ())
                assert not is_private, f"{path.name}:{node.lineno} uses {name}"
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base) for base in node.bases]
                is_function = any(base.endswith("autograd.Function") for base in bases)
                assert not is_function or path.name in FUNCTIONS, f"{path.name}:{node.lineno}"
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
                allowed = PRIVATE.get(path.name, set())
                assert "._" not in (node.module or "") or node.module in allowed, f"{path.name}: {node.module}"
