from dataclasses import dataclass
from pathlib import Path

import pytest

import ssd
from ssd.inference.detector import Detector
from ssd.settings import Settings
from tests.exporters import made

# One resize rule each in the fast tier; the slow one has them all.
RULES = {"onnx": "float", "openvino": "uint8", "pt2": "float"}


@dataclass(frozen=True)
class Small:
    """A small exported detector."""

    format: str
    path: Path
    settings: Settings
    detector: Detector


@pytest.fixture(scope="session", params=list(made.SUFFIXES))
def small(request, tmp_path_factory) -> Small:
    for package in made.EXTRAS[request.param]:
        pytest.importorskip(package)
    settings = made.settings(RULES[request.param])
    path = made.exported(tmp_path_factory.mktemp("exported"), request.param, settings)
    return Small(request.param, path, settings, ssd.load(path, precision="fp32", trust=True))
