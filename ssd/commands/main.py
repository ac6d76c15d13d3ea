"""The `ssd` command: `ssd train ...` is `python tools/train.py ...`, and so on."""

import argparse
import importlib
import sys
from types import ModuleType

from ssd.commands._shared import guarded
from ssd.errors import SSDError
from ssd.system.python_environment import is_missing_package, other_python

# Name -> description; each is a module of this folder with `main(argv) -> exit code`.
COMMANDS = {
    "train": "train on your images, or on images the program draws",
    "eval": "evaluate weights by the COCO or the VOC rules",
    "why": "say why objects are missed, what each cause costs, and what to try first",
    "compare": "say whether one detector is better than another, or whether that cannot be told",
    "detect": "find the objects in images and videos and draw them",
    "demo": "a web page: drop an image, see the boxes",
    "check-data": "say what is wrong with a data set, and what the default boxes can reach in it",
    "review": "find labels that are probably wrong, by networks that never saw the image",
    "export": "write an ONNX, OpenVINO or PyTorch graph, checked against the weights",
    "convert": "turn another code's checkpoint into a weights file of this package",
    "publish": "put a detector and its card into a Hugging Face repository",
    "doctor": "examine the installation and the machine, with the command that mends what is wrong",
    "summary": "list a network's layers; compare networks by size, cost and speed",
    "benchmark": "compare speed and memory with torchvision's SSD300",
    "gpu-check": "compare a CUDA device with the CPU, and measure it, in a few minutes",
    "completion": "print a script that completes these commands in your shell",
}


@guarded
def main(argv: list[str] | None = None) -> int:
    """Run the command that the first argument names, and flush its output."""
    try:
        code = _run(argv)
    except SystemExit:  # argparse's, after --help
        print(end="", flush=True)
        raise
    except ModuleNotFoundError as error:
        if not is_missing_package(error):
            raise
        raise SSDError(f"{error.name} is not installed for {sys.executable}", remedy=other_python()) from None
    print(end="", flush=True)  # a closed pipe is handled here, but not at the interpreter's exit
    return code


def _run(argv: list[str] | None) -> int:
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name in ("-V", "--version"):
        import ssd

        print(f"ssd {ssd.__version__}")
        return 0
    name = name.replace("_", "-")
    if name not in COMMANDS:
        print(f"error: no command {name!r}. Commands: {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    code: int = _module(name).main(rest)
    return code


def all_parsers() -> argparse.ArgumentParser:
    """One parser of all commands, for shell completion; a command itself loads only its own."""
    parser = argparse.ArgumentParser(prog="ssd")
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, summary in COMMANDS.items():
        commands.add_parser(name, parents=[_module(name).parser()], add_help=False, help=summary)
    return parser


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"ssd.commands.{name.replace('-', '_')}")


def _help() -> str:
    width = max(map(len, COMMANDS))
    rows = [f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        ["usage: ssd COMMAND ...", "", *rows, "", "ssd COMMAND --help says more; ssd --version the version."]
    )
