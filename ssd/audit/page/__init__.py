"""The page of a data set: balance, sizes, what default boxes reach, problems with their images."""
