"""`detect SOURCE ...`: detects in images, folders, videos and cameras; writes drawings, JSON lines, COCO and YOLO."""

import argparse
import sys

from ssd.commands._shared import USER_ERROR, add_runtime, check_numbers, guarded, start_work, threshold, tiles
from ssd.errors import printable

EPILOG = """examples:
  ssd detect street.jpg                                    SSD300 trained on COCO, fetched once
  ssd detect photos/ more/*.png --weights runs/run         a run's best weights
  ssd detect clip.mp4                                      draws the video; so do 0 (a camera) and rtsp://...
  ssd detect photos/ --format yolo                         a data set to correct and train on, no drawings
  ssd detect photos/ --format labelme,cvat --copy          the same for these tools
  ssd detect aerial.tif --tiles auto                       small objects in large images
  ssd detect photos/ --output found --resume               goes on where it was interrupted, or starts
  ssd detect photos/ --output found --shard 2/8            this machine's eighth, into found/shard-2-of-8

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
    p.add_argument(
        "--weights", default="coco", help="a file, a run's folder, hf://owner/name, coco (default) or ssdlite"
    )
    found = p.add_argument_group("what is found")
    found.add_argument(
        "--score-threshold", metavar="S", help="0.3, own, or WBC=0.3,RBC=0.5; default: the weights' own, else 0.5"
    )
    found.add_argument(
        "--iou-threshold", type=float, metavar="IOU", help="of the suppression; default: the weights' own"
    )
    found.add_argument("--max-detections", type=int, metavar="N", help="per image; default: the weights' own")
    found.add_argument("--box-voting", type=float, metavar="SIGMA", help="0: none; default: the weights' own")
    found.add_argument(
        "--tiles",
        metavar="N|RxC|auto",
        help="search parts of large images too, for small objects; 1: none; default: the weights' own",
    )
    found.add_argument("--tile-overlap", type=float, default=0.2, metavar="PART", help="default %(default)s of a tile")
    read = p.add_argument_group("what is read")
    read.add_argument("--recursive", action="store_true", help="look into folders within folders")
    read.add_argument("--every", type=int, default=1, metavar="N", help="every Nth frame of a video")
    read.add_argument("--max-frames", type=int, metavar="N", help="stop a video, camera or stream after N frames")
    read.add_argument("--shard", metavar="I/N", help="search the Ith of N equal shares, for N machines")
    write = p.add_argument_group("what is written")
    text = (
        "images (drawings, the default), coco (results), and labels for annotation tools: voc, coco-data, yolo, "
        "labelme, labelstudio, cvat; several with commas. jsonl is always written, and alone writes nothing else"
    )
    write.add_argument("--format", default="images,jsonl", metavar="LIST", help=text)
    write.add_argument("--copy", action="store_true", help="copy the images beside their labels, as yolo always does")
    write.add_argument("--coco-ids", metavar="FILE", help="COCO annotations that have the ids for coco.json")
    write.add_argument("--output", metavar="FOLDER", help="new or empty; default: runs/detect/1, 2, ...")
    write.add_argument("--force", action="store_true", help="write into an --output folder that holds files already")
    write.add_argument("--resume", action="store_true", help="go on in --output, or in the newest of runs/detect")
    write.add_argument("--show", action="store_true", help="show each image in a window; q or Esc ends")
    write.add_argument("--quiet", action="store_true", help="no progress bar")
    how = p.add_argument_group("how")
    how.add_argument("--batch-size", type=int, default=8, metavar="N", help="images at a time, default %(default)s")
    add_runtime(how)
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Detect; the exit code is 2 for a user's mistake or an unreadable source, 130 after Ctrl-C."""
    args = parser().parse_args(argv)
    check_numbers(args, batch_size=1, every=1, max_frames=1)
    parts = tiles(args.tiles)
    start_work()

    from ssd.inference.bulk.detect_files import detect_files  # brings torch, so only now
    from ssd.inference.bulk.window import open_window

    result = detect_files(
        args.sources,
        args.weights,
        output=args.output,
        format=args.format,
        copy=args.copy,
        coco_ids=args.coco_ids,
        score_threshold=threshold(args.score_threshold),
        iou_threshold=args.iou_threshold,
        max_detections=args.max_detections,
        box_voting=args.box_voting,
        tiles=parts,
        tile_overlap=args.tile_overlap,
        recursive=args.recursive,
        every=args.every,
        max_frames=args.max_frames,
        shard=args.shard,
        resume=args.resume,
        force=args.force,
        batch_size=args.batch_size,
        device=args.device,
        precision=args.precision,
        backend=args.backend,
        show=open_window() if args.show else None,
        progress=not args.quiet,
    )
    if result.without_id:
        print(printable(f"{result.without_id} images are not in {args.coco_ids} and not in coco.json"), file=sys.stderr)
    if result.classes_without_id:
        named = ", ".join(f"{name} ({count})" for name, count in result.classes_without_id.items())
        print(
            printable(f"detections of classes that {args.coco_ids} lacks are not in coco.json: {named}"),
            file=sys.stderr,
        )
    print(printable(str(result)))
    if (result.tally.images or result.tally.frames) and not result.tally.objects and result.lower_threshold:
        advice = f"a lower one shows more: --score-threshold {result.lower_threshold:g}"
        print(f"no object reaches the score threshold; {advice}", file=sys.stderr)
    if result.tally.failed:
        print(f"error: {result.tally.failed} failed, see above.", file=sys.stderr)
    return USER_ERROR if result.tally.failed else 0
