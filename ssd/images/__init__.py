"""Image files: decoding, preprocessing, drawing, video in and out."""
