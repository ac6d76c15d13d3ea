"""The jobs of the package as functions with typed results: `ssd.train`, `ssd.evaluate`, `ssd.check_data` and so on.

The commands are these functions with arguments from a shell.
"""
