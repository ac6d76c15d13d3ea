"""Data sets: folders, downloads and drawn shapes to samples to batches."""
