"""Detect in more images than one machine likes: a folder or Parquet files in, Parquet files out, with Ray Data.

    pip install "ssd-vgg[ray]"
    python examples/ray_detect.py photos/ found/ --weights runs/finetune
    python examples/ray_detect.py s3://bucket/images/ s3://bucket/found/ --actors 16   # on a Ray cluster
    python examples/ray_detect.py images.parquet found/ --column image                 # encoded images in a column

Each actor holds one detector; Ray moves the images to them and keeps its memory bounded. A row of the output is one
image: path, width, height, detections (as in a line of detections.jsonl), and error, which is null for those that
could be read. Without a cluster a local one is started, for as long as it takes. On a cluster the package must be
installed on every node, and weights that are no URL must lie in a folder that all of them share.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ssd
from ssd.commands._shared import USER_ERROR, guarded
from ssd.errors import ArgumentError, ImageError
from ssd.system.optional import load_extra

SUFFIXES = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"]


class Search:
    """One actor: a detector, and what it does with a batch of encoded images."""

    def __init__(self, weights: str, score_threshold: float, column: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)  # actors share the machine
        self.detector = ssd.load(weights)
        self.score_threshold = score_threshold
        self.column = column

    def __call__(self, table: Any) -> Any:
        """A table of images as a table of detections, with the types spelled out: a batch may hold no object."""
        import pyarrow

        paths = table.column("path").to_pylist() if "path" in table.column_names else [None] * len(table)
        encoded = [_bytes_of(value) for value in table.column(self.column).to_pylist()]
        return pyarrow.Table.from_pylist(self.rows(paths, encoded), schema=_schema())

    def rows(self, paths: Sequence[str | None], encoded: Sequence[bytes]) -> list[dict[str, Any]]:
        """A row of the output for each encoded image."""
        from ssd.images.decode import decode

        depth = self.detector.settings.preprocessing.depth
        rows: list[dict[str, Any]] = []
        images = []
        for path, data in zip(paths, encoded, strict=True):
            rows.append({"path": path})
            try:
                images.append(decode(data, path or "an image", depth=depth))
            except ImageError as error:
                rows[-1] |= {"error": str(error), "detections": []}
        found = iter(self.detector.detect_batch(images, score_threshold=self.score_threshold))
        for row in rows:
            if "error" not in row:
                row |= next(found).to_dict() | {"path": row["path"]}
        return rows


def _bytes_of(value: Any) -> bytes:
    """A column of bytes, or of Hugging Face's images: a struct with bytes in it."""
    data = value["bytes"] if isinstance(value, dict) else value
    return b"" if data is None else bytes(data)


def _schema() -> Any:
    import pyarrow as pa

    box = pa.list_(pa.float32(), 4)
    found = pa.struct({"box": box, "score": pa.float32(), "label": pa.int32(), "name": pa.string()})
    columns = {"width": pa.int32(), "height": pa.int32(), "detections": pa.list_(found), "error": pa.string()}
    return pa.schema({"path": pa.string(), **columns})


def read(source: str, column: str) -> Any:
    """The images of a folder (also below it), or of Parquet files."""
    ray = load_extra("ray", "ray")
    if "://" not in source and not Path(source).exists():
        raise ArgumentError("no such file or folder", place=source, remedy="Check the path.")
    if source.endswith(".parquet") or ("://" not in source and any(Path(source).glob("*.parquet"))):
        data = ray.data.read_parquet(source)
        if column not in data.columns():
            raise ArgumentError(f"no column {column!r}", place=source, remedy=f"It has {', '.join(data.columns())}.")
        return data.select_columns([column, "path"] if "path" in data.columns() else [column])
    return ray.data.read_binary_files(source, include_paths=True, file_extensions=SUFFIXES)


def parser() -> argparse.ArgumentParser:
    """Arguments of the example."""
    p = argparse.ArgumentParser(description="Detect in many images with Ray Data.")
    p.add_argument("source", help="a folder of images, or Parquet files with encoded images; any URL Ray reads")
    p.add_argument("output", help="a folder for Parquet files")
    p.add_argument("--weights", default="coco", help="as for detect.py, default: coco")
    p.add_argument("--score-threshold", type=float, default=0.5)
    p.add_argument("--column", default="bytes", help="where Parquet files have the images, default: bytes")
    p.add_argument("--actors", type=int, default=1, help="how many detectors work at once, default: 1")
    p.add_argument("--cpus-per-actor", type=int, default=2)
    p.add_argument("--gpus-per-actor", type=float, default=0, help="0.5 lets two share one")
    p.add_argument("--batch-size", type=int, default=16)
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Detect; the exit code is 2 for a mistake of the user's and when an image could not be read."""
    args = parser().parse_args(argv)
    if "://" not in args.output and Path(args.output).is_dir() and any(Path(args.output).iterdir()):
        raise ArgumentError("is not empty", place=args.output, remedy="Name a new folder.")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    ray = load_extra("ray", "ray")
    load_extra("ray.data", "ray")
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="WARNING", ignore_reinit_error=True)
    try:
        weights = args.weights if args.weights == "coco" or "://" in args.weights else str(Path(args.weights).resolve())
        found = read(args.source, args.column).map_batches(
            Search,
            fn_constructor_args=(weights, args.score_threshold, args.column, args.cpus_per_actor),
            batch_size=args.batch_size,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=args.actors),
            num_cpus=args.cpus_per_actor,
            num_gpus=args.gpus_per_actor or None,
        )
        found.write_parquet(args.output)
        return _summary(ray.data.read_parquet(args.output), args.output)
    finally:
        ray.shutdown()


def _summary(written: Any, output: str) -> int:
    """Say how many images there were, and which could not be read."""
    failed = written.select_columns(["path", "error"]).filter(lambda row: row["error"] is not None).materialize()
    for row in failed.take(20):
        print(f"error: {row['error']}", file=sys.stderr)
    print(json.dumps({"images": written.count(), "failed": failed.count(), "output": output}))
    return USER_ERROR if failed.count() else 0


if __name__ == "__main__":
    sys.exit(main())
