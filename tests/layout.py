"""Modules, folders and imports of the package: `python -m tests.layout` prints the figures, test_layout.py checks them.

A folder is one of `ssd/` with modules in it; the layers are those of the import contract in pyproject.toml.
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


def folders() -> dict[str, list[str]]:
    """Folder -> its modules, without the folder's own `__init__`."""
    found = defaultdict(list)
    for name, path in modules().items():
        if path.name != "__init__.py":
            found[name.rpartition(".")[0]].append(name)
    return dict(found)


def layers() -> list[list[str]]:
    """The layers of the contract, highest first, with the packages of each."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (found,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[name.strip() for name in layer.replace(":", "|").split("|")] for layer in found]


def folder_imports() -> set[tuple[str, str]]:
    """Pairs of folders of which the first imports from the second."""
    found = {(_folder(name), _folder(to)) for name, targets in imports().items() for to in targets}
    return {(one, other) for one, other in found if one != other}


def _folder(module: str) -> str:
    is_package = (ROOT / Path(*module.split(".")) / "__init__.py").is_file()
    return module if is_package else module.rpartition(".")[0]


def imports_upwards() -> set[tuple[str, str]]:
    """Imports from a lower layer to a higher one, and between packages of one layer."""
    level = {f"ssd.{name}": number for number, layer in enumerate(layers()) for name in layer}
    found = set()
    for name, targets in imports().items():
        for to in targets:
            one, other = (".".join(each.split(".")[:2]) for each in (name, to))
            if one in level and other in level and one != other and level[one] >= level[other]:
                found.add((name, to))
    return found


def cycles() -> list[set[str]]:
    """Groups of modules that import each other, directly or through others."""
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
    for listed in folders().values():
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
        folder: sum(len(modules()[name].read_text().splitlines()) for name in names)
        for folder, names in folders().items()
    }
    largest = max(sizes, key=lambda folder: sizes[folder])
    total = lines(ROOT / "ssd")
    for what, figure in (
        ("modules", len(modules())),
        ("lines", total),
        ("folders", len(folders())),
        ("largest folder", f"{largest}, {100 * sizes[largest] / total:.0f} %"),
        ("layers", len(layers())),
        ("imports between folders", len(folder_imports())),
        ("imports upwards", len(imports_upwards())),
        ("import cycles", len(cycles())),
        ("lines of commands/", lines(ROOT / "ssd" / "commands")),
        ("config keys", len(config_keys())),
    ):
        print(f"{what:26}{figure}")


if __name__ == "__main__":
    main()
