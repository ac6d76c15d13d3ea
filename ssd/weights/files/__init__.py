"""Readers of weights file formats that execute nothing."""
