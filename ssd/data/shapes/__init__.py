"""Images of shapes that the program draws itself."""
