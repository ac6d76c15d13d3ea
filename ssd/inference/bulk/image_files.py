"""Detection in image files, batch by batch; threads decode and draw while the network computes."""

import contextlib
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

from ssd.errors import ImageError
from ssd.images.decode import load_image
from ssd.inference.bulk.results import Results
from ssd.inference.bulk.sources import Source
from ssd.inference.bulk.work import Work
from ssd.inference.detections import Detections
from ssd.rules import Depth
from ssd.system.threads import image_threads, map_ahead


def detect_images(work: Work, sources: Sequence[Source]) -> Iterator[Source]:
    """Detect in each image, write and yield the result. Unreadable images are recorded. Memory holds three batches."""
    batches = [sources[start : start + work.batch_size] for start in range(0, len(sources), work.batch_size)]
    with contextlib.closing(_outcomes(work, batches)) as outcomes:
        for batch in batches:
            written = image_threads().map(partial(_write, work.results), batch, list(islice(outcomes, len(batch))))
            for source, (outcome, files) in zip(batch, written, strict=True):
                work.results.add_image(source, outcome, files)
                if not isinstance(outcome, ImageError):
                    work.shown(source, outcome)
                yield source


def _outcomes(work: Work, batches: Sequence[Sequence[Source]]) -> Generator[Detections | ImageError, None, None]:
    """Yield the detections of each image, or why it cannot be read; the detector sees all images as one stream."""
    read: deque[ImageError | None] = deque()  # of the images that the detector has taken, and those between them
    depth = work.detector.settings.preprocessing.depth

    def readable() -> Generator[Any, None, None]:
        with contextlib.closing(map_ahead(partial(_decode_batch, depth=depth), batches)) as decoded:
            for image in chain.from_iterable(decoded):
                read.append(image if isinstance(image, ImageError) else None)
                if read[-1] is None:
                    yield image

    for found in work.detector.detect_stream(readable(), work.batch_size, **work.options):
        while (error := read.popleft()) is not None:
            yield error
        yield found
    for error in read:
        assert error is not None
        yield error


def _decode_batch(batch: Sequence[Source], depth: Depth | None) -> list[Any]:
    return list(image_threads().map(partial(_decode, depth=depth), batch))


def _decode(source: Source, depth: Depth | None) -> Any:
    try:
        return load_image(source.path, depth=depth)
    except ImageError as error:
        return error


def _write(
    results: Results, source: Source, outcome: Detections | ImageError
) -> tuple[Detections | ImageError, list[str]]:
    if isinstance(outcome, ImageError):
        return outcome, []
    try:
        return outcome, results.draw(source, outcome)
    except ImageError as error:
        return error, []
