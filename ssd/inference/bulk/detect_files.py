"""`detect_files`: detects in images, folders, videos and cameras, writes a folder of results, and can resume."""

import logging
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ssd.data.labels.xml_files import NO_XML
from ssd.errors import ArgumentError, at_least, counted
from ssd.inference.bulk.coco_ids import CocoIds, ids_of_file, own_ids
from ssd.inference.bulk.image_files import detect_images
from ssd.inference.bulk.journal import JOURNAL, Done, Tally, take_up, write_options
from ssd.inference.bulk.output_folder import output_folder
from ssd.inference.bulk.results import Results, parse_formats
from ssd.inference.bulk.sources import Source, find_sources, output_names, parse_shard, share, source_of
from ssd.inference.bulk.video import detect_video
from ssd.inference.bulk.work import Show, Work
from ssd.inference.bulk.written_labels import forget_labels, refuse_corrected
from ssd.inference.detector import Detector
from ssd.inference.load import load
from ssd.rules import READABLE_SCORE, ScoreThreshold
from ssd.tiles import OVERLAP, Tiles, has_tiles

log = logging.getLogger(__name__)
_LOW_SCORE = 0.1  # from which to look on where nothing was found


@dataclass(frozen=True)
class BulkResult:
    """The counts of a bulk detection, and its folder."""

    folder: Path
    tally: Tally  # of everything in the folder
    before: Tally  # the part of it from before a resume
    seconds: float
    without_id: int = 0  # images that are not in coco.json, because the annotation file does not have them
    # The number of detections in the other images that are not there, by class: the file does not have these classes.
    classes_without_id: Mapping[str, int] = field(default_factory=dict)
    lower_threshold: float | None = None  # a score threshold that is below the one used, where there is one to try

    def __str__(self) -> str:
        tally = self.tally
        images, frames = counted(tally.images, "image"), counted(tally.frames, "frame")
        # A video that broke off counts by its frames alone.
        videos = f"{counted(tally.videos, 'video')} ({frames})" if tally.videos else frames
        parts = [images] if tally.images else []
        parts += [videos] if tally.frames or tally.videos else []
        searched = tally.images + tally.frames - self.before.images - self.before.frames
        unit = "frames" if tally.frames else "images"
        speed = f", {searched / self.seconds:.1f} {unit} a second" if searched > 1 else ""
        return f"{counted(tally.objects, 'object')} in {' and '.join(parts or [images])}{speed}: {self.folder}"


def detect_files(
    sources: str | Path | Sequence[str | Path],
    weights: str | Path | Detector = "coco",
    *,
    output: str | Path | None = None,
    format: str | Sequence[str] = "images,jsonl",
    copy: bool = False,
    coco_ids: str | Path | None = None,
    score_threshold: ScoreThreshold | None = None,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    box_voting: float | None = None,
    tiles: Tiles | None = None,
    tile_overlap: float = OVERLAP,
    recursive: bool = False,
    every: int = 1,
    max_frames: int | None = None,
    shard: str | None = None,
    resume: bool = False,
    force: bool = False,
    batch_size: int = 8,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    show: Show | None = None,
    progress: bool = False,
) -> BulkResult:
    """Find the objects in files, folders, globs, videos, cameras (a number) and streams (an address).

    `output` is a new or empty folder, by default the next of runs/detect/1, 2, ...; `format` lists (a text with commas
    will do) what is written into it: images, jsonl (always), coco (results, with the ids of the annotation file
    `coco_ids`, else of the images' names without suffix), and labels to correct and train on: voc, coco-data, yolo,
    labelme, labelstudio, cvat. Labels name the images where they are; yolo, and `copy` for all formats, copy them into
    `images/`, which makes the folder a data set.
    Without `score_threshold` detections above the weights' own thresholds are kept, or from 0.5 on where the weights
    have none, never below what an exported graph was exported with; see `Detector.detect`. `every` and `max_frames`
    thin out videos; `shard="2/8"` takes the second of eight shares. `resume` continues in the folder of an interrupted
    call. Unreadable sources are counted in `tally.failed` and named in the folder's detections.jsonl.

    Raises:
        ArgumentError: an option is out of its range, a source is missing, two have one id in coco.json, or the folder
            has other files, or labels that were corrected since.
        CheckpointError: the weights cannot be used.
        KeyboardInterrupt: with a note on how to resume, where that is possible. Ctrl-C ends a camera or stream alone.
    """
    formats = parse_formats(format)
    if coco_ids is not None and "coco" not in formats:
        remedy = f"Add it: --format {','.join(sorted({*formats, 'coco'}))}"
        raise ArgumentError("has the ids of coco.json, which --format leaves out", place="--coco-ids", remedy=remedy)
    at_least(1, batch_size=batch_size, every=every, max_frames=max_frames)
    everything = find_sources([str(source) for source in _listed(sources)], recursive=recursive)
    chosen = _chosen(everything, shard, resume=resume)
    if "cvat" in formats:
        _check_names(everything, copied=copy or "yolo" in formats)
    named = repr(weights) if isinstance(weights, Detector) else str(weights)
    if not isinstance(weights, Detector):
        weights = load(weights, device=device, precision=precision, backend=backend)
    options: dict[str, Any] = {
        "score_threshold": _threshold(weights) if score_threshold is None else score_threshold,
        "iou_threshold": iou_threshold,
        "max_detections": max_detections,
        "box_voting": box_voting,
        **_tile_options(weights, tiles, tile_overlap),
    }
    weights.detect_batch([], **options)  # checks the options before a folder is made
    ids = own_ids(weights.class_names) if coco_ids is None else ids_of_file(Path(coco_ids), weights.class_names)
    if "coco" in formats:
        _check_ids(ids, everything)
    inputs = [source.path for source in everything if source.kind != "live"]
    folder = output_folder(_named(output, shard), inputs, force=force, journal=JOURNAL, resume=resume)
    facts = {**options, "weights": named, "format": sorted(formats)}
    facts |= {"every": every, "max_frames": max_frames, "shard": shard, **({"copy": True} if copy else {})}
    done = _take_up(folder, facts, resume=resume)
    earlier = sorted(done.paths - {source.address for source in everything})
    if earlier and "coco" in formats:
        _check_ids(ids, [*everything, *map(source_of, earlier)])
    waiting = [source for source in chosen if source.address not in done.paths]
    if done.paths:
        log.info("%d of %d are done already", len(chosen) - len(waiting), len(chosen))
    results = Results(folder, formats, weights.class_names, output_names(waiting, done.names), done, copy=copy)
    start = time.perf_counter()
    work = Work(weights, results, batch_size, options, show, progress)
    try:
        _search(work, waiting, len(chosen), every=every, max_frames=max_frames)
        without_id, classes = _write_at_the_end(results, ids)
    except KeyboardInterrupt as stop:
        finished = results.tally.images + results.tally.videos
        remedy = _how_to_go_on(everything, folder if shard is None else output)
        if not remedy:
            _write_at_the_end(results, ids)
        stop.add_note(f"interrupted after {finished} of {len(chosen)}. {remedy}".rstrip())
        raise
    finally:
        results.close()
    seconds = time.perf_counter() - start
    lower = _lower_threshold(weights, options["score_threshold"])
    return BulkResult(folder, results.tally, done.tally, seconds, without_id, classes, lower)


def _listed(sources: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    return [sources] if isinstance(sources, str | Path) else sources


def _tile_options(detector: Detector, tiles: Tiles | None, overlap: float) -> dict[str, Any]:
    """The options of `Detector.detect` about tiles, where they are not the detector's own."""
    if overlap != OVERLAP and not has_tiles(detector.settings.tiles if tiles is None else tiles):
        raise ArgumentError("has no effect without tiles", place="--tile-overlap", remedy="Add --tiles auto.")
    options: dict[str, Any] = {} if tiles is None else {"tiles": tiles}
    return options if tiles is None and overlap == OVERLAP else {**options, "tile_overlap": overlap}


def _search(work: Work, sources: Sequence[Source], total: int, *, every: int, max_frames: int | None) -> None:
    """Search images, then videos and streams; the others of `total` are done already."""
    _detect_images(work, [source for source in sources if source.kind == "image"], total - len(sources))
    for source in sources:
        if source.kind != "image":
            detect_video(work, source, every=every, max_frames=max_frames)


def _write_at_the_end(results: Results, ids: CocoIds) -> tuple[int, Counter[str]]:
    """Write the files that hold all images: labels and coco.json. Returns what `Results.write_coco` does."""
    if not results.tally.images and not results.tally.frames:
        return 0, Counter()
    results.write_labels()
    return results.write_coco(ids) if "coco" in results.formats else (0, Counter())


def _check_names(sources: Sequence[Source], *, copied: bool) -> None:
    """Refuse names that would not come back from CVAT's file, such as those with bytes that are no UTF-8."""
    for source in sources:
        if NO_XML.search(Path(source.key).name if copied else source.key):
            problem = "has a name that cannot be written as XML, which cvat is"
            raise ArgumentError(problem, place=source.address, remedy="Rename it, or leave cvat out of --format.")


def _check_ids(ids: CocoIds, sources: Sequence[Source]) -> None:
    images = (source.address for source in sources if source.kind == "image")
    ids.check(images, (source.address for source in sources if source.kind != "image"))


def _how_to_go_on(sources: Sequence[Source], named: str | Path | None) -> str:
    """What to type after an interruption; `named` is the folder to name for it."""
    if any(source.kind == "live" for source in sources):
        return ""  # cameras and streams cannot be taken up again
    output = "" if named is None else f"--output {shlex.quote(str(named))} "
    return f"Go on with the same command and {output}--resume"


def _lower_threshold(detector: Detector, used: ScoreThreshold) -> float | None:
    """0.1, or what an exported graph has inside, where the threshold of a class is above that."""
    rules = detector.rules(score_threshold=used)
    lower = max(_LOW_SCORE, detector.settings.postprocessing.score_threshold)
    return lower if lower < max(rules.class_thresholds, default=rules.score_threshold) else None


def _threshold(detector: Detector) -> ScoreThreshold:
    """The weights' own thresholds, else 0.5; but no less than an exported graph was exported with."""
    rules = detector.settings.postprocessing
    least, own = rules.score_threshold, rules.own_thresholds
    if not own:
        return max(READABLE_SCORE, least)
    if min(own) >= least:
        return "own"
    return {name: max(value, least) for name, value in zip(detector.class_names, own, strict=True)}


def _detect_images(work: Work, sources: Sequence[Source], before: int) -> None:
    """Detect in images, batch by batch, with a progress bar; `before` of all sources are done already."""
    quiet = None if work.progress else True  # None: no bar where nobody watches
    searched = detect_images(work, sources)
    total = before + len(sources)
    bar = tqdm(searched, initial=before, total=total, unit="img", disable=quiet, dynamic_ncols=True)
    for _ in bar if sources else ():
        pass


def _chosen(sources: list[Source], shard: str | None, *, resume: bool) -> list[Source]:
    """The sources of this shard; cameras and streams can be neither divided nor resumed."""
    live = [source.address for source in sources if source.kind == "live"]
    for option, given, verb in (("--shard", shard, "divided"), ("--resume", resume, "taken up again")):
        if live and given:
            remedy = "Leave it out for cameras and streams."
            raise ArgumentError(f"{live[0]} cannot be {verb}", place=option, remedy=remedy)
    return share(sources, *parse_shard(shard)) if shard else sources


def _named(output: str | Path | None, shard: str | None) -> Path | None:
    """The given folder, or for a shard its own folder below it."""
    named = None if output is None else Path(output)
    if shard is None:
        return named
    number, count = parse_shard(shard)
    return (named or Path("runs") / "detect-shards") / f"shard-{number}-of-{count}"


def _take_up(folder: Path, facts: dict[str, Any], *, resume: bool) -> Done:
    if resume:
        refuse_corrected(folder)
    forget_labels(folder)
    done = take_up(folder, facts) if resume else Done()
    if not resume:
        (folder / JOURNAL).unlink(missing_ok=True)
    write_options(folder, facts)
    return done
