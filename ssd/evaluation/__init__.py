"""Detections against ground truth: one pass over a data set, figures, texts and the page."""
