"""Checkpoints of other SSD implementations, recognised by their keys and converted."""
