"""Reading a page as a browser would: its tree, its resources, its text."""

from html.parser import HTMLParser

from ssd.report.blocks import Page
from ssd.report.page import render

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Tree(HTMLParser):
    """Collects tags with their attributes and the text of every element; complains about tags that do not close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append(data.strip())

    def ids(self) -> list[str | None]:
        """Of the sections."""
        return [attributes.get("id") for tag, attributes in self.tags if tag == "section"]

    def resources(self) -> list[str | None]:
        """Everything that a browser would fetch or run."""
        loading = {"src", "srcset", "data", "poster", "action", "background", "xlink:href"}
        found = [value for _, attributes in self.tags for key, value in attributes.items() if key in loading]
        found += [attributes.get("href") for tag, attributes in self.tags if tag in ("link", "base")]
        return [value for value in found if value is None or not value.startswith("data:image/")]

    def scripts(self) -> list[str]:
        """Tags and attributes that would run."""
        running = [tag for tag, _ in self.tags if tag in ("script", "iframe", "object", "embed", "foreignobject")]
        return running + [key for _, attributes in self.tags for key in attributes if key.startswith("on")]


def read(page: Page) -> Tree:
    return check(render(page))


def check(html: str) -> Tree:
    """Parse a page and see that it needs nothing from outside and runs nothing."""
    tree = Tree(html)
    assert tree.resources() == []
    assert tree.scripts() == []
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert "url(" not in html
    return tree
