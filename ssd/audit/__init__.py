"""The check of a data set: its problems, and the objects that the default boxes reach."""
