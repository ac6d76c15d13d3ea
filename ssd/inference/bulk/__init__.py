"""Detection in many images and in videos, with results on disk and resume."""
