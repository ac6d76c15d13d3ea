"""The training loop, what a step does, what a run keeps."""
