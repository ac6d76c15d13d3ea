"""Run in an environment without PyTorch: detects in images with each engine, and saves what was found as JSON lines.

    python without_torch.py GRAPH OUTPUT_FOLDER IMAGE...

Also prints what is measured: seconds of the import, megabytes of memory.
"""

import json
import resource
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

start = time.perf_counter()
import ssd.light  # noqa: E402
from ssd.light.plain_file import read_facts  # noqa: E402

IMPORT_SECONDS = time.perf_counter() - start


def ncnn_engine(graph: Path, folder: Path):
    """The graph converted by pnnx and computed by ncnn, in fp32; one image at a time."""
    import ncnn
    import numpy as np

    (home,) = find_spec("pnnx").submodule_search_locations
    copied, side = folder / "m.onnx", read_facts(graph).input_size
    copied.write_bytes(graph.read_bytes())
    command = [Path(home) / "pnnx", copied, f"inputshape=[1,3,{side},{side}]", "fp16=0"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    network = ncnn.Net()
    network.opt.num_threads = 1
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
    network.opt.use_bf16_storage = False
    network.load_param(str(folder / "m.ncnn.param"))
    network.load_model(str(folder / "m.ncnn.bin"))

    def run(images):
        found = []
        for image in images:
            extractor = network.create_extractor()
            extractor.input("in0", ncnn.Mat(image))
            found.append([np.array(extractor.extract(name)[1]) for name in ("out0", "out1")])
        boxes, scores = zip(*found, strict=True)
        return np.stack(boxes), np.stack(scores)

    return run


def main() -> None:
    graph, folder, *images = map(Path, sys.argv[1:])
    assert find_spec("torch") is None, "this environment has PyTorch"
    detectors = {name: ssd.light.load(graph, backend=name, threads=1) for name in ("onnxruntime", "opencv")}
    detectors["onnxruntime"].detect(images[0])
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if find_spec("ncnn") and find_spec("pnnx"):
        detectors["ncnn"] = ssd.light.LightDetector(read_facts(graph), ncnn_engine(graph, folder))
    for name, detector in detectors.items():
        lines = (detector.detect(image).to_json() + "\n" for image in images)
        (folder / f"{name}.jsonl").write_text("".join(lines))
    assert "torch" not in sys.modules
    print(json.dumps({"import_seconds": IMPORT_SECONDS, "megabytes": megabytes, "engines": list(detectors)}))


if __name__ == "__main__":
    main()
