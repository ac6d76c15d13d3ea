import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import ssd
from ssd.api.evaluation_data import figures_path, find_config, find_weights
from ssd.commands.eval import main, parser
from ssd.data.dataset import open_dataset
from ssd.errors import ArgumentError
from ssd.evaluation.page.drawn_images import side_by_side
from ssd.evaluation.text import figure_table
from ssd.experiment import config_file as configs
from ssd.experiment import data as experiment_data
from ssd.images.drawing import write_image as draw_file
from ssd.model.factory import from_settings, settings_for
from ssd.report.blocks import number
from ssd.report.text_table import aligned
from ssd.weights.native import save_weights
from tests.audit.made import good, voc_splits
from tests.commands.small_detector import save_small_weights, write_image
from tests.data.made import write_text, xml, xml_object

SHAPES = {"name": "small", "data": {"format": "shapes", "shapes": [4, 6, 64]}}


def make_run(folder: Path, class_names: tuple[str, ...], config: dict[str, object] | None = None) -> Path:
    """A run's folder with an untrained network, which guesses a little of everything."""
    torch.manual_seed(0)
    settings = settings_for(class_names, input_size=96, width=0.125)
    folder.mkdir(parents=True)
    save_weights(folder / "best.safetensors", from_settings(settings).state_dict(), settings, extra={})
    if config is not None:
        (folder / "config.yaml").write_text(configs.to_yaml(configs.from_dict(config)))
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The newest run, trained on shapes, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return make_run(Path("runs/small"), ("circle", "square", "triangle"), SHAPES)


def test_without_arguments_the_newest_run_meets_its_own_validation_set(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quiet", "--precision", "fp32"]) == 0
    report = json.loads((run / "eval-coco.json").read_text())
    assert (report["images"], report["split"], report["weights"]) == (6, "val", str(run / "best.safetensors"))
    assert set(report["coco"]["per_class"]) >= {"circle", "square", "triangle"}
    assert len(report["annotation_hash"]) == 16
    assert report["errors"]["missed"]["count"] >= 0
    printed = capsys.readouterr().out
    assert "circle" in printed
    assert "APs" in printed
    assert f"figures: {run / 'eval-coco.json'}" in printed


def test_both_rules_share_one_pass_and_one_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), "--coco", "--voc", "--quiet"]) == 0
    report = json.loads((run / "eval-coco-voc.json").read_text())
    assert report["voc"]["objects"] == report["coco"]["objects"] > 0
    heading = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("class "))
    assert heading.split() == ["class", "objects", "AP", "AP,", "95", "%", "AP50", "VOC", "VOC07"]


def test_other_weights_do_not_replace_the_runs_figures(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), "--quiet"]) == 0
    (run / "last.safetensors").write_bytes((run / "best.safetensors").read_bytes())
    first = (run / "eval-coco.json").read_text()
    assert main([str(run / "last.safetensors"), "--quiet"]) == 0
    report = json.loads((run / "eval-coco.last.json").read_text())
    assert report["weights"] == str(run / "last.safetensors")
    assert (run / "eval-coco.json").read_text() == first
    assert f"figures: {run / 'eval-coco.last.json'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("weights", "words", "name"),
    [
        ("runs/own", [], "eval-coco.json"),
        ("runs/own/best.safetensors", ["--voc"], "eval-voc.json"),
        ("runs/own/best.onnx", [], "eval-coco.best.onnx.json"),
        ("runs/own", ["--data", "DATA"], "eval-coco.json"),
        ("runs/own", ["--data", "DATA", "--split", "val"], "eval-coco.json"),
        ("runs/own", ["--split", "val"], "eval-coco.json"),
        ("runs/own", ["--split", "train"], "eval-coco.train.json"),
        ("runs/own", ["--set", "data.val=train"], "eval-coco.train.json"),
        ("runs/own", ["--data", "OTHER"], "eval-coco.other-val.json"),
        ("runs/own/best.onnx", ["--data", "OTHER", "--split", "train"], "eval-coco.other-train.best.onnx.json"),
        ("runs/own", ["--format", "shapes"], "eval-coco.shapes-val.json"),
        ("loose.safetensors", ["--data", "OTHER"], "eval-coco.other-val.loose.json"),
    ],
)
def test_the_name_of_the_figures_tells_weights_and_data(
    weights: str, words: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("cells", "other"):
        voc_splits(tmp_path / folder, train={"a": good()}, val={"b": good()})
    make_run(Path("runs/own"), ("cat",), {"data": {"folder": "cells", "format": "voc"}})
    for path in ("runs/own/best.onnx", "loose.safetensors"):
        Path(path).write_bytes(b"")
    places = {"DATA": str(tmp_path / "cells"), "OTHER": "other"}
    args = parser().parse_args([weights, *(places.get(word, word) for word in words)])
    found = find_weights(args.weights)
    config = find_config(found, args.data, args.split, args.format, args.set)
    path = figures_path(["voc" if args.voc else "coco"], found, config, experiment_data.open_split(config, "val"))
    folder = tmp_path / "runs/own" if weights.startswith("runs") else tmp_path
    assert path.resolve() == folder / name


def test_the_figures_are_what_pycocotools_says_of_the_results_file(tiny_coco: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", open_dataset(tiny_coco, "val2017").class_names)
    results, output = tmp_path / "detections.json", tmp_path / "report.json"
    words = [str(run), "--data", str(tiny_coco), "--split", "val2017", "--quiet"]
    assert main([*words, "--results", str(results), "--output", str(output)]) == 0
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tiny_coco / "annotations" / "instances_val2017.json"))
        evaluator = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    report = json.loads(output.read_text())["coco"]
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    assert [report[name] for name in names] == pytest.approx(evaluator.stats.tolist(), abs=1e-6)
    assert report["images"] == 50
    assert report["detections"] > 1000


def test_nothing_above_the_threshold_is_zero_and_no_failure(run: Path) -> None:
    assert main([str(run), "--voc", "--score-threshold", "1", "--quiet"]) == 0
    report = json.loads((run / "eval-voc.score_threshold-1.0.json").read_text())
    assert (report["voc"]["AP"], report["voc"]["detections"]) == (0.0, 0)
    assert not (run / "eval-voc.json").exists(), "that is the name of the run's own figures"


def test_the_name_of_the_figures_tells_thresholds_and_tiles(run: Path) -> None:
    config = find_config(str(run))
    dataset = experiment_data.open_split(config, "val")
    path = figures_path(
        ["coco"], str(run), config, dataset, score_threshold={"a b": 0.3}, tiles=(2, 3), box_voting=None
    )
    assert path == run / "eval-coco.score_threshold-a-b-0.3-tiles-2-3.json"


def test_figures_of_other_classes_have_another_name(run: Path) -> None:
    config = find_config(str(run), overrides=["data.val_fraction=0.3", "data.group=copies"])
    dataset = experiment_data.open_split(config, "val")
    path = figures_path(["coco"], str(run), config, dataset)
    assert path == run / "eval-coco.group-copies-val_fraction-0.3.json"


def test_figures_of_other_weights_from_a_hub_have_other_names(run: Path) -> None:
    dataset = experiment_data.open_split(find_config(str(run)), "val")
    addresses = ["hf://a/cells", "hf://b/cells", "hf://a/cells@v2", "hf://a/cells/best.safetensors", "coco"]
    assert len({figures_path(["coco"], one, None, dataset) for one in addresses}) == len(addresses)


def test_box_voting_is_the_weights_own_or_as_told(run: Path, tmp_path: Path) -> None:
    found = {}
    for sigma in (0.2, 0.0, None):
        results, words = tmp_path / f"{sigma}.json", [] if sigma is None else ["--box-voting", str(sigma)]
        assert main([str(run), "--quiet", "--force", "--results", str(results), *words]) == 0
        rule = "" if sigma is None else f".box_voting-{sigma}"
        figures = json.loads((run / f"eval-coco{rule}.json").read_text())
        assert figures["postprocessing"]["box_voting"] == (sigma or 0.0)
        found[sigma] = results.read_text()
    assert found[None] == found[0.0] != found[0.2]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--data", "{bccd}", "--split", "valid", "--set", "data.bad_objects=drop"], "valid"),
        (["--data", "{bccd}", "--split", "test", "--set", "data.bad_objects=drop"], "RBC"),
        (["--format", "word"], "data.format"),
        (["--set", "data.foldr=x"], "foldr"),
        (["--batch-size", "0"], "--batch-size"),
        (["--score-threshold", "1.1"], "score_threshold"),
        (["--box-voting", "-0.1"], "box_voting"),
        (["--voc", "--results", "x.json"], "results"),
        (["--weights-output", "t.safetensors"], "weights_output: goes with set_thresholds"),
        (["--report", "page.pdf"], "report"),
        (["--report", "--output", "page.html"], "page.html"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    run: Path, bccd: Path, capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    assert main([str(run), "--quiet", *(word.format(bccd=bccd) for word in words)]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ")
    assert text in message


def test_weights_alone_do_not_say_which_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", ("a",))
    assert main([str(run)]) == 2
    assert "--data FOLDER" in capsys.readouterr().err


def test_weights_that_are_not_there_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "no.safetensors"), "--format", "shapes"]) == 2
    assert "no.safetensors" in capsys.readouterr().err
    assert main(["runs/none", "--coco"]) == 2
    assert "runs/none: no such weights file or run" in capsys.readouterr().err


def test_help_does_not_load_torch() -> None:
    code = "import sys; from ssd.commands.eval import parser; parser().format_help(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tables_are_aligned_and_show_what_does_not_exist() -> None:
    figures = {"objects": 3, "AP": 0.5, "AP07": None, "per_class": {"cat": {"objects": 3, "AP": 0.5, "AP07": None}}}
    assert figure_table({"voc": figures}).splitlines() == [
        "class  objects    VOC  VOC07",
        "cat          3  0.500    n/a",
        "mean         3  0.500    n/a",
    ]
    assert number(None) == "n/a"
    assert aligned([["a", "b"], ["cc", "1"]]) == "a   b\ncc  1"
    assert aligned([["a", "b"], ["cc", "1"]], left=2, ruled=True) == "a   b\n-----\ncc  1"


def test_drawn_images_have_a_file_each_with_what_the_figures_count(tmp_path: Path) -> None:
    weights, data = save_small_weights(tmp_path / "small.safetensors"), tmp_path / "data"
    write_text(data / "data.yaml", "names: [cat, dog]\ntrain: images/val\nval: images/val\n")
    for seed, stem in enumerate(("a/0", "a/1", "b/0", "b/1")):
        write_image(data / "images" / "val" / f"{stem}.png", seed=seed)
        write_text(data / "labels" / "val" / f"{stem}.txt", "0 0.5 0.5 0.5 0.5\n")
    drawn = {}
    for name, words in (("all", []), ("none", ["--score-threshold", "1"])):
        output = tmp_path / f"{name}.json"
        command = [str(weights), "--data", str(data), "--split", "val", "--quiet", "--draw", "10", *words]
        assert main([*command, "--output", str(output)]) == 0
        drawn[name] = {path.name: path.read_bytes() for path in (tmp_path / f"{name}-images").iterdir()}
    assert set(drawn["all"]) == {"0.jpg", "1.jpg", "0_png.jpg", "1_png.jpg"}
    assert json.loads((tmp_path / "none.json").read_text())["coco"]["detections"] == 0
    sample = open_dataset(data, "val").load(0)
    nothing = np.zeros((0, 4), np.float32), [], []
    blank = tmp_path / "blank.jpg"
    draw_file(blank, side_by_side(sample.image, (sample.boxes, ["cat"], [0]), nothing))
    assert drawn["none"]["0.jpg"] == blank.read_bytes() != drawn["all"]["0.jpg"]


def test_files_of_others_are_not_replaced_by_what_stands_beside_the_figures(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.html").write_text("mine")
    assert main(["--quiet", "--output", "own.json", "--report"]) == 2
    assert "own.html: is there already" in capsys.readouterr().err
    write_image(tmp_path / "val-images" / "a.jpg")
    before = (tmp_path / "val-images" / "a.jpg").read_bytes()
    assert main(["--quiet", "--output", "val.json", "--draw", "1"]) == 2
    assert "val-images: is not empty, and --draw writes into it" in capsys.readouterr().err
    assert main(["--quiet", "--output", "same.json", "--results", "same.json"]) == 2
    assert "same.json: is named for two results" in capsys.readouterr().err
    assert (tmp_path / "own.html").read_text() == "mine"
    assert [path.read_bytes() for path in (tmp_path / "val-images").iterdir()] == [before]
    assert not (tmp_path / "val.json").exists()


def test_figures_of_two_folders_of_one_name_have_two_files(run: Path, tmp_path: Path) -> None:
    for site in ("a", "b", "a"):
        circle = xml(xml_object("circle"))
        voc_splits(tmp_path / site / "data", train={"x": circle}, val={"y": circle})
        assert main([str(run), "--quiet", "--data", f"{site}/data", "--force"]) == 0
    files = sorted(run.glob("eval-coco.data-val*.json"))
    assert sorted(json.loads(path.read_text())["data"] for path in files) == ["a/data", "b/data"]


def test_options_that_an_open_data_set_ignores_are_refused(run: Path) -> None:
    dataset = experiment_data.open_split(find_config(str(run)), "val")
    for options in ({"split": "train"}, {"format": "yolo"}, {"overrides": {"data.bad_objects": "drop"}}):
        with pytest.raises(ArgumentError, match="has no effect on a data set that is open"):
            ssd.evaluate(str(run), dataset, **options)


def test_thresholds_are_chosen_from_all_detections(run: Path) -> None:
    with pytest.raises(ArgumentError, match="score_threshold: goes with one number for all classes"):
        ssd.evaluate(str(run), set_thresholds="f1", score_threshold={"circle": 0.3})
