"""A check that a script can be imported by data workers without running again."""

import ast
import sys
import traceback
from pathlib import Path

from ssd.errors import DataWorkerError

_PROBLEM = 'this script starts anew in every data worker, because it lacks `if __name__ == "__main__":`'
_REMEDY = "Put what trains into a function, call it below that line, or set data.workers=0."


def check_main_guard() -> None:
    """Refuse to start workers from the top level of a script without a main guard: each would run the script again.

    Raises:
        DataWorkerError: names the script and the line.
    """
    for frame, line in traceback.walk_stack(None):
        name, path = frame.f_globals.get("__name__"), frame.f_globals.get("__file__")
        if frame.f_code.co_name != "<module>" or path is None:
            continue
        # In a worker the script runs as `__mp_main__`; with a guard it would not have come here.
        if name == "__mp_main__" or (name == "__main__" and _is_script() and not _is_guarded(Path(path), line)):
            raise DataWorkerError(_PROBLEM, place=f"{path}:{line}", remedy=_REMEDY)


def _is_script() -> bool:
    """Whether workers would run the main module from its file; a module started by `-m` is imported by name."""
    return getattr(sys.modules["__main__"], "__spec__", None) is None


def _is_guarded(path: Path, line: int) -> bool:
    """Whether the top-level statement around this line is an `if` on `__name__`; true if the source is unreadable."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True
    statement = next((node for node in tree.body if node.lineno <= line <= (node.end_lineno or node.lineno)), None)
    if not isinstance(statement, ast.If):
        return statement is None
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test))
