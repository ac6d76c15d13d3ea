import importlib.util
import subprocess
import sys

import pytest
import torch
import torchvision

from ssd.multibox import nms as module
from ssd.multibox.nms import nms


@pytest.fixture
def fresh():
    module._operator.cache_clear()
    yield
    module._operator.cache_clear()


def boxes_and_scores(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    corners = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    sides = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 0.3
    return torch.cat([corners, corners + sides], dim=1), torch.rand(count, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("count", [0, 1, 200])
def test_it_keeps_what_torchvision_keeps(count):
    boxes, scores = boxes_and_scores(count)
    kept = nms(boxes, scores, 0.45)
    assert torch.equal(kept, torchvision.ops.nms(boxes, scores, 0.45))
    assert count < 2 or 0 < len(kept) < count


@pytest.mark.parametrize("found", [None, "elsewhere"])
def test_without_the_library_the_whole_package_is_used(found, tmp_path, monkeypatch, fresh):
    if found is not None:  # a library that does not load
        (tmp_path / "_C.so").write_bytes(b"no library")
        found = importlib.util.spec_from_file_location("torchvision", tmp_path / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    assert module._operator() is torchvision.ops.nms
    boxes, scores = boxes_and_scores(20)
    assert torch.equal(nms(boxes, scores, 0.3), torchvision.ops.nms(boxes, scores, 0.3))


def test_torchvision_can_be_imported_afterwards():
    code = (
        "import torch, sys; from ssd.multibox.nms import nms; boxes = torch.tensor([[0., 0, 1, 1], [0, 0, 1, 0.9]]);"
        "kept = nms(boxes, torch.tensor([0.5, 0.6]), 0.5).tolist(); before = 'torchvision' in sys.modules;"
        "import torchvision; print(kept, before, torchvision.ops.nms(boxes, torch.tensor([0.5, 0.6]), 0.5).tolist())"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "[1] False [1]"
