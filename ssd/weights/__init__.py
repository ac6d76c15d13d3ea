"""Weights made elsewhere: detectors of other codes, and the ImageNet start of the backbone."""

from ssd.weights.fetch import fetch_default
from ssd.weights.foreign import read_foreign
from ssd.weights.layout import Foreign
from ssd.weights.tensors import read_checkpoint, read_tensors

__all__ = ["Foreign", "fetch_default", "read_checkpoint", "read_foreign", "read_tensors"]
