"""The training loop, the training step, and the files of a run."""
