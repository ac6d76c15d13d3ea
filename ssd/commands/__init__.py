"""Command lines: arguments in, one library call, what is printed."""
