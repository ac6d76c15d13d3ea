"""One module a command: arguments in, one call of the library, what is printed."""
