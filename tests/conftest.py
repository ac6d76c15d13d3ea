"""Shapes are checked under test: jaxtyping reads every annotation of `ssd` and beartype enforces it."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from jaxtyping import install_import_hook

install_import_hook("ssd", "beartype.beartype")

# Conversion for OpenVINO takes seconds; the tests of that backend ask for it by name.
os.environ["SSD_BACKEND"] = "torch"

# A busy machine is slow to draw and to run an example; that is no fault of the code.
hypothesis.settings.register_profile("ssd", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("ssd")


def _find_test_data() -> Path | None:
    named = os.environ.get("SSD_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images and weights that lies beside the project."""
    folder = _find_test_data()
    if folder is None:
        pytest.skip("no real test data: set SSD_TEST_DATA or put a folder shared/ next to the checkout")
    return folder


@pytest.fixture(scope="session")
def bccd(test_data: Path) -> Path:
    """Blood-cell images, a VOC folder with two zero-area objects."""
    return _require(test_data / "data" / "bccd")


@pytest.fixture(scope="session")
def tiny_coco(test_data: Path) -> Path:
    """Fifty and fifty COCO photographs."""
    return _require(test_data / "data" / "tiny_coco")


@pytest.fixture(scope="session")
def vgg_weights(test_data: Path) -> Path:
    """The 13 convolutions of VGG16, half precision."""
    return _require(test_data / "weights" / "vgg16_imagenet_features.fp16.safetensors")


def _require(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"no {path.name} in the test data folder")
    return path


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors run faster on one thread, and sums come out the same on every machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
