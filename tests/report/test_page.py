import pytest

from ssd.errors import ArgumentError
from ssd.report.blocks import (
    Block,
    Cell,
    Facts,
    Gallery,
    Image,
    Lines,
    Page,
    Section,
    Source,
    Table,
    Text,
    Tile,
    number,
    percent,
    shaded,
)
from ssd.report.charts import Series, bar_chart, line_chart
from ssd.report.page import made_by, render, write_page
from tests.report.pages import check, read

EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"
BLOCKS: list[Block] = [
    Text(EVIL),
    Table([EVIL, "b"], [[EVIL, Cell(EVIL, bar=0.5)], ["x", Cell(EVIL, shade=0.5)]], EVIL, EVIL),
    line_chart(
        EVIL, [Series(EVIL, [0, 1], [0, 1]), Series("other", [0, 1], [1, 0])], x=EVIL, y=EVIL, marks=[(0.5, EVIL)]
    ),
    bar_chart(EVIL, [EVIL, "b"], {EVIL: [1, 2]}, x=EVIL, y=EVIL, marks=[(0.5, EVIL)]),
    Gallery([Image(b"\xff\xd8", EVIL, EVIL)], EVIL, EVIL),
    Facts([(EVIL, EVIL)], EVIL),
    Lines([EVIL], EVIL),
    Source(EVIL, EVIL),
]


def page(*blocks: Block) -> Page:
    return Page("title", "subtitle", [Section("one", "One", blocks, "intro")])


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: type(block).__name__)
def test_what_strangers_wrote_stays_text(block: Block) -> None:
    tree = read(page(block))
    assert any("alert(1)" in text for text in tree.text)


def test_title_links_tiles_and_foot_are_escaped_too() -> None:
    evil = Page(EVIL, EVIL, [], [Tile(EVIL, EVIL, EVIL)], Text(EVIL), [(EVIL, EVIL)], EVIL)
    assert "script" not in [tag for tag, _ in read(evil).tags]


def test_the_page_forbids_itself_scripts_and_the_network() -> None:
    policies = [a["content"] for tag, a in read(page()).tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_the_navigation_leads_to_every_section() -> None:
    tree = read(Page("t", "s", [Section("a", "A", []), Section("b", "B", [])]))
    assert [attributes["href"] for tag, attributes in tree.tags if tag == "a"] == ["#a", "#b"]
    assert tree.ids() == ["a", "b"]


def test_images_are_inside_the_file() -> None:
    tree = read(page(Gallery([Image(b"\x89PNG data", "a"), Image(b"\xff\xd8 data", "b")])))
    sources = [attributes["src"] for tag, attributes in tree.tags if tag == "img"]
    assert [source.split(",")[0] for source in sources] == ["data:image/png;base64", "data:image/jpeg;base64"]


def test_long_lists_are_cut_and_say_so() -> None:
    tree = read(page(Lines([f"line {number}" for number in range(9)], shown=4)))
    assert "line 3" in tree.text
    assert "line 4" not in tree.text
    assert "... and 5 more" in tree.text


def test_what_is_not_there_is_n_a() -> None:
    assert (number(None), number(float("nan")), number(0.12345), number(1.0, 1)) == ("n/a", "n/a", "0.123", "1.0")
    assert (percent(None), percent(0.5)) == ("n/a", "50.0 %")
    assert (shaded(None), shaded(1.5)) == (Cell("n/a"), Cell("1.500", bar=1.0))


def test_writing_replaces_an_older_page_and_makes_the_folder(tmp_path) -> None:
    path = write_page(page(Text("old")), tmp_path / "new" / "page.html")
    write_page(page(Text("fresh \udc80")), path)  # half a surrogate pair, as JSON allows in a class name
    assert "fresh ?" in path.read_text(encoding="utf-8")
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="file"):
        write_page(page(), tmp_path / "file" / "below" / "page.html")


def test_the_foot_names_the_version() -> None:
    assert made_by("1.2").startswith("ssd 1.2, 20")
    check(render(page()))
