"""The README beside this file is complete, and what it names is there."""

import ast
import re
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]


def table() -> list[list[str]]:
    """The cells of each row."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    found = [line.strip("|").split("|") for line in text.splitlines() if re.match(r"\| [A-Z]\d+ \|", line)]
    return [[cell.strip() for cell in cells] for cells in found]


def rows() -> list[str]:
    """A1, A2, ... as they stand there."""
    return [cells[0] for cells in table()]


@cache
def names_in(path: str) -> set[str]:
    """Names of the tests of a file."""
    tree = ast.parse((CHECKOUT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_rows_are_numbered_without_a_gap() -> None:
    numbers: dict[str, list[int]] = {}
    for row in rows():
        numbers.setdefault(row[0], []).append(int(row[1:]))
    assert sorted(numbers) == list("ABCDE")
    for letter, found in numbers.items():
        assert found == list(range(1, len(found) + 1)), letter


def test_every_row_says_what_happens_and_names_a_test_that_exists() -> None:
    for row, happens, proof in table():
        assert len(happens) > 15, row
        names = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", proof)
        assert names, f"{row} names no test"
        assert re.sub(r"`tests/[\w/]+\.py::test_\w+`", "", proof).strip() == "", row
        for path, name in names:
            assert name in names_in(path), f"{row}: {path} has no {name}"
