"""The floor plan in figures: `python -m tests.layout` prints them; test_layout.py holds them.

A room is a folder of `ssd/` with modules in it, a floor is a layer of the import contract in pyproject.toml, an arrow
goes from a room to another one that it imports from.
"""

import ast
import dataclasses
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any, get_type_hints

ROOT = Path(__file__).resolve().parents[1]
Graph = dict[str, set[str]]


def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module with something in it; packages are named like their folder."""
    found = {}
    for path in sorted((ROOT / "ssd").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports() -> Graph:
    """Module -> the modules of `ssd` that it imports anywhere; an import for annotations alone is none."""
    known = modules()
    return {name: {to for to in _imported(path, known) if to != name} for name, path in known.items()}


def _imported(path: Path, known: dict[str, Path]) -> set[str]:
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in named}
    return found & known.keys()


def rooms() -> dict[str, list[str]]:
    """Folder -> its modules, without the folder's own `__init__`."""
    found = defaultdict(list)
    for name, path in modules().items():
        if path.name != "__init__.py":
            found[name.rpartition(".")[0]].append(name)
    return dict(found)


def floors() -> list[list[str]]:
    """The layers of the contract, highest first, and what stands in each."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[name.strip() for name in layer.replace(":", "|").split("|")] for layer in layers]


def arrows() -> set[tuple[str, str]]:
    """Pairs of rooms of which the first imports from the second."""
    return {
        (_room(name), _room(to)) for name, targets in imports().items() for to in targets if _room(name) != _room(to)
    }


def _room(module: str) -> str:
    return module if modules_are_packages(module) else module.rpartition(".")[0]


def modules_are_packages(module: str) -> bool:
    return (ROOT / Path(*module.split(".")) / "__init__.py").is_file()


def arrows_up() -> set[tuple[str, str]]:
    """Imports from a lower floor to a higher one, and between neighbours of one floor."""
    level = {f"ssd.{name}": number for number, floor in enumerate(floors()) for name in floor}
    found = set()
    for name, targets in imports().items():
        for to in targets:
            one, other = (".".join(each.split(".")[:2]) for each in (name, to))
            if one in level and other in level and one != other and level[one] >= level[other]:
                found.add((name, to))
    return found


def circles() -> list[set[str]]:
    """Groups of modules that import each other, directly or on a way round."""
    graph = imports()
    reach: Graph = {}
    for start in graph:
        seen, waiting = set(), [start]
        while waiting:
            for to in graph[waiting.pop()] - seen:
                seen.add(to)
                waiting.append(to)
        reach[start] = seen
    found = {frozenset({start, *(to for to in reach[start] if start in reach[to])}) for start in graph}
    return [set(group) for group in found if len(group) > 1]


def names() -> dict[str, list[str]]:
    """Last part of a module's name -> the modules that have it."""
    found = defaultdict(list)
    for listed in rooms().values():
        for name in listed:
            found[name.rpartition(".")[2]].append(name)
    return dict(found)


def config_keys() -> list[str]:
    """Every key that a config file may have, dotted."""
    from ssd.experiment.config import Config

    def keys(kind: type, prefix: str = "") -> list[str]:
        hints: dict[str, Any] = get_type_hints(kind)
        found = []
        for field in dataclasses.fields(kind):
            inner = hints[field.name]
            found += keys(inner, f"{field.name}.") if dataclasses.is_dataclass(inner) else [f"{prefix}{field.name}"]
        return found

    return keys(Config)


def lines(folder: Path) -> int:
    """Lines of the modules below a folder."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*.py"))


def main() -> None:
    sizes = {
        room: sum(len(modules()[name].read_text().splitlines()) for name in held) for room, held in rooms().items()
    }
    largest = max(sizes, key=lambda room: sizes[room])
    total = lines(ROOT / "ssd")
    for what, figure in (
        ("modules", len(modules())),
        ("lines", total),
        ("rooms", len(rooms())),
        ("largest room", f"{largest}, {100 * sizes[largest] / total:.0f} %"),
        ("floors", len(floors())),
        ("arrows between rooms", len(arrows())),
        ("arrows up", len(arrows_up())),
        ("circles", len(circles())),
        ("lines of commands/", lines(ROOT / "ssd" / "commands")),
        ("config keys", len(config_keys())),
    ):
        print(f"{what:22}{figure}")


if __name__ == "__main__":
    main()
