"""A Griffe extension: the comment behind a field of a dataclass is its documentation."""

from pathlib import Path
from typing import Any

import griffe


class FieldComments(griffe.Extension):
    """Give every attribute without a docstring the trailing comment of its lines."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Called for every attribute Griffe has read."""
        if attr.docstring is not None or attr.lineno is None or attr.endlineno is None:
            return
        assert isinstance(attr.filepath, Path), "only a namespace package has several"
        lines = attr.lines_collection[attr.filepath][attr.lineno - 1 : attr.endlineno]
        comments = [line.rpartition("  # ")[2].strip() for line in lines if "  # " in line]
        if comments:
            text = " ".join(comments)
            attr.docstring = griffe.Docstring(text[0].upper() + text[1:] + ".", lineno=attr.lineno, parent=attr)
