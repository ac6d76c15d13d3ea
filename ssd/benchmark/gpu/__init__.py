"""A check of correctness and speed on a CUDA device, in a few minutes, by one command."""
