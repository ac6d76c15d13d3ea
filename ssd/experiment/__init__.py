"""The config, and how the parts of a run are built from it."""
