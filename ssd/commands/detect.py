"""`detect SOURCE ...`: images, folders, videos, cameras in; drawn images and videos, JSON lines, COCO, YOLO out."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ssd.commands._shared import INTERRUPTED, USER_ERROR, guarded
from ssd.errors import ArgumentError
from ssd.inference.bulk.coco_ids import ids_of_file, own_ids
from ssd.inference.bulk.image_files import detect_images
from ssd.inference.bulk.journal import JOURNAL, Done, Tally, take_up, write_options
from ssd.inference.bulk.output_folder import output_folder
from ssd.inference.bulk.results import Results, parse_formats
from ssd.inference.bulk.sources import Source, find_sources, output_names, parse_shard, share
from ssd.inference.bulk.video import detect_video

if TYPE_CHECKING:
    from ssd.inference.detector import Detector

EPILOG = """examples:
  detect.py street.jpg                                    SSD300 trained on COCO, fetched once
  detect.py photos/ more/*.png --weights runs/run         a run's best weights
  detect.py clip.mp4                                      draws the video; so do 0 (a camera) and rtsp://...
  detect.py photos/ --format yolo                         labels for the images, no drawings
  detect.py aerial.tif --tiles auto                       small objects in large images
  detect.py photos/ --output found --resume               goes on where it was interrupted, or starts
  detect.py photos/ --output found --shard 2/8            this machine's eighth, into found/shard-2-of-8

Each line of detections.jsonl is one image: path, width, height, and detections (box as x1 y1 x2 y2 in
pixels, score, label, name), best first. A frame of a video also has frame and seconds; after its last one
comes a line with path and frames. What cannot be read has path and error instead; the others go on, and the
exit code at the end is 2, as for every mistake. After Ctrl-C it is 130."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd detect",
        description="Find objects in images and videos.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = "an image, a folder, a glob, a video, a camera's number, or a stream's address"
    p.add_argument("sources", nargs="+", metavar="SOURCE", help=what)
    p.add_argument("--weights", default="coco", help="weights, an exported graph, a run's folder, or coco (default)")
    found = p.add_argument_group("what is found")
    found.add_argument("--score-threshold", type=float, metavar="S", help="default: 0.5")
    found.add_argument(
        "--iou-threshold", type=float, metavar="IOU", help="of the suppression; default: the weights' own"
    )
    found.add_argument("--max-detections", type=int, metavar="N", help="per image; default: the weights' own")
    found.add_argument("--box-voting", type=float, metavar="SIGMA", help="0: none; default: the weights' own")
    found.add_argument("--tiles", metavar="N|RxC|auto", help="search parts of large images too, for small objects")
    found.add_argument("--tile-overlap", type=float, default=0.2, metavar="PART", help="default %(default)s of a tile")
    read = p.add_argument_group("what is read")
    read.add_argument("--recursive", action="store_true", help="look into folders within folders")
    read.add_argument("--every", type=int, default=1, metavar="N", help="every Nth frame of a video")
    read.add_argument("--max-frames", type=int, metavar="N", help="stop a video, camera or stream after N frames")
    read.add_argument("--shard", metavar="I/N", help="search the Ith of N equal shares, for N machines")
    write = p.add_argument_group("what is written")
    text = "of images, yolo, coco, with commas; default: images. jsonl is always written, and alone writes nothing else"
    write.add_argument("--format", default="images,jsonl", metavar="LIST", help=text)
    write.add_argument("--coco-ids", type=Path, metavar="FILE", help="COCO annotations that have the ids for coco.json")
    write.add_argument("--output", type=Path, metavar="FOLDER", help="new or empty; default: runs/detect/1, 2, ...")
    write.add_argument("--force", action="store_true", help="write into an --output folder that holds files already")
    write.add_argument("--resume", action="store_true", help="go on in --output, or in the newest of runs/detect")
    write.add_argument("--show", action="store_true", help="show each image in a window; q or Esc ends")
    write.add_argument("--quiet", action="store_true", help="no progress bar")
    how = p.add_argument_group("how")
    how.add_argument("--batch-size", type=int, default=8, metavar="N", help="images at a time, default %(default)s")
    how.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1")
    how.add_argument("--precision", default="auto", help="auto (default), fp32, bf16, fp16")
    how.add_argument("--backend", default="auto", help="auto (default), torch, openvino")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Detect; the exit code is 2 for a mistake of the user's and when something could not be read, 130 after Ctrl-C."""
    args = parser().parse_args(argv)
    formats = parse_formats(args.format)
    _check_numbers(args)
    everything = find_sources(args.sources, recursive=args.recursive)
    sources = _chosen(args, everything)
    options = _detect_options(args)

    import ssd  # what it loads brings torch, so only now
    from ssd.inference.bulk.window import open_window

    show = open_window() if args.show else lambda source, found: None
    detector = ssd.load(args.weights, device=args.device, precision=args.precision, backend=args.backend)
    detector.detect_batch([], **options)  # wrong numbers make no folder
    ids = ids_of_file(args.coco_ids, detector.class_names) if args.coco_ids else own_ids(detector.class_names)
    inputs = [source.path for source in everything if source.kind != "live"]
    folder, done = _open_folder(args, inputs, options | {"weights": args.weights, "format": sorted(formats)})
    waiting = [source for source in sources if source.address not in done.paths]
    if done.paths:
        print(f"{len(sources) - len(waiting)} of {len(sources)} are done already")
    results = Results(folder, formats, detector.class_names, output_names(waiting, done.names), done)
    start = time.perf_counter()
    try:
        _search(args, detector, waiting, results, options, show, len(sources))
        if "coco" in formats and (unknown := results.write_coco(ids)):
            print(f"{unknown} images are not in {args.coco_ids} and not in coco.json", file=sys.stderr)
    except KeyboardInterrupt:
        finished = results.tally.images + results.tally.videos
        remedy = f"Go on with the same command and --output {folder} --resume"
        print(f"interrupted after {finished} of {len(sources)}. {remedy}", file=sys.stderr)
        return INTERRUPTED
    finally:
        results.close()
    _print_summary(results.tally, done.tally, time.perf_counter() - start, folder)
    return USER_ERROR if results.tally.failed else 0


def _check_numbers(args: argparse.Namespace) -> None:
    for name in ("batch_size", "every", "max_frames"):
        value = getattr(args, name)
        if value is not None and value < 1:
            place = f"--{name.replace('_', '-')}"
            raise ArgumentError(f"{value} is too small", place=place, remedy="Use 1 or more.")


def _chosen(args: argparse.Namespace, sources: list[Source]) -> list[Source]:
    live = [source.address for source in sources if source.kind == "live"]
    for option in ("shard", "resume"):
        if live and getattr(args, option):
            problem = f"{live[0]} cannot be {'divided' if option == 'shard' else 'taken up again'}"
            raise ArgumentError(problem, place=f"--{option}", remedy="Leave it out for cameras and streams.")
    return share(sources, *parse_shard(args.shard)) if args.shard else sources


def _detect_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `Detector.detect_stream` takes."""
    from ssd.inference.detections import READABLE_SCORE

    options = {key: getattr(args, key) for key in ("score_threshold", "iou_threshold", "max_detections", "box_voting")}
    if args.score_threshold is None:
        options["score_threshold"] = READABLE_SCORE
    if args.tiles is not None:
        options |= {"tiles": _tiles(args.tiles), "tile_overlap": args.tile_overlap}
    return options


def _tiles(text: str) -> Any:
    """`2`, `2x3` or `auto` as `Detector.detect` takes it."""
    if text == "auto":
        return text
    words = text.lower().split("x")
    if len(words) > 2 or not all(word.isdecimal() for word in words):
        problem = f"{text!r} is not a number of tiles"
        raise ArgumentError(problem, place="--tiles", remedy="Use 3, 2x3 (rows x columns) or auto.")
    return int(words[0]) if len(words) == 1 else (int(words[0]), int(words[1]))


def _open_folder(args: argparse.Namespace, inputs: Sequence[Path], options: dict[str, Any]) -> tuple[Path, Done]:
    named = args.output
    if args.shard:
        number, count = parse_shard(args.shard)
        named = (named or Path("runs") / "detect-shards") / f"shard-{number}-of-{count}"
    options |= {"every": args.every, "max_frames": args.max_frames, "shard": args.shard}
    folder = output_folder(named, inputs, force=args.force, journal=JOURNAL, resume=args.resume)
    done = take_up(folder, options) if args.resume else Done()
    if not args.resume:
        (folder / JOURNAL).unlink(missing_ok=True)
    write_options(folder, options)
    return folder, done


def _search(
    args: argparse.Namespace,
    detector: "Detector",
    sources: Sequence[Source],
    results: Results,
    options: dict[str, Any],
    show: Any,
    total: int,
) -> None:
    images = [source for source in sources if source.kind == "image"]
    searched = detect_images(detector, images, results, args.batch_size, options, show)
    begun = total - len(sources)
    bar = tqdm(
        searched, initial=begun, total=begun + len(images), unit="img", disable=args.quiet or None, dynamic_ncols=True
    )
    for _ in bar if images else ():
        pass
    for source in sources:
        if source.kind != "image":
            detect_video(
                detector, source, results, args.batch_size, options, show,
                every=args.every, max_frames=args.max_frames, quiet=args.quiet,
            )  # fmt: skip


def _print_summary(tally: Tally, before: Tally, seconds: float, folder: Path) -> None:
    images, videos = _counted(tally.images, "image"), _counted(tally.videos, "video")
    where = f"{videos} ({_counted(tally.frames, 'frame')})" if tally.videos else images
    if tally.videos and tally.images:
        where = f"{images} and {where}"
    searched = tally.images + tally.frames - before.images - before.frames
    speed = f", {searched / seconds:.1f} {'frames' if tally.videos else 'images'} a second" if searched > 1 else ""
    print(f"{_counted(tally.objects, 'object')} in {where}{speed}: {folder}")
    if tally.failed:
        print(f"error: {tally.failed} failed, see above.", file=sys.stderr)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
