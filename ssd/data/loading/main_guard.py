"""A check that a script can be imported again, which every data worker does before it starts."""

import ast
import sys
import traceback
from pathlib import Path

from ssd.errors import DataWorkerError

_PROBLEM = 'this script starts anew in every data worker, because it lacks `if __name__ == "__main__":`'
_REMEDY = "Put what trains into a function, call it below that line, or set data.workers=0."


def check_main_guard() -> None:
    """Refuse to start workers from the top level of a script without a guard, where each would run the script again.

    Raises:
        DataWorkerError: names the script and the line.
    """
    for frame, line in traceback.walk_stack(None):
        name, path = frame.f_globals.get("__name__"), frame.f_globals.get("__file__")
        if frame.f_code.co_name != "<module>" or path is None:
            continue
        # In a worker the script runs as `__mp_main__`; there the guard, if there were one, would have kept it out.
        if name == "__mp_main__" or (name == "__main__" and _is_script() and not _is_guarded(Path(path), line)):
            raise DataWorkerError(_PROBLEM, place=f"{path}:{line}", remedy=_REMEDY)


def _is_script() -> bool:
    """Whether workers would run the main module from its file; one that was started by `-m` is found by its name."""
    return getattr(sys.modules["__main__"], "__spec__", None) is None


def _is_guarded(path: Path, line: int) -> bool:
    """Whether the top-level statement around this line is an `if` that asks for `__name__`; true where none can say."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True
    statement = next((node for node in tree.body if node.lineno <= line <= (node.end_lineno or node.lineno)), None)
    if not isinstance(statement, ast.If):
        return statement is None
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test))
