"""Metrics: figures from ground truth and detections, independent of networks, configs and dataset classes."""
