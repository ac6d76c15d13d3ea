"""From an image to its detections. Needs no training code."""
