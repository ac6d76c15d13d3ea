import json
import re
from pathlib import Path

from ssd.training.page import training_page, write_training_page
from tests.report.made import train_rows, val_rows
from tests.report.pages import check, read


def titles(tree) -> set[str]:
    return {attributes["aria-label"] for tag, attributes in tree.tags if tag == "svg"}


def test_the_curves_of_a_run_are_all_there() -> None:
    tree = read(training_page("demo", train_rows(), val_rows(), config="name: demo", environment={"seed": 0}))
    assert tree.ids() == ["losses", "figures", "pace", "setup"]
    assert titles(tree) == {
        "Loss",
        "Box and class loss",
        "Learning rate",
        "Average precision",
        "Average precision by object size",
        "Speed",
        "Matched default boxes",
        "Objects that got their second choice",
    }
    parts = {f"{name} {when}".lstrip() for name in ("", "box", "class") for when in ("training", "validation")}
    assert parts <= set(tree.text)
    assert "after step 120, in epoch 3" in tree.text
    place = tree.text.index("best AP")
    assert tree.text[place : place + 3] == ["best AP", "0.300", "after epoch 3"]


def test_a_figure_that_nobody_foresaw_is_drawn() -> None:
    rows = [{**row, "dead_units": 0.1, "novelty": 1.0} for row in train_rows()]
    assert {"Dead units", "novelty"} <= titles(read(training_page("demo", rows, [])))


def test_time_is_epochs_once_their_length_is_known() -> None:
    assert "epoch" in read(training_page("demo", train_rows(epochs=2), [])).text
    assert "step" in read(training_page("demo", train_rows(epochs=1), [])).text


def test_a_run_of_many_steps_is_a_small_page() -> None:
    from ssd.report.page import render

    html = render(training_page("demo", train_rows(epochs=30, steps=500), val_rows(epochs=300)))
    assert len(html) < 200_000
    assert "after epoch 300" in html


def test_a_run_that_has_hardly_begun_is_a_page() -> None:
    assert "No step has been logged yet." in read(training_page("demo", [], [])).text
    assert read(training_page("demo", train_rows(1, 10), [])).ids() == ["losses", "pace"]


def test_evaluations_without_any_figure_are_n_a() -> None:
    rows = [{"step": 40, "epoch": 1, "AP": None, "AP50": None, "loss_total": 1.0}]
    tree = read(training_page("demo", train_rows(), rows))
    assert "best AP" not in tree.text
    assert [text for text in tree.text if text == "n/a"] == []  # a column without a single figure is left out
    rows.append({**rows[0], "epoch": 2, "AP": 0.5})
    assert "n/a" in read(training_page("demo", train_rows(), rows)).text


def test_the_page_is_made_of_the_files_of_the_folder(tmp_path: Path) -> None:
    run = tmp_path / "<b>run"
    run.mkdir()
    (run / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in train_rows()) + '{"cut sho')
    (run / "config.yaml").write_text("name: <script>")
    facts = {"class_names": ["<i>cat"], "command": ["train.py", "--data", "x"], "versions": {"torch": "2"}}
    (run / "environment.json").write_text(json.dumps(facts))
    path = write_training_page(run, "ssd 1")
    assert path == run / "report.html"
    tree = check(path.read_text())
    assert {"Training: <b>run", "name: <script>", "1: <i>cat", "train.py --data x", "ssd 1"} <= set(tree.text)


def test_spikes_stay_visible_when_rows_are_averaged() -> None:
    rows = [{"step": n, "epoch": 1, "loss": 1.0, "lr": 0.1} for n in range(1, 2001)]
    rows[1000]["loss"] = 1000.0
    html = training_page("demo", rows, []).sections[0].blocks[0].svg
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", html.split('class="line s1"')[1])]
    assert min(heights) < 60 < max(heights)
