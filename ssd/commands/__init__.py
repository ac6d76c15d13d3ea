"""Command lines: each parses arguments, calls one library function, and prints."""
