"""The layout of the package: imports between layers, import cycles, and modules of one name."""

import pytest

from tests import layout

# Name -> what all modules of that name are.
ONE_MEANING = {
    "check_data": "the check of a data folder: function and command",
    "compare": "a comparison: of detectors (function and command), and of networks",
    "convert": "weights in another format: function and command",
    "evaluate": "an evaluation: function, and what it calls",
    "export": "an export: function, command, and what they call",
    "train": "a training: function and command",
    "review": "a review of labels: function and command",
    "why": "why objects are missed: function and command",
    "publish": "weights made ready for a model hub: function and command",
    "text": "the package's result in plain text",
    "page": "the package's page",
    "curves": "precision and recall curves: the figures, and their part of the page",
    "tables": "the package's tables",
    "dataset": "a data set: of files, and of drawn images",
    "registry": "which reader takes which file",
    "coco": "COCO's format, metric and benchmark",
    "voc": "Pascal VOC's format and metric",
    "vgg": "VGG: the network, and its ImageNet weights",
    "onnx": "ONNX: written, and run",
    "openvino": "OpenVINO: written, and run",
    "pt2": "torch.export's format: written, and run",
}


def test_no_import_goes_upwards_or_in_a_cycle() -> None:
    assert layout.imports_upwards() == set()
    assert layout.cycles() == []


def test_every_module_stands_in_the_import_contract() -> None:
    listed = {name for layer in layout.layers() for name in layer}
    assert {name.split(".")[1] for name in layout.modules() if name != "ssd"} == listed


def test_modules_of_one_name_are_of_one_meaning() -> None:
    repeated = {name: found for name, found in layout.names().items() if len(found) > 1}
    assert {name: found for name, found in repeated.items() if name not in ONE_MEANING} == {}


def test_the_test_tree_mirrors_the_package() -> None:
    """A folder of tests is a folder of `ssd/`, or one of those that look at the whole."""
    whole = {"earlier_versions", "examples", "field", "reliability"}
    folders = {path.parent.relative_to(layout.ROOT / "tests") for path in (layout.ROOT / "tests").rglob("test_*.py")}
    missing = [str(folder) for folder in folders if not (layout.ROOT / "ssd" / folder).is_dir()]
    assert sorted(set(missing) - whole) == []


def test_commands_only_parse_call_and_print() -> None:
    assert layout.lines(layout.ROOT / "ssd" / "commands") <= 2000


def test_there_are_seventy_keys_at_most() -> None:
    keys = layout.config_keys()
    assert len(keys) <= 70
    assert {"model.backbone", "data.folder", "optim.lr", "train.epochs", "seed"} <= set(keys)


@pytest.mark.parametrize("module", ["ssd.inference.detector", "ssd.evaluation.evaluate"])
def test_a_detector_needs_no_training_code(module: str) -> None:
    graph, reached, waiting = layout.imports(), set(), [module]
    while waiting:
        for to in graph[waiting.pop()] - reached:
            reached.add(to)
            waiting.append(to)
    assert not {name for name in reached if name.startswith(("ssd.training", "ssd.experiment"))}
