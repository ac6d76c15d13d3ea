"""The site: what it says is true of the code, it builds without warnings, and the notebook runs."""

import dataclasses
import importlib.util
import operator
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ssd.commands.main import COMMANDS
from ssd.experiment import config_file as configs
from ssd.inference.detector import Detector

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
WRITTEN = (
    *(ROOT / f"{name}.md" for name in ("README", "RESULTS", "CONTRIBUTING", "SECURITY")),
    *sorted(DOCS.glob("*.md")),
)
# A command with its options: `ssd train ...`, `python tools/train.py ...`, with or without torchrun.
COMMAND = re.compile(r"(?:^|\s)(?:ssd\s+|(?:\.venv/bin/)?(?:python|torchrun)(?: --[-\w]+(?: [\w:]+)?)* +tools/)(.*)")


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """`docs/hooks.py`, which MkDocs loads by its path."""
    pytest.importorskip("mkdocs", reason='needs mkdocs: pip install "ssd-vgg[docs]"')
    return _load(DOCS / "hooks.py")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# What the pages say


def test_every_config_key_has_a_row_with_its_default_and_its_meaning(hooks: ModuleType) -> None:
    rows = [line for line in hooks.config_page().splitlines() if line.startswith("| <code>")]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    keys = [key.removeprefix("<code>").removesuffix("</code>") for key, *_ in cells]
    assert sorted(keys) == sorted(_keys())
    assert [key for key, cell in zip(keys, cells, strict=True) if not cell[-1]] == []


def test_the_config_reference_shows_both_modes(hooks: ModuleType) -> None:
    row = next(line for line in hooks.config_page().splitlines() if "loss.negative_iou" in line)
    assert "<code>0.4</code>, paper: <code>1.0</code>" in row


def _keys() -> Iterator[str]:
    for field in dataclasses.fields(configs.Config):
        value = operator.attrgetter(field.name)(configs.Config())
        if dataclasses.is_dataclass(value):
            yield from (f"{field.name}.{inner.name}" for inner in dataclasses.fields(value))
        else:
            yield field.name


def test_the_command_reference_has_every_commands_help(hooks: ModuleType) -> None:
    page = hooks.commands_page()
    for name in COMMANDS:
        assert f"## {name}\n" in page
        assert hooks.help_of(name).startswith("usage:")


def test_every_public_module_is_on_exactly_one_page(hooks: ModuleType) -> None:
    listed = [module for page in hooks.PAGES for module in hooks.modules_of(page)]
    files = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / "ssd").rglob("*.py"))
    names = {".".join(path.parts).removesuffix(".__init__") for path in files if path.parts[1] != "commands"}
    public = {name for name in names if not any(part.startswith("_") for part in name.split("."))} - {"ssd"}
    assert sorted(listed) == sorted(public)


def test_links_between_files_become_links_between_pages(hooks: ModuleType) -> None:
    text = "[a](SECURITY.md#top) [b](https://example.org) [`c.py`](ssd/c.py) [d](docs/train.md) ![e](docs/images/e.jpg)"
    expected = "[a](security.md#top) [b](https://example.org) `c.py` [d](train.md) ![e](docs/images/e.jpg)"
    assert hooks.relink(text, ROOT) == expected
    assert hooks.relink("[a](../RESULTS.md) [b](train.md#x)", DOCS) == "[a](results.md) [b](train.md#x)"


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_commands_in_the_pages_exist_with_their_options(page: Path, hooks: ModuleType) -> None:
    wrong = []
    for name, words in _commands(page):
        if name not in COMMANDS:
            wrong.append(f"no command {name!r}")
            continue
        usage = hooks.help_of(name)
        known = set(re.findall(r"--[a-z][-a-z0-9]*", usage))
        wrong += [f"{name} has no {word}" for word in words if word.startswith("--") and word not in known]
        for before, word in zip(["", *words], words, strict=False):
            its_value = before.startswith("--") and re.search(rf"{before} [A-Z]", usage)
            if "=" in word and not word.startswith("-") and not its_value:
                configs.load(None, [word])  # raises where the key or the value is wrong
    assert wrong == []


def _commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]
    lines += re.findall(r"`((?:ssd |python tools)[^`\n]*)`", text)
    for line in lines:
        found = COMMAND.search(line.partition(" #")[0])
        words = shlex.split(found.group(1)) if found else []
        if words and not words[0].startswith(("-", "NAME", "X", "COMMAND", "...")):
            yield words[0].removesuffix(".py").replace("_", "-"), words[1:]


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_python_in_the_pages_is_python_and_imports_what_exists(page: Path) -> None:
    import ssd

    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        compile(block, str(page), "exec")
        for name in re.findall(r"\bssd\.([a-z_]+)\(", block):
            assert name in ssd.__all__, f"{page.name}: ssd.{name}"


# The site


def test_every_page_of_the_menu_is_there(hooks: ModuleType) -> None:
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*") if path.is_file()} | set(hooks.made_pages())
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    assert set(re.findall(r"[\w/-]+\.md", menu)) - there == set()


@pytest.mark.parametrize(
    "page", [*WRITTEN, ROOT / "CHANGELOG.md", DOCS / "quickstart.ipynb"], ids=lambda page: page.name
)
def test_every_link_leads_to_a_file_and_a_heading_as_on_a_forge(page: Path) -> None:
    wrong = []
    for target, anchor in re.findall(
        r"\]\((?!https?:|mailto:)([^)#\s]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8")
    ):
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            wrong.append(f"{target}#{anchor}")
    assert wrong == []


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_nothing_in_a_page_needs_the_site_to_be_readable(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^(?:===|!!!|\?\?\?) .*|^:::.*|<!-- table: \w+ -->\n<!-- end -->", text, re.M) == []


def test_the_documented_sigma_of_box_voting_is_the_default() -> None:
    sigma = configs.Config().model.box_voting
    assert f"exp(-(1 - IoU)² / {sigma})" in (DOCS / "how.md").read_text(encoding="utf-8")
    assert f"({sigma} is what training by default writes" in str(Detector.detect.__doc__)


@pytest.mark.slow  # 60 networks are built and counted
def test_the_tables_of_the_networks_page_are_what_the_code_counts() -> None:
    pytest.importorskip("timm", reason='needs timm: pip install "ssd-vgg[backbones]"')
    page = (DOCS / "networks.md").read_text(encoding="utf-8")
    assert _load(DOCS / "networks.py").filled(page) == page


def test_pre_commit_runs_the_ruff_of_the_extra_dev() -> None:
    hooks_file = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert set(re.findall(r"ruff==[\d.]+", hooks_file)) == set(re.findall(r"ruff==[\d.]+", project))


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing(hooks: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("material", reason='needs mkdocs-material: pip install "ssd-vgg[docs]"')
    pytest.importorskip("mkdocstrings", reason='needs mkdocstrings: pip install "ssd-vgg[docs]"')
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stderr
    pages = {path.relative_to(tmp_path).as_posix(): path.read_text("utf-8") for path in tmp_path.rglob("*.html")}
    remote = re.compile(r"<(?:script|img|iframe|link|source)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^\" >]*")
    assert {name: found for name, page in pages.items() if (found := remote.findall(page))} == {}
    assert "fonts.g" not in "".join(pages.values())
    # The comment behind a field is its documentation.
    assert "Column 0 is background." in pages["reference/shared.html"]
    assert "Seconds a worker" not in pages["how.html"]


# The notebook and the images


def _run_notebook(folder: Path, size: str | None) -> list[dict[str, object]]:
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat, of the extra dev")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient, of the extra dev")
    pytest.importorskip("ipykernel", reason="needs ipykernel, of the extra dev")
    notebook = nbformat.read(DOCS / "quickstart.ipynb", as_version=4)
    if size is not None:
        (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        cell.source = size
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.filterwarnings("default")  # the kernel's own: a process beside this one, and sockets it closes late
def test_the_notebook_runs_from_first_cell_to_last(tmp_path: Path) -> None:
    outputs = _run_notebook(tmp_path, "IMAGES, EPOCHS = 16, 1")
    shown = [kind for output in outputs for kind in output.get("data", {}) if kind.startswith("image/")]
    assert shown == ["image/jpeg", "image/png", "image/png"]
    assert "'AP50'" in outputs[-1]["data"]["text/plain"]
    assert (tmp_path / "runs" / "quickstart" / "best.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_notebook_as_it_stands_finds_the_shapes(tmp_path: Path) -> None:
    figures = _run_notebook(tmp_path, None)[-1]["data"]["text/plain"]
    found = re.search(r"'AP50': ([\d.]+)", figures)
    assert found is not None
    assert float(found.group(1)) > 0.5


def test_the_stored_notebook_was_run_to_its_end_without_an_error(hooks: ModuleType) -> None:
    page = hooks.notebook_pages(DOCS / "quickstart.ipynb")["quickstart.md"]
    assert page.count("![") == 3
    assert "'AP50'" in page
    assert "Traceback" not in page


@pytest.mark.slow
def test_the_images_of_the_page_are_drawn_by_the_code(bccd: Path, tmp_path: Path) -> None:
    from ssd.model.factory import from_settings, settings_for
    from ssd.weights.native import save_weights

    settings = settings_for(("Platelets", "RBC", "WBC"), input_size=300, backbone="vgg11_bn", width=0.05)
    save_weights(tmp_path / "w.safetensors", from_settings(settings).state_dict(), settings)
    command = [sys.executable, str(DOCS / "draw.py"), str(bccd), "--weights", str(tmp_path / "w.safetensors")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    drawn = subprocess.run(
        [*command, "--output", str(tmp_path / "out")],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert drawn.returncode == 0, drawn.stderr
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "README.md", DOCS / "how.md"))
    used = re.findall(r"images/(\w+\.jpg)", pages)
    assert sorted(set(used)) == sorted(path.name for path in (tmp_path / "out").iterdir())
