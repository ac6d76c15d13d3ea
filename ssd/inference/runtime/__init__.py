"""What runs a network or an exported graph: PyTorch, OpenVINO, ONNX Runtime."""
