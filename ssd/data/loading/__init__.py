"""Samples to batches: order, workers, collation."""
