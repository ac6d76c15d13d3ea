"""`train [CONFIG.yaml] [--data FOLDER] [group.key=value ...] [--resume auto|PATH]`."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssd.commands._shared import add_force, guarded, start_work
from ssd.errors import ArgumentError, printable
from ssd.system.files import check_writable, refuse_existing

if TYPE_CHECKING:
    from ssd.experiment.config import Config
    from ssd.training.run_folder import RunFolder

EPILOG = """examples:
  ssd train                                       the demo: shapes drawn by the program itself
  ssd train --data my_images                      your own data folder (VOC, COCO, YOLO, LabelMe, CVAT, ...)
  ssd train --data my_images --start ssdlite      a small network, trained on COCO, to start from
  ssd train configs/ssd300_voc.yaml data.folder=FOLDER       the paper's training; FOLDER holds VOCdevkit/
  ssd train --data my_images --resume auto        go on where the run was stopped
  ssd train --resume runs/finetune                go on with that run, as it was started
  ssd train --shrink runs/finetune --ms 30        the largest network that detects in 30 ms here, for the same data
  torchrun --nproc-per-node 2 -m ssd train --data my_images"""


class _Once(argparse.Action):
    """Refuses a second folder, in whose favour the first would be forgotten."""

    def __call__(
        self, parser: argparse.ArgumentParser, args: argparse.Namespace, value: Any, option: Any = None
    ) -> None:
        """Store the value."""
        if getattr(args, self.dest) is not None:
            parser.error(f"{option} is given twice; several folders are named by the key data.folders")
        setattr(args, self.dest, value)


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd train", description="Train SSD.", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("words", nargs="*", metavar="CONFIG.yaml | group.key=value", help="an experiment, and changes to it")
    p.add_argument(
        "--data",
        metavar="FOLDER",
        action=_Once,
        help="a data folder (VOC, COCO, YOLO, LabelMe, CVAT, ...); short for data.folder=FOLDER",
    )
    p.add_argument(
        "--start",
        metavar="WHAT",
        help="what to start from: imagenet (the default), coco, ssdlite, none, a run, hf://owner/name, or a file",
    )
    p.add_argument("--name", help="the run's folder is runs/NAME; short for name=NAME")
    p.add_argument(
        "--resume",
        metavar="auto|PATH",
        help="auto: the newest run of this name, or a fresh start; PATH: a run or one of its states, with its config",
    )
    p.add_argument("--shrink", metavar="RUN", help="time smaller networks here, and train the largest that fits --ms")
    p.add_argument("--ms", type=float, metavar="N", help="with --shrink: milliseconds for one image, for 95 %% of them")
    p.add_argument("--int8", action="store_true", help="with --shrink: also try networks in 8 bits, by OpenVINO")
    p.add_argument("--preview", metavar="FILE.png", help="draw augmented images with their boxes to FILE, and stop")
    add_force(p)
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Train; the exit code is 143 or 130 after SIGTERM or SIGINT, 2 for a user's mistake."""
    args = _parse(argv)
    if args.int8 or any(value is not None for value in (args.shrink, args.ms)):
        return _shrink(args)
    refuse_existing(args.preview, force=args.force)
    check_writable(args.preview)
    config = load_config(args.words, args.data, args.name, args.resume, args.start)
    start_work()
    if args.preview:
        from ssd.experiment.data import preview

        preview(config, Path(args.preview))
        print(printable(f"augmented images: {args.preview}"))
        return 0
    from ssd.system.distributed import is_first
    from ssd.training.trainer import train

    outcome = train(config, resume=args.resume, progress=not args.quiet)
    if outcome.exit_code == 0 and is_first():
        _print_files(outcome.folder)
    return outcome.exit_code


def _parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the arguments; the error for an option of other SSD code names the config key here."""
    from ssd.experiment.key_types import dotted_keys

    p = parser()
    args, unknown = p.parse_known_intermixed_args(argv)
    for word in unknown:
        wanted = word.lstrip("-").partition("=")[0].replace("-", "_")
        close = [key for key in dotted_keys() if wanted in (key, key.rpartition(".")[2])]
        if close:
            raise ArgumentError("is no option", place=word, remedy=f"Write {close[0]}=VALUE.")
    if unknown:
        p.error(f"unrecognized arguments: {' '.join(unknown)}")
    return args


def _shrink(args: argparse.Namespace) -> int:
    """Time, choose, train and compare; print the tables."""
    if args.shrink is None or args.ms is None:
        raise ArgumentError("--shrink and --ms go together", place="the command line", remedy="Write both, or neither.")
    for option in ("data", "start", "resume", "preview", "force"):
        if getattr(args, option):
            remedy = "Data and settings are those of the run; changes are written group.key=value."
            raise ArgumentError("does not go with --shrink", place=f"--{option}", remedy=remedy)
    if (file := _config_file(args.words)) is not None:
        raise ArgumentError("a config file does not go with --shrink", place=file, remedy="Write group.key=value.")
    start_work()
    from ssd.api.shrink import shrink  # brings torch, so only now

    result = shrink(
        args.shrink,
        args.ms,
        overrides=args.words,
        name=args.name,
        int8=args.int8,
        progress=not args.quiet,
    )
    print(result.to_text())
    return 0


def _print_files(folder: "RunFolder") -> None:
    """Name the files that the run has written."""
    from ssd.training.page import PAGE

    print(printable(f"run: {folder.path}"))
    print(printable(f"weights: {folder.weights or 'none, since nothing was evaluated'}"))
    if (folder.path / PAGE).is_file():
        print(printable(f"report: {folder.path / PAGE}"))


def load_config(
    words: list[str],
    data: str | None = None,
    name: str | None = None,
    resume: str | None = None,
    start: str | None = None,
) -> "Config":
    """The config file among `words`, or that of the resumed run, the defaults or the demo's, with overrides applied."""
    from ssd.experiment.training_config import Override, training_config

    changes: list[Override] = [word for word in words if "=" in word]
    if name is not None:
        changes.append(("name", name))
    return training_config(_config_file(words), data, changes, resume, start)


def _config_file(words: list[str]) -> str | None:
    """The one word that is not an override."""
    from ssd.errors import ConfigError
    from ssd.experiment.config import Config

    files = [word for word in words if "=" not in word]
    groups = tuple(f"{field.name}." for field in dataclasses.fields(Config))
    for word in files:
        if word.startswith(groups) and not Path(word).exists():
            remedy = f"Write {word}=VALUE, without spaces around the sign."
            raise ConfigError(f"{word!r} has no value", place="the command line", remedy=remedy)
    if len(files) > 1:
        problem = f"{' '.join(files)!r}: more than one config file"
        raise ConfigError(problem, place="the command line", remedy="Name one.")
    return files[0] if files else None
