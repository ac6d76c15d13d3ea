"""`detect SOURCE ...`: pictures, folders and globs in; drawn pictures and JSON lines out."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

from ssd.commands._shared import USER_ERROR, guarded
from ssd.commands.sources import find_pictures, output_folder, output_name
from ssd.errors import ArgumentError, ImageError

if TYPE_CHECKING:
    from ssd.detections import Detections
    from ssd.detector import Detector

EPILOG = """examples:
  detect.py street.jpg                                    SSD300 trained on COCO, fetched once
  detect.py photos/ more/*.png --weights runs/run/best.safetensors
  detect.py photos/ --no-images --score-threshold 0.01    JSON lines alone, weak guesses too

Each line of detections.jsonl is one picture: path, width, height, and detections (box as x1 y1 x2 y2 in
pixels, score, label, name), best first. A picture that cannot be read has path and error instead; the others
go on, and the exit code is 1. Exit code 2: a mistake, and nothing was searched."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="detect",
        description="Find objects in pictures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("sources", nargs="+", metavar="SOURCE", help="a picture, a folder of pictures, or a glob")
    p.add_argument("--weights", default="coco", help="a weights file, a run's folder, or coco (default)")
    p.add_argument("--score-threshold", type=float, metavar="S", help="default: 0.5")
    p.add_argument("--iou-threshold", type=float, metavar="IOU", help="of the suppression; default: the weights' own")
    p.add_argument("--max-detections", type=int, metavar="N", help="per picture; default: the weights' own")
    p.add_argument("--batch-size", type=int, default=8, metavar="N", help="pictures at a time, default %(default)s")
    p.add_argument("--output", type=Path, metavar="FOLDER", help="new or empty; default: runs/detect/1, 2, ...")
    p.add_argument("--overwrite", action="store_true", help="write into an --output folder that holds files already")
    p.add_argument("--no-images", action="store_true", help="write detections.jsonl alone")
    p.add_argument("--recursive", action="store_true", help="look into folders within folders")
    p.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1")
    p.add_argument("--precision", default="auto", help="auto (default), fp32, bf16, fp16")
    p.add_argument("--backend", default="auto", help="auto (default), torch")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Detect; the exit code is 1 when a picture could not be read, 2 for a mistake of the user's."""
    args = parser().parse_args(argv)
    if args.batch_size < 1:
        raise ArgumentError(f"{args.batch_size} is too small", place="--batch-size", remedy="Use 1 or more.")
    paths = find_pictures(args.sources, recursive=args.recursive)

    import ssd  # what it loads brings torch, so only now
    from ssd.detections import READABLE_SCORE

    detector = ssd.load(args.weights, device=args.device, precision=args.precision, backend=args.backend)
    options = {key: getattr(args, key) for key in ("score_threshold", "iou_threshold", "max_detections")}
    if args.score_threshold is None:
        options["score_threshold"] = READABLE_SCORE
    detector.detect_batch([], **options)  # a wrong threshold makes no folder
    folder = output_folder(args.output, paths, overwrite=args.overwrite)
    with (folder / "detections.jsonl").open("w", encoding="utf-8") as lines:
        writer = _Writer(lines, None if args.no_images else folder)
        for path, outcome in _progress(_detect_all(detector, paths, args.batch_size, options), len(paths), args.quiet):
            writer.write(path, outcome)
    print(f"{writer.objects} objects in {len(paths) - writer.bad} pictures: {folder}")
    if writer.bad:
        print(f"error: {writer.bad} of {len(paths)} pictures failed, see above.", file=sys.stderr)
    return USER_ERROR if writer.bad else 0


def _detect_all(
    detector: "Detector", paths: Sequence[Path], batch_size: int, options: dict[str, Any]
) -> "Iterator[tuple[Path, Detections | ImageError]]":
    """Yield every path with its detections or its error; a batch is decoded while the one before is computed."""
    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    with ThreadPoolExecutor() as pool:
        decoded = pool.map(_decode, batches[0])
        for index, batch in enumerate(batches):
            images = list(decoded)
            if index + 1 < len(batches):
                decoded = pool.map(_decode, batches[index + 1])
            good = [image for image in images if not isinstance(image, ImageError)]
            found = iter(detector.detect_batch(good, batch_size, **options))
            yield from zip(batch, (i if isinstance(i, ImageError) else next(found) for i in images), strict=True)


def _decode(path: Path) -> Any:
    from ssd.images import load_image

    try:
        return load_image(path)
    except ImageError as error:
        return error


class _Writer:
    """Puts one picture's outcome on disk, and counts."""

    def __init__(self, lines: TextIO, folder: Path | None) -> None:
        self.lines, self.folder = lines, folder
        self.objects = self.bad = 0
        self.taken: set[str] = set()

    def write(self, path: Path, outcome: "Detections | ImageError") -> None:
        """Write a JSON line and, where asked for, the drawn picture."""
        if isinstance(outcome, ImageError):
            self.bad += 1
            row = {"path": str(path), "error": str(outcome)}
            tqdm.write(f"error: {outcome}", file=sys.stderr)  # above the progress bar
        else:
            self.objects += len(outcome)
            row = dataclasses.replace(outcome, source=path).to_dict()
            if self.folder is not None:
                outcome.save(self.folder / output_name(path, self.taken))
        print(json.dumps(row, ensure_ascii=False, allow_nan=False), file=self.lines, flush=True)


def _progress(outcomes: Iterator[Any], total: int, quiet: bool) -> Iterator[Any]:
    return iter(tqdm(outcomes, total=total, unit="img", disable=quiet or None, dynamic_ncols=True))
