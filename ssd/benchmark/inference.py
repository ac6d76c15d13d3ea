"""The stages of detection: decode, network, post-processing, and all of it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ssd.benchmark import torchvision_baseline
from ssd.benchmark.agreement import EIGHT_BITS, EXACT, LOW_PRECISION, Answer, same_detections, same_numbers
from ssd.benchmark.fixtures import Bench
from ssd.benchmark.timing import Contest, UnavailableError
from ssd.errors import ArgumentError, ConfigError, MissingExtraError
from ssd.images.decode import decode as decode_jpeg
from ssd.inference.detections import Detections
from ssd.structures import BatchDetections, Predictions
from ssd.system.device import cpu_has_bf16

_ONE_LEVEL = 1.0  # of 255: decoders may round differently


def decode(bench: Bench) -> Contest:
    """A JPEG to the network's input, on the CPU."""
    detector, transform = bench.detector("fp32"), bench.peer.transform

    def ours() -> Tensor:
        inputs: Tensor = detector.preprocess([decode_jpeg(bench.jpeg)])
        return inputs

    def theirs() -> Tensor:
        images: Tensor = transform([torchvision_baseline.as_float(torchvision_baseline.decode(bench.jpeg))])[0].tensors
        return images

    def check() -> str:
        mine, other = ours(), theirs()
        return same_numbers(mine, other, _ONE_LEVEL / float(other.std()), "inputs")

    return Contest(ours, theirs, check)


def network(bench: Bench, precision: str) -> Contest:
    """Backbone and head."""
    detector = bench.detector(precision)
    images = detector.preprocess([decode_jpeg(bench.jpeg)]).to(bench.device)

    def ours() -> Predictions:
        predictions: Predictions = detector.predict(images)
        return predictions

    @torch.inference_mode()
    def theirs() -> dict[str, Tensor]:
        return torchvision_baseline.network(bench.peer, images)

    def check() -> str:
        mine, other = ours(), theirs()
        tolerance = 1e-3 if detector.precision == "fp32" else 0.5
        same_numbers(mine.offsets, other["bbox_regression"], tolerance, "offsets")
        return f"{detector.precision}: {same_numbers(mine.logits, other['cls_logits'], tolerance, 'logits')}"

    return Contest(ours, theirs, check)


def detect(bench: Bench, precision: str, backend: str = "torch", images_at_once: int = 1) -> Contest:
    """JPEGs to detections in pixels."""
    if precision == "bf16" and bench.device.type == "cpu" and not cpu_has_bf16():
        raise UnavailableError("this CPU has no instructions for bf16")
    try:
        detector = bench.detector(precision, backend)
    except (ArgumentError, ConfigError, MissingExtraError) as error:
        raise UnavailableError(str(error)) from None
    jpegs = [bench.jpeg] * images_at_once

    def ours() -> list[Detections]:
        return detector.detect_batch(jpegs, len(jpegs))

    @torch.inference_mode()
    def theirs() -> list[dict[str, Tensor]]:
        images = [torchvision_baseline.as_float(torchvision_baseline.decode(jpeg).to(bench.device)) for jpeg in jpegs]
        detections: list[dict[str, Tensor]] = bench.peer(images)
        return detections

    def check() -> str:
        tolerance = {"fp32": EXACT, "int8": EIGHT_BITS}.get(detector.precision, LOW_PRECISION)
        text = same_detections([_answer(found) for found in ours()], _answers(theirs()), tolerance)
        return f"{detector.backend} {detector.precision}: {text}"

    return Contest(ours, theirs, check, pairs=9 if images_at_once > 1 else 21)


def postprocess_typical(bench: Bench) -> Contest:
    """Background nearly everywhere, a handful of objects, each seen by a dozen default boxes."""
    generator = torch.Generator().manual_seed(2)
    boxes, columns = len(bench.default_boxes), bench.sizes.columns
    logits = torch.randn(bench.sizes.batch, boxes, columns, generator=generator)
    logits[..., 0] += 9
    for image in logits:
        for _ in range(bench.sizes.objects):
            seen = torch.randint(0, boxes, (12,), generator=generator)
            label = int(torch.randint(1, columns, (), generator=generator))
            image[seen, label] += 6 + 5 * torch.rand(12, generator=generator)
    return _postprocess(bench, torch.randn(bench.sizes.batch, boxes, 4, generator=generator), logits)


def postprocess_worst(bench: Bench) -> Contest:
    """Every class as likely as any other, everywhere: what the first evaluation of a training run meets."""
    generator = torch.Generator().manual_seed(2)
    shape = bench.sizes.batch, len(bench.default_boxes)
    offsets = torch.randn(*shape, 4, generator=generator)
    return _postprocess(bench, offsets, torch.randn(*shape, bench.sizes.columns, generator=generator))


def _postprocess(bench: Bench, offsets: Tensor, logits: Tensor) -> Contest:
    predictions = Predictions(offsets.to(bench.device), logits.to(bench.device))
    outputs = {"bbox_regression": predictions.offsets, "cls_logits": predictions.logits}
    side, images = bench.settings.network.input_size, len(logits)
    detector = bench.detector("fp32")

    @torch.inference_mode()
    def ours() -> BatchDetections:
        return detector.postprocess(predictions)

    @torch.inference_mode()
    def theirs() -> list[dict[str, Tensor]]:
        detections: list[dict[str, Tensor]] = bench.peer.postprocess_detections(
            outputs, [bench.peer_default_boxes] * images, [(side, side)] * images
        )
        return detections

    return Contest(ours, theirs, lambda: same_detections(_from_found(ours(), side), _answers(theirs()), EXACT))


def _from_found(found: BatchDetections, side: int) -> list[Answer]:
    rows = zip(found.boxes.cpu() * side, found.scores.cpu(), found.labels.cpu(), found.counts.tolist(), strict=True)
    return [Answer(boxes[:count], scores[:count], labels[:count]) for boxes, scores, labels, count in rows]


def _answer(found: Detections) -> Answer:
    return Answer(torch.from_numpy(found.boxes), torch.from_numpy(found.scores), torch.from_numpy(found.labels))


def _answers(detections: Sequence[dict[str, Tensor]]) -> list[Answer]:
    return [Answer(d["boxes"].cpu(), d["scores"].cpu(), d["labels"].cpu() - 1) for d in detections]
