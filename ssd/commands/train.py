"""`train [CONFIG.yaml] [--data FOLDER] [group.key=value ...] [--resume auto|PATH]`."""

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ssd.commands._shared import add_force, guarded
from ssd.system.files import refuse_existing

if TYPE_CHECKING:
    from ssd.experiment.config import Config

EPILOG = """examples:
  train.py                                        the demo: shapes drawn by the program itself
  train.py --data my_images                     your own VOC, COCO or YOLO folder
  train.py configs/ssd300_voc.yaml data.folder=VOCdevkit train.batch_size=16
  train.py --data my_images --resume auto       go on where the run was stopped
  torchrun --nproc-per-node 2 tools/train.py --data my_images"""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="train", description="Train SSD.", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("words", nargs="*", metavar="CONFIG.yaml | group.key=value", help="an experiment, and changes to it")
    p.add_argument("--data", metavar="FOLDER", help="a VOC, COCO or YOLO folder; short for data.folder=FOLDER")
    p.add_argument("--name", help="the run's folder is runs/NAME; short for name=NAME")
    p.add_argument(
        "--resume",
        metavar="auto|PATH",
        help="auto: the newest run of this name, or a fresh start; or a run, or one of its states",
    )
    p.add_argument("--preview", metavar="FILE.png", help="draw augmented images with their boxes to FILE, and stop")
    add_force(p)
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Train; the exit code is 143 or 130 after SIGTERM or SIGINT, 2 for a mistake of the user's."""
    args = parser().parse_intermixed_args(argv)
    refuse_existing(args.preview, force=args.force)
    config = load_config(args.words, args.data, args.name)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.preview:
        from ssd.experiment.data import preview

        preview(config, Path(args.preview))
        print(f"augmented images: {args.preview}")
        return 0
    from ssd.system.malloc import keep_freed_memory
    from ssd.training.page import PAGE
    from ssd.training.trainer import train

    keep_freed_memory()

    outcome = train(config, resume=args.resume, progress=not args.quiet)
    if outcome.exit_code == 0:
        print(f"run: {outcome.folder.path}")
        print(f"weights: {outcome.folder.best}")
        print(f"report: {outcome.folder.path / PAGE}")
    return outcome.exit_code


def load_config(words: list[str], data: str | None, name: str | None) -> "Config":
    """The config file among `words` (or the default one) with every override applied."""
    from ssd.errors import ConfigError
    from ssd.experiment import config_file as configs
    from ssd.experiment.config import Config

    files = [word for word in words if "=" not in word]
    groups = tuple(f"{field.name}." for field in dataclasses.fields(Config))
    for word in files:
        if word.startswith(groups) and not Path(word).exists():
            remedy = f"Write {word}=VALUE, without spaces around the sign."
            raise ConfigError(f"{word!r} has no value", place="the command line", remedy=remedy)
    if len(files) > 1:
        raise ConfigError(
            f"{' '.join(files)!r}: more than one config file", place="the command line", remedy="Name one."
        )
    changes: list[str | tuple[str, str]] = [word for word in words if "=" in word]
    if data is not None:
        changes.insert(0, ("data.folder", data))
    if name is not None:
        changes.append(("name", name))
    path = files[0] if files else None if data is not None else configs.builtin("demo")
    config = configs.load(path, changes)
    if data is not None and not files and config.data.format == "shapes":
        raise ConfigError("--data with data.format=shapes", place="the command line", remedy="Drop one.")
    return config
