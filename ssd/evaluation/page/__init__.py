"""The HTML page of an evaluation: curves, confusions, mistakes with their images."""
