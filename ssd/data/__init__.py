"""Data sets: folders of four kinds, named sets and drawn shapes -> samples -> batches."""

from ssd.data.annotations import Problem
from ssd.data.dataset import Dataset, open_dataset, scan
from ssd.data.drawn import shapes
from ssd.data.sources import default_split, recognise, splits

__all__ = ["Dataset", "Problem", "default_split", "open_dataset", "recognise", "scan", "shapes", "splits"]
