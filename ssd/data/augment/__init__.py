"""Augmentation of section 2.2: crop, expansion, mirror, colours."""
