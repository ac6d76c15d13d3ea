"""What is installed, what is broken, and the command that mends it."""
