import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssd.commands.eval import main
from ssd.data.shapes.dataset import shapes
from ssd.evaluation.metrics.details import Details, Miss
from ssd.evaluation.page.drawn_images import as_jpeg, draw_mistake, side_by_side
from ssd.evaluation.page.gallery import _Drawing, spread
from ssd.images.any_image import as_image
from tests.commands.test_eval import SHAPES, make_run
from tests.evaluation.metrics.made import found, record
from tests.evaluation.page.test_page import SECTIONS
from tests.report.browser import open_page
from tests.report.pages import Tree, check
from tests.training.runs import environment

NONE = (np.zeros((0, 4), np.float32), [])
ORANGE = (255, 120, 0)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that guesses, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return make_run(Path("runs/small"), ("circle", "square", "triangle"), SHAPES)


def test_the_page_lies_beside_the_figures_and_has_every_section(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "report.html").write_text("curves")
    assert main(["--coco", "--report", "--quiet", "--precision", "fp32", "--backend", "torch"]) == 0
    assert f"report: {run / 'eval-coco.html'}" in capsys.readouterr().out
    tree = check((run / "eval-coco.html").read_text())
    assert tree.ids() == SECTIONS
    assert "shapes:\n  - 4\n  - 6\n  - 64" in " ".join(tree.text)  # the run's config
    assert ("a", {"href": "report.html"}) in tree.tags
    assert sum(tag == "img" for tag, _ in tree.tags) > 6
    assert {"read and decode", "network", "post-processing"} <= set(tree.text)


def test_an_evaluation_that_found_nothing_is_a_page(run: Path) -> None:
    words = [str(run), "--report=page.html", "--score-threshold", "1", "--quiet", "--backend", "torch"]
    assert main(words) == 0
    tree = check(Path("page.html").read_text())
    assert tree.ids() == SECTIONS
    assert any("Nothing was detected" in text for text in tree.text)
    assert any("not found at any score" in text for text in tree.text)


@pytest.mark.slow
def test_the_command_as_a_process_on_blood_cells(bccd: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ("RBC", "WBC", "Platelets"))
    tool = Path(__file__).parents[3] / "tools" / "eval.py"
    words = [str(run), "--data", str(bccd), "--split", "test", "--report", "--quiet", "--backend", "torch"]
    answer = subprocess.run(
        [sys.executable, str(tool), *words], capture_output=True, text=True, timeout=300, env=environment(), check=False
    )
    assert answer.returncode == 0, answer.stderr
    page = run / f"eval-coco.{bccd.name}-test.html"
    assert check(page.read_text()).ids() == SECTIONS
    opened = open_page(page, tmp_path / "profile")
    assert (opened.console, Tree(opened.html).ids()) == ([], SECTIONS)


def test_a_mistake_is_drawn_where_it_is() -> None:
    image = np.zeros((400, 600, 3), np.uint8)
    drawn = draw_mistake(image, (250.0, 150.0, 350.0, 250.0), "", NONE, NONE)
    assert drawn.shape == (320, 320, 3)
    # A cut of 240 pixels about the middle becomes 320: the box lies from 93 to 227.
    rows, columns = np.nonzero((drawn == ORANGE).all(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((93, 227, 93, 227), abs=2)


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 600, 400),
        (590, 390, 600, 400),
        (100, 100, 100, 100),
        (-50, -50, -10, -10),
        (700, 10, 1e30, 20),
        (0, 0, 1, 1),
    ],
)
def test_any_box_can_be_shown(box: tuple[float, float, float, float]) -> None:
    image = np.full((400, 600, 3), 200, np.uint8)
    drawn = draw_mistake(image, tuple(map(float, box)), "cat 0.90", NONE, NONE)
    assert max(drawn.shape[:2]) == 320
    assert ((drawn == ORANGE).all(axis=2)).any()


def test_tiny_images_are_enlarged_and_large_ones_made_smaller() -> None:
    for shape in ((1, 1, 3), (3, 500, 3), (3000, 2000, 3)):
        drawn = draw_mistake(np.zeros(shape, np.uint8), (0.0, 0.0, 1.0, 1.0), "a", NONE, NONE)
        assert max(drawn.shape[:2]) == 320


def test_what_overlaps_the_mistake_is_named_and_the_rest_is_not() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    near, far = (np.array([[100, 100, 200, 200]], np.float32), np.array([[50, 50, 80, 80]], np.float32))
    box = (110.0, 110.0, 210.0, 210.0)
    green = {
        name: int((draw_mistake(image, box, "", (boxes, ["truth"]), NONE) == (0, 160, 90)).all(axis=2).sum())
        for name, boxes in (("near", near), ("far", far))
    }
    # The far box is outlined just as long at a third of the size; the near one has its name on a filled label.
    assert green["near"] > 3 * green["far"] > 0


def test_no_image_fills_the_gallery_alone() -> None:
    misses = [Miss(image, (0.0, 0.0, 1.0, 1.0), 0, 0.0) for image in (7, 7, 7, 7, 8, 9, 9)]
    assert [miss.image for miss in spread(misses, 4)] == [7, 7, 8, 9]


def test_images_of_the_page_are_no_wider_than_asked() -> None:
    assert as_image(as_jpeg(np.zeros((100, 400, 3), np.uint8), widest=100)).shape == (25, 100, 3)
    assert as_image(as_jpeg(np.zeros((10, 40, 3), np.uint8), widest=100)).shape == (10, 40, 3)


def test_truth_and_detections_are_captioned() -> None:
    grey = np.full((400, 400, 3), 128, np.uint8)
    pair = side_by_side(grey, (*NONE, []), (*NONE, []))
    left, right = pair[:20, :400], pair[:20, -400:]
    assert pair.shape == (420, 808, 3)
    assert np.array_equal(pair[20:, :400], grey)
    assert (left == 255).mean() > 0.8
    assert ((left < 64).all(axis=2).sum(), (right < 64).all(axis=2).sum()) > (10, 10)
    assert not np.array_equal(left, right)  # two words


def test_a_false_alarm_of_another_class_names_the_objects_class() -> None:
    truth = record(0, [(10, 10, 60, 60), (100, 100, 160, 160)], [0, 1])
    details = Details([truth], ("cat", "dog"))
    details.update(0, found(((12, 10, 60, 60), 0.9, 1), ((150, 10, 190, 50), 0.8, 1)))
    draw = _Drawing(dataclasses.replace(shapes("val", 1, 200), records=(truth,)), details, 0.5)
    captions = [draw.false_alarm(alarm).caption for alarm in details.false_alarms(0.5)]
    assert captions == ["dog 0.90: another class, it is cat", "dog 0.80: nothing is there"]
