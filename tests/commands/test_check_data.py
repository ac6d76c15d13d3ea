import hashlib
import json
from pathlib import Path

import pytest

from ssd.audit.fit_boxes import Shapes
from ssd.audit.recall import Bucket
from ssd.audit.report import FITTED, Fit
from ssd.audit.text import fit_is_worth_it, fit_worth
from ssd.commands.check_data import main
from tests.audit.made import good, sound, voc_splits
from tests.data.made import xml, xml_object

BAD = xml(xml_object(), *(xml_object(box=(5, number, 5, 9)) for number in range(1, 5)))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Four objects without area in one file, another that is no XML, and an image cut short."""
    folder = voc_splits(tmp_path / "data", train={"a": BAD, "b": "<xml", "c": good()}, val={"d": good()})
    path = folder / "JPEGImages" / "c.jpg"
    path.write_bytes(path.read_bytes()[:-50])
    return folder


def content(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_a_sound_folder_is_exit_code_0(tmp_path, capsys):
    assert main([str(sound(tmp_path)), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == f"{tmp_path}: train 2 images, val 1 images; training uses train, validation val"
    assert printed.splitlines()[-1].startswith("verdict: training can start")


def test_everything_bad_is_printed_at_once(broken, capsys):
    assert main([str(broken), "--quiet"]) == 1
    printed = capsys.readouterr().out
    assert "no_area: 4 (stops)" in printed
    for number in range(2, 6):
        assert f"Annotations/a.xml: object {number} (cat): box" in printed
    assert "Annotations/b.xml: is not valid XML" in printed
    assert "JPEGImages/c.jpg: cannot be decoded" in printed
    assert "data.bad_objects=drop; " in printed.splitlines()[-1]


def test_lists_are_cut_to_what_is_asked_for(broken, capsys):
    main([str(broken), "--quiet", "--show", "1"])
    printed = capsys.readouterr().out
    assert "object 2 (cat)" in printed
    assert "object 3 (cat)" not in printed
    assert "... and 3 more" in printed


def test_fix_drop_says_what_is_left_out_and_changes_no_file(broken, tmp_path, capsys):
    before = content(broken)
    assert main([str(broken), "--quiet", "--fix", "drop"]) == 1  # files are not objects
    assert "no_area: 4 (left out by data.bad_objects=drop)" in capsys.readouterr().out
    folder = voc_splits(tmp_path / "objects", train={"a": BAD}, val={"b": good()})
    assert main([str(folder), "--quiet"]) == 1
    assert main([str(folder), "--quiet", "--fix", "drop"]) == 0
    assert main([str(folder), "--quiet", "--set", "data.bad_objects=drop"]) == 0
    assert content(broken) == before


def test_json_holds_every_problem(broken, tmp_path):
    path = tmp_path / "report.json"
    assert main([str(broken), "--quiet", "--show", "0", "--json", str(path)]) == 1
    report = json.loads(path.read_text())
    assert report["verdict"]["stops"]
    assert report["splits"]["train"]["counts"] == {"unreadable": 1, "no_area": 4, "undecodable": 1}
    assert {problem["fate"] for problem in report["splits"]["train"]["problems"]} == {"stops"}
    assert [problem["index"] for problem in report["splits"]["train"]["problems"]] == [None, 2, 3, 4, 5, None]
    assert report["splits"]["val"]["default_boxes"]["SSD300 fine"]["sizes"]["large"]["recall"] is None


def test_json_may_be_all_that_is_printed(tmp_path, capsys):
    folder = sound(tmp_path)
    assert main([str(folder), "--quiet", "--json", "-", "--fit-boxes"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["splits"]["train"]["default_boxes"]) == {
        f"SSD{size} {table}" for size in (300, 512) for table in ("voc", "coco", "fine")
    }
    assert set(report["fit"]["reached"]["fitted"]) == {"train", "val"}


def test_the_printed_fit_is_a_config(tmp_path, capsys):
    import yaml

    from ssd.experiment.config_file import from_dict

    small = xml(*(xml_object(box=(x, 5, x + 2, 6)) for x in range(2, 30, 3)))
    folder = voc_splits(tmp_path, train={"a": small, "b": small}, val={"c": small})
    assert main([str(folder), "--quiet", "--fit-boxes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("  model:")
    model = from_dict(yaml.safe_load("\n".join(lines[start : start + 4]))).model
    assert len(model.min_sizes) == len(model.max_sizes) == len(model.aspect_ratios) == 6


def made_fit(**recalls: tuple[float, ...]) -> Fit:
    """A fit after which the splits' objects are reached like that."""
    names = {"voc": "SSD300 voc", "coco": "SSD300 coco", "config": "config", "fitted": FITTED}
    reached = {names[name]: tuple(Bucket(10, recall, recall) for recall in own) for name, own in recalls.items()}
    shapes = Shapes((0.1, 0.2), ((2.0,),))
    return Fit(shapes, ("train", "val")[: len(recalls["fitted"])], reached)


@pytest.mark.parametrize(
    ("fit", "lines"),
    [
        (
            made_fit(voc=(0.6, 0.70), coco=(0.5, 0.75), fitted=(0.9, 0.76)),
            ["+1.0 points against the best table, SSD300 coco. The fitted", "Try model.box_table=coco against "
             "model.box_table=voc in two short runs: it reaches +5.0 points on val, but recall is not AP"],
        ),
        (
            made_fit(voc=(0.6, 0.75), coco=(0.9, 0.75), fitted=(0.9, 0.70)),
            ["-5.0 points against the best table, SSD300 voc. The fitted", "Keep model.box_table=voc: the best"],
        ),
        (made_fit(voc=(0.6,), coco=(0.7,), fitted=(0.9,)), ["No second split", "+10.0 points on train"]),
        (made_fit(config=(0.6, 0.6), fitted=(0.9, 0.6)), ["not advised", "Keep the config's own default boxes."]),
        (made_fit(voc=(0.6, 0.6), coco=(0.5, 0.5), fitted=(0.9, 0.7)), ["+10.0 points against the best table"]),
    ],
)  # fmt: skip
def test_the_fit_ends_in_a_decision(fit, lines):
    said = fit_worth(fit)
    assert len(said) == len(lines)
    assert all(part in line for part, line in zip(lines, said, strict=True))
    assert fit_is_worth_it(fit) == (len(said) == 1)


def test_a_fit_that_is_not_advised_is_in_the_json_alone(tmp_path, capsys):
    folder, path = sound(tmp_path / "data"), tmp_path / "report.json"
    assert main([str(folder), "--quiet", "--fit-boxes", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    fit = json.loads(path.read_text())["fit"]
    assert "min_sizes" in fit["model"]
    assert not fit["advised"]
    assert "min_sizes" not in printed
    assert "  Keep model.box_table=fine" in printed


def test_the_configs_own_boxes_are_measured(tmp_path, capsys):
    assert main([str(sound(tmp_path)), "--quiet", "--set", "model.input_size=160"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("config ")]
    assert len(rows) == 2  # the first split has the tables besides, the second has it alone


def test_one_split_alone(broken, capsys):
    assert main([str(broken), "--quiet", "--split", "val"]) == 0
    assert "train" not in capsys.readouterr().out.splitlines()[0]


def test_classes_stand_side_by_side(tmp_path, capsys):
    difficult = xml_object("dog", extra="<difficult>1</difficult>")
    folder = voc_splits(tmp_path, train={"a": xml(xml_object(), difficult)}, val={"b": xml(xml_object("bird"))})
    (folder / "labels.txt").write_text("bird\ncat\ncow\ndog\n")
    main([str(folder), "--quiet"])
    lines = capsys.readouterr().out.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("objects in"))
    assert lines[start : start + 5] == [
        "objects in  train  images  difficult  val  images",
        "bird            0       0          0    1       1",
        "cat             1       1          0    0       0",
        "dog             1       1          1    0       0",
        "and 1 of 4 classes do not occur",
    ]


def test_the_preview_leaves_out_what_cannot_be_decoded(broken, tmp_path):
    path = tmp_path / "preview.png"
    assert main([str(broken), "--quiet", "--preview", str(path)]) == 1
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_preview_of_nothing_says_so(tmp_path, capsys):
    folder = voc_splits(tmp_path / "data", train={"a": "<"}, val={"b": good()})
    assert main([str(folder), "--quiet", "--preview", str(tmp_path / "preview.png")]) == 1
    assert "no image can be drawn" in capsys.readouterr().err


def test_deep_without_simplejpeg_says_so_and_goes_on(tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert main([str(sound(tmp_path)), "--quiet", "--deep"]) == 0
    assert "pip install simplejpeg" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nowhere"], "nowhere: no such data folder"),
        ([], "no data folder given"),
        (["{data}", "--split", "tset"], "no split 'tset'. There is: train, val"),
        (["{data}", "--set", "data.bad_object=drop"], "bad_object"),
        (["{data}", "--set", "data.format=word"], "data.format"),
        (["{data}", "--workers", "0"], "--workers"),
        (["{data}", "--report", "page.txt"], "page.txt"),
        (["{data}", "--json", "{data}/no/report.json"], "report.json"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, capsys, words, text):
    data = sound(tmp_path / "data")
    assert main(["--quiet", *(word.format(data=data) for word in words)]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ")
    assert text in message


def test_blood_cells_have_an_object_without_area_that_stops_nothing(bccd, capsys):
    before = content(bccd)
    assert main([str(bccd), "--quiet", "--split", "val"]) == 0
    printed = capsys.readouterr().out
    assert "BloodImage_00338.xml: object 13 (RBC): box 503 336 503 336 has no area" in printed
    assert "no_area: 1 (left out by default: fewer than one in 1,000)" in printed
    assert content(bccd) == before
