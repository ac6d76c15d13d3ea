"""Weights files: this package's own format, the published ones, and where they are found."""
