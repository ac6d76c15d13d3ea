"""The README beside this file is complete, and what it names is there."""

import ast
import re
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
ROWS = {"A": 29, "B": 12, "C": 14, "D": 9, "E": 5}


def table() -> dict[str, list[str]]:
    """Row -> its cells."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    found = [line.strip("|").split("|") for line in text.splitlines() if re.match(r"\| [A-E]\d+ \|", line)]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in found}


@cache
def names_in(path: str) -> set[str]:
    """Names of the tests of a file."""
    tree = ast.parse((CHECKOUT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_is_there_once_and_in_order() -> None:
    assert list(table()) == [f"{letter}{number + 1}" for letter, count in ROWS.items() for number in range(count)]


def test_every_row_says_what_happens_and_names_a_test_that_exists() -> None:
    for row, (happens, proof) in table().items():
        assert len(happens) > 15, row
        names = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", proof)
        assert names, f"{row} names no test"
        assert re.sub(r"`tests/[\w/]+\.py::test_\w+`", "", proof).strip() == "", row
        for path, name in names:
            assert name in names_in(path), f"{row}: {path} has no {name}"
