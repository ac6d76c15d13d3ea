"""A data set of synthetic images of shapes."""
