"""Peak memory of training and of detection, each measured in a process of its own: of the card on CUDA, else its own.

`python -m ssd.benchmark.memory CASE SIDE WEIGHTS JPEG DEVICE` runs one case and prints its peak in megabytes.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from ssd.benchmark import torchvision_baseline
from ssd.benchmark.fixtures import Fixtures, draw_jpeg
from ssd.benchmark.training import our_step, torchvision_step
from ssd.errors import SSDError
from ssd.system.malloc import keep_freed_memory

CASES = {
    "train_batch8": "training steps of 8 images",
    "detect_12mpixel": "a JPEG of 4000 x 3000 pixels to detections",
}
_STEPS = 2  # the optimizer's momentum exists from the second on


def measure(fixtures: Fixtures) -> list[dict[str, Any]]:
    """Run every case with this package and with torchvision."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="ssd-benchmark-") as folder:
        jpeg = Path(folder) / "large.jpg"
        jpeg.write_bytes(draw_jpeg(4000, 3000))
        for case in CASES:
            ours, theirs = (_in_a_process(case, side, fixtures, jpeg) for side in ("ours", "torchvision"))
            rows.append({"name": case, "ours_mb": ours, "torchvision_mb": theirs, "ratio": round(theirs / ours, 3)})
    return rows


def _in_a_process(case: str, side: str, fixtures: Fixtures, jpeg: Path) -> float:
    words = [sys.executable, "-m", "ssd.benchmark.memory", case, side, str(fixtures.weights), str(jpeg)]
    words.append(str(fixtures.device))
    here = Path(__file__).resolve().parents[2]  # for a checkout that is not installed
    answer = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        raise SSDError(f"its process ended with {answer.returncode}: {last}", place=f"memory, {case}, {side}")
    return float(answer.stdout.strip().splitlines()[-1])


def run_case(case: str, side: str, fixtures: Fixtures) -> None:
    """Run one case; `fixtures.jpeg` is the large image."""
    if case == "detect_12mpixel":
        if side == "ours":
            fixtures.detector().detect(fixtures.jpeg)
        else:
            with torch.inference_mode():
                image = torchvision_baseline.decode(fixtures.jpeg).to(fixtures.device)
                fixtures.torchvision_model([torchvision_baseline.as_float(image)])
        return
    if side == "ours":
        keep_freed_memory()  # as `ssd train` does, which costs some memory
    pixels, targets = fixtures.inputs(fixtures.sizes.batch).to(fixtures.device), fixtures.targets(fixtures.sizes.batch)
    step = (our_step if side == "ours" else torchvision_step)(fixtures, pixels, targets)
    for _ in range(_STEPS):
        step()


def peak_megabytes(device: torch.device) -> float:
    """The peak memory that PyTorch held on a CUDA device; elsewhere the peak resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # Linux: getrusage would include the parent's memory at the fork
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def main(case: str, side: str, weights: str, jpeg: str, device: str) -> None:
    """Run one case and print its peak."""
    where = torch.device(device)
    run_case(case, side, Fixtures(where, Path(jpeg).read_bytes(), Path(weights)))
    print(round(peak_megabytes(where), 1))


if __name__ == "__main__":
    main(*sys.argv[1:])
