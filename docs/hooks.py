"""Pages that MkDocs makes from the project itself, so that they cannot go stale.

The config reference comes from `ssd/experiment/config.py`, the command reference from the commands' own `--help`,
the notebook from its cells; the pages of the checkout (RESULTS.md and others) are taken as they are.
"""

import ast
import base64
import contextlib
import dataclasses
import html
import inspect
import io
import json
import operator
import os
import re
from importlib import import_module
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

# Page of the site -> file of the checkout.
TAKEN = {
    "results.md": "RESULTS.md",
    "security.md": "SECURITY.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "reliability-table.md": "tests/reliability/README.md",
}
# File of the checkout -> the page of the site that shows it; a link to any other file outside docs/ becomes its name.
SHOWN_ON = {
    **{name: page for page, name in TAKEN.items()},
    "README.md": "index.md",
    "docs/quickstart.ipynb": "quickstart.md",
    "ssd/experiment/config.py": "reference/config.md",
    "ssd/commands": "reference/commands.md",
}
# Page of the reference -> title and packages. A module of no package named here stands on the page `shared`.
PAGES = {
    "python": ("Functions: train, evaluate, compare, why, export, check_data, review, shrink", ("api",)),
    "detecting": ("Detecting", ("inference", "light", "images")),
    "multibox": ("Multibox: default boxes, matching, loss, post-processing", ("multibox",)),
    "model": ("Networks", ("model", "summary")),
    "data": ("Data", ("data",)),
    "training": ("Training", ("training", "experiment")),
    "metrics": ("Evaluation", ("evaluation",)),
    "weights": ("Weights", ("weights",)),
    "runtime": ("Export", ("exporters",)),
    "audit": ("Dataset doctor", ("audit",)),
    "report": ("Pages and benchmark", ("report", "demo", "benchmark")),
    "shared": ("Shared modules and system", ()),
}
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the made pages to those on disk."""
    for place, content in made_pages().items():
        files.append(File.generated(config, place, content=content))
    return files


def made_pages() -> dict[str, str | bytes]:
    """Every page and image that is not on disk, under its place in the site."""
    pages: dict[str, str | bytes] = {
        "reference/config.md": config_page(),
        "reference/commands.md": commands_page(),
    }
    pages |= api_pages()
    pages |= {page: taken_page(ROOT / name) for page, name in TAKEN.items() if (ROOT / name).is_file()}
    return pages | notebook_pages(ROOT / "docs" / "quickstart.ipynb")


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turn links between files of the checkout, which a forge follows, into links between pages of the site."""
    if page.file.src_uri in TAKEN or page.file.src_uri.startswith("reference/"):
        return markdown
    return relink(markdown, ROOT / "docs")


def taken_page(path: Path) -> str:
    """A file of the checkout as a page."""
    return relink(path.read_text(encoding="utf-8"), path.parent).replace("](docs/images/", "](images/")


def relink(markdown: str, folder: Path) -> str:
    """The text of a file in `folder`: links lead to pages; what has no page keeps its name alone."""

    def to_page(link: re.Match[str]) -> str:
        text, target, anchor = link.groups(default="")
        path = Path(os.path.normpath(folder / target))
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else Path(target).as_posix()
        page = SHOWN_ON.get(name)
        if page is None and name.startswith("docs/"):
            page = name.removeprefix("docs/")
        return f"[{text}]({page}{anchor})" if page else f"`{text.strip('`')}`"

    return _LINK.sub(to_page, markdown)


# The API reference


def api_pages() -> dict[str, str]:
    """The pages of the reference, each with its public modules."""
    return {
        f"reference/{page}.md": "\n\n".join([f"# {title}", *(f"::: {module}" for module in modules)]) + "\n"
        for page, (title, _) in PAGES.items()
        if (modules := modules_of(page))
    }


def modules_of(page: str) -> list[str]:
    """The public modules of a page, in the order of `PAGES`, then by name; commands have a page of their own."""
    homes = {name: page for page, (_, names) in PAGES.items() for name in names}
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "ssd").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if len(parts) == 1 or parts[1] == "commands" or any(part.startswith("_") for part in parts):
            continue
        if homes.get(parts[1], "shared") == page:
            found.setdefault(parts[1], []).append(".".join(parts))
    order = [*PAGES[page][1], *(name for name in found if name not in homes)]
    return [module for name in order for module in found.get(name, [])]


# The config reference


def config_page() -> str:
    """Every key of `ssd/experiment/config.py`: what it accepts, its default, that of `mode: paper`, and its meaning."""
    from ssd.experiment.config import Config
    from ssd.experiment.config_file import load

    meanings: dict[str, dict[str, str]] = {}
    for place in ("settings.py", "experiment/config.py"):
        meanings |= _meanings((ROOT / "ssd" / place).read_text(encoding="utf-8"))
    defaults, paper = load(), load(None, ["mode=paper"])
    groups = {field.name: type(getattr(defaults, field.name)) for field in dataclasses.fields(Config)}
    groups = {name: kind for name, kind in groups.items() if dataclasses.is_dataclass(kind)}
    parts = [
        "# Config reference",
        "A YAML file has these keys; on the command line write `group.key=value`, and `null` for nothing. An unknown "
        "key is an error that names the nearest known one. A run saves its config, every key filled in, as "
        "`config.yaml`.",
        "Where two defaults stand, the second is that of `mode: paper`.",
        "## Top level",
        _table("", [key for key in meanings["Config"] if key not in groups], meanings["Config"], (defaults, paper)),
    ]
    for group, kind in groups.items():
        parts += [f"## {group}", inspect.getdoc(kind) or ""]
        parts.append(_table(f"{group}.", list(meanings[kind.__name__]), meanings[kind.__name__], (defaults, paper)))
    return "\n\n".join(parts) + "\n"


def _meanings(source: str) -> dict[str, dict[str, str]]:
    """Class -> key -> the comment that stands above the key."""
    lines = source.splitlines()
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(source).body:
        for field in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                first = field.lineno - 1
                while lines[first - 1].lstrip().startswith("#"):
                    first -= 1
                comment = " ".join(line.lstrip(" #") for line in lines[first : field.lineno - 1])
                found.setdefault(node.name, {})[field.target.id] = comment
    return found


def _table(prefix: str, keys: list[str], meanings: dict[str, str], configs: tuple[object, object]) -> str:
    from ssd.experiment.key_types import described, key_type

    rows = ["| key | values | default | meaning |", "| --- | --- | --- | --- |"]
    for key in keys:
        name = prefix + key
        default, paper = (_code(_yaml(operator.attrgetter(name)(config))) for config in configs)
        both = default if default == paper or name == "mode" else f"{default}, paper: {paper}"
        rows.append(f"| {_code(name)} | {described(key_type(name.split('.')))} | {both} | {meanings[key]} |")
    return "\n".join(rows)


def _yaml(value: object) -> str:
    if isinstance(value, tuple):
        return json.dumps([round(item, 4) if isinstance(item, float) else item for item in value])
    return value if isinstance(value, str) else json.dumps(value)


def _code(text: str) -> str:
    return f"<code>{html.escape(text).replace('|', '&#124;')}</code>"


# The command reference


def commands_page() -> str:
    """What `ssd COMMAND --help` prints, for every command."""
    from ssd.commands.main import COMMANDS

    parts = [
        "# Command reference",
        "`ssd NAME ...` where the package is installed, `python tools/NAME.py ...` in a checkout: the same commands. "
        "Exit codes: 0 done; 1 findings (`check-data`) or a result that was refused; 2 a mistake that one line "
        "explains; 130 and 143 stopped by Ctrl-C and SIGTERM.",
    ]
    for name, summary in COMMANDS.items():
        parts += [f"## {name}", f"{summary[0].upper()}{summary[1:]}.", f"```text\n{help_of(name)}\n```"]
    return "\n\n".join(parts) + "\n"


def help_of(name: str) -> str:
    """The help text of one command, 100 characters wide."""
    module = import_module(f"ssd.commands.{name.replace('-', '_')}")
    printed, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            module.main(["--help"])
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return printed.getvalue().rstrip()


# The notebook


def notebook_pages(path: Path) -> dict[str, str | bytes]:
    """The notebook as a page, and the images among its outputs as files."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts: list[str] = []
    pages: dict[str, str | bytes] = {}
    for cell in cells:
        source = "".join(cell["source"]).rstrip()
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            kind = next((kind for kind in ("png", "jpeg") if f"image/{kind}" in data), None)
            if kind is not None:
                image = f"images/quickstart-{len(pages) + 1}.{kind}"
                pages[image] = base64.b64decode("".join(data[f"image/{kind}"]))
                parts.append(f"![what the cell above shows]({image})")
            elif text := "".join(output.get("text", data.get("text/plain", []))).rstrip():
                parts.append(f"```text\n{text}\n```")
    return {"quickstart.md": "\n\n".join(parts) + "\n", **pages}
