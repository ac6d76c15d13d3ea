"""Ground truth and detections in, figures out. Nothing here knows a network, a config or a dataset class."""
