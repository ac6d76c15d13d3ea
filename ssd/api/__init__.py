"""The jobs of the package as functions with typed results: `ssd.evaluate`, `ssd.export`, `ssd.check_data`, `ssd.why`.

The commands are these functions with arguments from a shell.
"""
