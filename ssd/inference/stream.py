"""The images of one call on their way through a pipeline: read, searched in batches, and on a CPU several at once."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from ssd.images.any_image import as_image
from ssd.inference import tiling
from ssd.inference.image_lists import groups
from ssd.inference.pipelines import Image, Pipeline
from ssd.rules import Postprocessing
from ssd.structures import ImageDetections
from ssd.system.threads import image_threads, map_ahead, map_at_once
from ssd.tiles import Tiles, has_tiles, windows


@dataclass(frozen=True)
class Batch:
    """Images that were read."""

    sources: Sequence[object]
    arrays: Sequence[Image]
    inputs: Any  # of the network; None where only parts of the images go to it


Found = tuple[Batch, Iterable[ImageDetections]]


@dataclass(frozen=True)
class Search:
    """How the images of one call are read and searched."""

    rules: Postprocessing
    tiles: Tiles
    overlap: float  # of tiles
    bgr: bool  # the order of the channels in arrays

    def read(self, pipeline: Pipeline, sources: Sequence[object]) -> Batch:
        """Decode images, and convert them to the input of the network."""
        depth = pipeline.settings.preprocessing.depth
        each = map if pipeline.device == "cpu" or len(sources) == 1 else image_threads().map
        arrays = list(each(functools.partial(as_image, bgr=self.bgr, depth=depth), sources))
        return Batch(sources, arrays, None if has_tiles(self.tiles) else pipeline.preprocess(arrays))

    def find(self, pipeline: Pipeline, batch: Batch, at_once: int) -> Iterable[ImageDetections]:
        """The detections of each image; of tiled images as they are asked for, with `at_once` windows in a batch."""
        if batch.inputs is not None:
            return pipeline.detect(batch.inputs, self.rules).to_images()
        side = pipeline.settings.network.input_size
        plans = [windows(image.shape[0], image.shape[1], self.tiles, self.overlap, side) for image in batch.arrays]

        def find(views: Sequence[Image]) -> list[ImageDetections]:
            return pipeline.detect(pipeline.preprocess(views), self.rules).to_images()

        return tiling.search(find, batch.arrays, plans, at_once, self.rules)


def search_all(pipeline: Pipeline, images: Iterator[object], batch_size: int, search: Search) -> Iterator[Found]:
    """Yield the images with what is found in them, `batch_size` or fewer at a time."""
    first = list(islice(images, min(batch_size, 2)))
    many, callers = pipeline.for_throughput() if len(first) > 1 else (pipeline, 1)
    if callers > 1:
        threads = min(callers, batch_size - 1)  # one more image is held
        first += islice(images, max(0, threads - len(first)))

        def read_and_find(sources: Sequence[object]) -> Found:
            batch = search.read(many, sources)
            return batch, list(search.find(many, batch, 1))

        yield from map_at_once(read_and_find, groups(chain(first, images), 1), threads=min(threads, len(first)))
        return
    # A CPU has no cores left while the network computes, so that nothing is read ahead.
    ahead = map_ahead if pipeline.device != "cpu" and batch_size > 1 else map
    for batch in ahead(functools.partial(search.read, pipeline), groups(chain(first, images), batch_size)):
        yield batch, search.find(pipeline, batch, batch_size)
