import dataclasses
import resource
import sys

import pytest
import torch

from ssd.benchmark import memory
from ssd.errors import SSDError


def test_the_peak_of_memory_is_in_megabytes():
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert memory.peak_megabytes(torch.device("cpu")) == pytest.approx(
        kilobytes / (2**20 if sys.platform == "darwin" else 1024), rel=0.05
    )


def test_on_cuda_the_memory_of_the_card_counts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 2**20 * (device.index + 5))
    assert memory.peak_megabytes(torch.device("cuda:1")) == 6


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(small, tmp_path):
    jpeg = tmp_path / "small.jpg"
    jpeg.write_bytes(small.jpeg)
    for side in ("ours", "torchvision"):
        assert 200 < memory._in_a_process("detect_12mpixel", side, small, jpeg) < 4000


@pytest.mark.slow
def test_a_process_that_fails_is_named(small, tmp_path):
    broken = dataclasses.replace(small, weights=tmp_path / "none.pth")
    jpeg = tmp_path / "small.jpg"
    jpeg.write_bytes(small.jpeg)
    with pytest.raises(SSDError, match="memory, detect_12mpixel, ours"):
        memory._in_a_process("detect_12mpixel", "ours", broken, jpeg)
