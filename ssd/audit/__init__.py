"""The dataset doctor: what is wrong with a data set, and what the default boxes can and cannot reach in it."""
