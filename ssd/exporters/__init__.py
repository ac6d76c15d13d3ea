"""Networks as ONNX, OpenVINO and PyTorch programs, compared with the weights they came from."""
