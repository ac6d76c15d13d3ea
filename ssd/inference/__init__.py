"""Detection in images, without any training code."""
