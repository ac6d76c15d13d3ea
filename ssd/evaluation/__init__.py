"""Evaluation of a detector on a data set: metrics, texts and the page."""
