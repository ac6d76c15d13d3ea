"""The pages as a real browser sees them."""

from pathlib import Path

import pytest

from ssd.report.page import render, write_page
from ssd.training.page import training_page
from tests.report.browser import open_page
from tests.report.made import evaluation, train_rows, val_rows
from tests.report.pages import Tree


def test_a_browser_opens_the_page_without_a_word_in_its_console(tmp_path: Path) -> None:
    path = write_page(evaluation().page(), tmp_path / "page.html")
    opened = open_page(path, tmp_path / "profile")
    assert opened.console == []
    assert Tree(opened.html).ids() == Tree(path.read_text()).ids()


def test_even_an_unescaped_script_would_not_run(tmp_path: Path) -> None:
    script = "<script>document.title = 'it ran'</script></body>"
    path = tmp_path / "page.html"
    path.write_text(render(training_page("demo", train_rows(), val_rows())).replace("</body>", script))
    opened = open_page(path, tmp_path / "profile")
    assert "<title>Training: demo</title>" in opened.html
    assert any("Content Security Policy" in line for line in opened.console)  # so the console is really read


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_sticks_out_of_the_window(tmp_path: Path, width: int) -> None:
    """Tables scroll inside themselves; the page itself never scrolls sideways."""
    names = tuple(f"a class with quite a long name {number}" for number in range(3))
    inner = render(evaluation(names=names).page())
    inner = inner.replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';")
    measure = "<script>document.title = `${document.documentElement.scrollWidth}`</script></body>"
    (tmp_path / "inner.html").write_text(inner.replace("</body>", measure))
    # Headless Chromium has no window narrower than 500 pixels; a frame has.
    frame = f'<iframe id="f" src="inner.html" style="width:{width}px;height:900px;border:0"></iframe>'
    read = "<script>f.onload = () => document.title = f.contentDocument.title</script>"
    outer = tmp_path / "outer.html"
    outer.write_text(f"<title></title>{frame}{read}")
    opened = open_page(outer, tmp_path / "profile", "--allow-file-access-from-files", "--virtual-time-budget=5000")
    assert f"<title>{width}</title>" in opened.html
