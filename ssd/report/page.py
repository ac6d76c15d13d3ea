"""Renders a page as one HTML file without scripts, network access or other files.

Its Content-Security-Policy allows only its own styles and the images inside it, so a class name that is a script does
not run even if escaping failed.
"""

import datetime
import functools
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from ssd.errors import ArgumentError
from ssd.report.blocks import Page
from ssd.system.files import write_atomic


def render(page: Page) -> str:
    """The page as HTML text."""
    template, style = _template()
    html: str = template.render(page=page, style=style)
    return html


def write_page(page: Page, path: str | Path) -> Path:
    """Write the page atomically.

    Raises:
        SSDError: the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"cannot be made ({error.strerror})", place=path.parent, remedy="Name another.") from None
    # A class name may have half of a surrogate pair, which JSON allows but UTF-8 does not.
    write_atomic(path, render(page).encode("utf-8", errors="replace"))
    return path


def check_page_name(path: str | Path | None) -> None:
    """Check before the work that a page is named as one; None stands for no page.

    Raises:
        ArgumentError: the name does not end in .html or .htm.
    """
    if path is not None and not is_page_name(path):
        raise ArgumentError(f"{str(path)!r} is not an .html file", place="report", remedy="Name an .html file.")


def check_figures_name(path: str | Path | None) -> None:
    """Check before the work that figures, which are JSON, are not named as a page; None stands for no file.

    Raises:
        ArgumentError: they are.
    """
    if path is not None and is_page_name(path):
        raise ArgumentError(f"{str(path)!r} is for the figures, as JSON", place="figures", remedy="Name a .json file.")


def is_page_name(path: str | Path) -> bool:
    """Whether a file's name is that of a page."""
    return Path(path).suffix.lower() in (".html", ".htm")


def made_by(version: str) -> str:
    """The footer of a page."""
    now = datetime.datetime.now().astimezone()
    return f"ssd {version}, {now:%Y-%m-%d %H:%M %Z}"


@functools.cache
def _template() -> tuple[Template, Markup]:
    here = Path(__file__).parent
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((here / "page.html").read_text(encoding="utf-8"))
    return template, Markup((here / "page.css").read_text(encoding="utf-8"))
