"""Speed and memory side by side with torchvision, in one run."""
