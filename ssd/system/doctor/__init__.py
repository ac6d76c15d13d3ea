"""Checks of the installation and the machine, with the commands that fix problems."""
