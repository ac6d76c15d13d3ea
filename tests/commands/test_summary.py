import json

import pytest

from ssd.commands import summary
from ssd.errors import ArgumentError, ConfigError
from ssd.model.factory import from_settings, settings_for
from ssd.summary import figures, networks
from ssd.weights.native import save_weights


@pytest.fixture(scope="module")
def counted() -> dict[str, figures.Figure]:
    return {figure.what: figure for figure in figures.figures()}


@pytest.mark.parametrize(
    ("what", "numbers"),
    [
        ("5x5, 512 to 64 channels: weights", (819_200,)),
        ("the same through 24 channels of 1x1", (50_688,)),
        ("5x5, 128 to 256 channels on 100x100: weights", (819_200,)),
        ("the same through 32 channels of 1x1", (208_896,)),
        ("5x5, 192 to 32 channels on 28x28: multiplications", (120_422_400,)),
        ("the same through 16 channels of 1x1", (12_443_648,)),
        ("two 3x3 for a 5x5 save", (0.28,)),
        ("1x3 and 3x1 for a 3x3 save", (1 / 3,)),
        ("GoogLeNet: parameters", (6_624_904,)),
        ("AlexNet: parameters", (61_100_840,)),
        ("VGG16: parameters", (138_357_544,)),
        ("GoogLeNet's parameters, of AlexNet's", (6_624_904 / 61_100_840,)),
        ("AlexNet's parameters, of VGG16's", (61_100_840 / 138_357_544,)),
        ("SSD300: boxes", (8732,)),
        ("YOLOv1: boxes", (98,)),
        ("SSD, VGG16 at 300: parameters, multiply-adds", (26_285_486, 31_373_537_792)),
        ("YOLOv1 at 300: parameters, multiply-adds", (168_090_414, 8_717_724_416)),
        ("SSD, VGG16 at 448: parameters, multiply-adds", (27_188_676, 69_068_655_104)),
        ("YOLOv1 at 448: parameters, multiply-adds", (271_703_550, 20_285_153_280)),
    ],
)
def test_every_figure_of_the_documents_is_counted(counted, what: str, numbers: tuple[float, ...]) -> None:
    assert counted[what].numbers == pytest.approx(numbers)


def test_figures_that_the_documents_get_wrong_stand_beside_the_true_ones(counted, capsys) -> None:
    assert summary.main(["--figures"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert any(line[-2:] == ["1/12", "1/9.2"] for line in lines)
    assert any(line[-3:] == ["1/3", "44", "%"] for line in lines)


def test_comparing_prints_counts_that_the_libraries_publish(capsys) -> None:
    names = ["vgg16", "googlenet", "resnet50", "densenet121", "mobilenet_v3_large"]
    assert summary.main(["--compare", *names, "--repeat", "0"]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    counts = {name: int(rows[name][2].replace(",", "")) for name in names}
    assert counts == {
        "vgg16": 138_357_544,
        "googlenet": 6_624_904,
        "resnet50": 25_557_032,
        "densenet121": 7_978_856,
        "mobilenet_v3_large": 5_483_032,
    }
    assert all(rows[name][2] == rows[name][3] for name in names)


def test_latency_is_measured_for_every_network_of_a_comparison(capsys) -> None:
    assert summary.main(["--compare", "lenet", "mobilenet_v3_small", "--repeat", "1", "--json"]) == 0
    lenet, mobilenet = json.loads(capsys.readouterr().out)
    assert 0 < lenet["latency_ms"] < mobilenet["latency_ms"]
    assert lenet["parameters"] == 61_706
    assert mobilenet["published_parameters"] == mobilenet["parameters"]


def test_the_default_is_ssd300_with_its_8732_boxes(capsys) -> None:
    assert summary.main([]) == 0
    text = capsys.readouterr().out
    assert "ssd-vgg16, input 3 x 300 x 300, 8,732 boxes" in text
    assert "backbone.conv4_3" in text
    assert "26,285,486" in text
    assert "relu" not in text
    assert summary.main(["--all"]) == 0
    assert "backbone.relu4_3" in capsys.readouterr().out


def test_json_has_a_row_for_every_layer(capsys) -> None:
    assert summary.main(["vgg11", "--channels", "1", "--classes", "10", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["input"] == [1, 1, 224, 224]
    pool5 = next(layer for layer in facts["layers"] if layer["name"] == "pool5")
    assert (pool5["output"], pool5["receptive_field"], pool5["stride"]) == ([1, 512, 7, 7], 150, 32)


@pytest.mark.parametrize("numbers", [{}, {"atrous": False, "fc_norm": "group", "levels": (10, 5, 3)}])
def test_a_weights_file_is_summarised_by_its_own_settings(numbers, tmp_path, capsys) -> None:
    settings = settings_for(("a", "b"), input_size=80, width=0.1, **numbers)
    network = from_settings(settings)
    path = tmp_path / "best.safetensors"
    save_weights(path, network.state_dict(), settings)
    assert summary.main([str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert facts["input"] == [1, 3, 80, 80]
    with pytest.raises(ArgumentError, match="--size"):
        networks.find(str(path), size=300)


@pytest.mark.parametrize("file", ["ssd-voc.safetensors", "ssd-voc/best.safetensors", "ssdlite-voc/last.safetensors"])
def test_weights_may_be_called_as_a_network_to_build(file: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = settings_for(("a", "b"), input_size=80, width=0.1)
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    save_weights(path, from_settings(settings).state_dict(), settings)
    assert networks.find(file.partition("/")[0]).size == 80


def test_a_folder_without_weights_hides_no_network(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ssd-vgg16").mkdir()
    assert networks.find("ssd-vgg16").boxes == 8732


def test_boxes_are_counted_as_they_are_tiled() -> None:
    from ssd.multibox.default_boxes import default_boxes

    settings = settings_for(("a",), input_size=137)
    assert networks.count_boxes(settings) == len(default_boxes(settings.boxes))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet", "--size", "3"], "--size: lenet cannot take 3 pixels"),
        (["ssd-resnet18", "--size", "20"], "Use 64 or more"),
        (["ssd-vgg16", "--channels", "1"], "--channels"),
        (["resnet18", "--channels", "1"], "takes RGB"),
        (["vgg16", "--size", "0"], "--size: 0 is too small"),
        (["lenet", "--figures"], "--figures: is a table of its own"),
        (["lenet", "--plot", "plot.svg"], "--plot: goes with --compare"),
        (["lenet", "--compare", "vgg11"], "lenet: is not among those to compare. Write --compare lenet vgg11."),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], message: str, capsys) -> None:
    assert summary.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    pytest.importorskip("timm", reason="timm (extra `backbones`) knows the other names")
    with pytest.raises(ConfigError, match="Did you mean resnet18"):
        networks.find("resnet81")


def test_timm_networks_are_counted_as_a_whole() -> None:
    pytest.importorskip("timm", reason="timm (extra `backbones`) is not installed")
    assert networks.find("test_resnet").survey().parameters == 469_688


@pytest.fixture
def runs(tmp_path) -> list[str]:
    """Two runs that were evaluated: weights with their figures, and the log."""
    folders = []
    for name, ap in (("small", 0.25), ("large", 0.5)):
        folder = tmp_path / name
        folder.mkdir()
        settings = settings_for(("a",), input_size=80, width=0.1 if name == "small" else 0.2)
        extra = {"validation": {"AP": ap, "AP50": 2 * ap}}
        save_weights(folder / "best.safetensors", from_settings(settings).state_dict(), settings, extra=extra)
        (folder / "train.jsonl").write_text('{"step": 1, "images_per_second": 7.5}\n')
        folders.append(str(folder))
    return folders


def test_runs_are_compared_with_their_accuracy_and_drawn_against_latency(runs: list[str], tmp_path, capsys) -> None:
    assert summary.main(["--compare", *runs, "--repeat", "1", "--plot", str(tmp_path / "plot.svg")]) == 0
    small, large = [line.split() for line in capsys.readouterr().out.splitlines()[2:4]]
    assert small[-6:-2] == ["0.250", "0.500", "7.5", "img/s"]
    assert large[-6:-4] == ["0.500", "1.000"]
    drawing = (tmp_path / "plot.svg").read_text()
    assert "small" in drawing
    assert "large" in drawing
    words = ["--compare", *runs, "--repeat", "1", "--plot", str(tmp_path / "plot.svg")]
    assert summary.main(words) == 2
    assert "plot.svg: is there already. Name another file, or add --force" in capsys.readouterr().err
    assert (tmp_path / "plot.svg").read_text() == drawing
    assert summary.main([*words, "--force"]) == 0


def test_a_plot_without_a_trained_network_is_refused(runs: list[str], tmp_path, capsys) -> None:
    assert summary.main(["--compare", "lenet", "--repeat", "1", "--plot", str(tmp_path / "plot.svg")]) == 2
    assert "--plot: nothing to draw" in capsys.readouterr().err
    assert summary.main(["--compare", *runs, "--repeat", "1", "--plot", str(tmp_path / "plot.txt")]) == 2
    assert "Let it end in .svg or .png" in capsys.readouterr().err


def test_the_ap_of_voc_has_a_column_and_an_axis_of_its_own(runs: list[str], tmp_path, capsys) -> None:
    settings = settings_for(("a",), input_size=80, width=0.1)
    voc = {"validation": {"AP": 0.75, "AP07": 0.625, "iou_threshold": 0.5}}
    save_weights(tmp_path / "voc.safetensors", from_settings(settings).state_dict(), settings, extra=voc)
    names = ["--compare", str(tmp_path / "voc.safetensors"), "--plot", str(tmp_path / "plot.svg"), "--repeat", "1"]
    assert summary.main([*names, "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert {name: facts.get(name) for name in ("AP", "VOC", "VOC07")} == {"AP": None, "VOC": 0.75, "VOC07": 0.625}
    assert "AP (VOC)" in (tmp_path / "plot.svg").read_text()
    assert summary.main(["--compare", runs[0], str(tmp_path / "voc.safetensors"), "--repeat", "0"]) == 0
    head, _, small, other = capsys.readouterr().out.splitlines()[:4]
    assert head.split()[-5:] == ["AP", "AP50", "VOC", "VOC07", "trained"]
    assert small.split()[-6:] == ["0.250", "0.500", "-", "-", "7.5", "img/s"]
    assert other.split()[-5:] == ["-", "-", "0.750", "0.625", "-"]


def test_networks_to_compare_may_be_named_one_by_one() -> None:
    words = ["--compare", "vgg11", "vgg13", "--compare", "lenet"]
    assert summary.parser().parse_args(words).compare == ["vgg11", "vgg13", "lenet"]
