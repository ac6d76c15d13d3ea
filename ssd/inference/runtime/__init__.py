"""Runtimes of networks and exported graphs: PyTorch, OpenVINO, ONNX Runtime."""
