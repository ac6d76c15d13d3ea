"""Detection without PyTorch: `ssd.light.load("best.plain.onnx").detect(image)`, with NumPy, OpenCV and ONNX Runtime.

The file is what `ssd export RUN --format onnx --plain` writes. Nothing here imports torch.
"""

from ssd.light.detecting import LightDetector, load

__all__ = ["LightDetector", "load"]
