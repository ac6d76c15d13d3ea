"""The detection stages: decoding, network, post-processing, and all of them together."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ssd.benchmark import torchvision_baseline
from ssd.benchmark.agreement import EIGHT_BITS, EXACT, LOW_PRECISION, Answer, same_detections, same_numbers
from ssd.benchmark.fixtures import Fixtures
from ssd.benchmark.timing import Comparison, UnavailableError
from ssd.errors import ArgumentError, ConfigError, MissingExtraError
from ssd.images.decode import decode as decode_jpeg
from ssd.inference.detections import Detections
from ssd.inference.detector import Detector
from ssd.structures import BatchDetections, Predictions
from ssd.system.device import cpu_has_bf16

_ONE_LEVEL = 1.0  # of 255: decoders may round differently
_CHECKED = 8  # of many images


def decode(fixtures: Fixtures) -> Comparison:
    """From a JPEG to the network's input, on the CPU."""
    detector, transform = fixtures.detector("fp32"), fixtures.torchvision_model.transform

    def ours() -> Tensor:
        inputs: Tensor = detector.preprocess([decode_jpeg(fixtures.jpeg)])
        return inputs

    def theirs() -> Tensor:
        images: Tensor = transform([torchvision_baseline.as_float(torchvision_baseline.decode(fixtures.jpeg))])[
            0
        ].tensors
        return images

    def check() -> str:
        mine, other = ours(), theirs()
        return same_numbers(mine, other, _ONE_LEVEL / float(other.std()), "inputs")

    return Comparison(ours, theirs, check)


def network(
    fixtures: Fixtures,
    precision: str,
    backend: str = "auto",
    images_at_once: int = 1,
    *,
    torchvision_tuned: bool = False,
) -> Comparison:
    """Backbone and head."""
    detector = _detector(fixtures, precision, backend)
    images = detector.preprocess([decode_jpeg(fixtures.jpeg)] * images_at_once).to(fixtures.device)
    theirs_in = torchvision_baseline.tuned_(fixtures.torchvision_model, fixtures.device, torchvision_tuned)

    def ours() -> Predictions:
        predictions: Predictions = detector.predict(images)
        return predictions

    @torch.inference_mode()
    def theirs() -> dict[str, Tensor]:
        with theirs_in:
            return torchvision_baseline.network(fixtures.torchvision_model, images)

    def check() -> str:
        mine, other = ours(), theirs()
        tolerance = 1e-3 if detector.precision == "fp32" and not torchvision_tuned else 0.5
        same_numbers(mine.offsets, other["bbox_regression"], tolerance, "offsets")
        text = same_numbers(mine.logits, other["cls_logits"], tolerance, "logits")
        return f"{detector.backend} {detector.precision}: {text}"

    return Comparison(ours, theirs, check, precision=detector.precision, images=images_at_once)


def detect(
    fixtures: Fixtures,
    precision: str,
    backend: str = "torch",
    images_at_once: int = 1,
    *,
    torchvision_tuned: bool = False,
) -> Comparison:
    """From JPEGs to detections in pixels."""
    detector = _detector(fixtures, precision, backend)
    jpegs = [fixtures.jpeg] * images_at_once
    theirs_in = torchvision_baseline.tuned_(fixtures.torchvision_model, fixtures.device, torchvision_tuned)

    def ours() -> list[Detections]:
        return detector.detect_batch(jpegs, len(jpegs))

    @torch.inference_mode()
    def theirs() -> list[dict[str, Tensor]]:
        images = [
            torchvision_baseline.as_float(torchvision_baseline.decode(jpeg).to(fixtures.device)) for jpeg in jpegs
        ]
        with theirs_in:
            detections: list[dict[str, Tensor]] = fixtures.torchvision_model(images)
        return detections

    def check() -> str:
        tolerance = {"fp32": EXACT, "int8": EIGHT_BITS}.get(detector.precision, LOW_PRECISION)
        if torchvision_tuned:
            tolerance = LOW_PRECISION
        text = same_detections([_answer(found) for found in ours()], _answers(theirs()), tolerance)
        return f"{detector.backend} {detector.precision}: {text}"

    pairs = 9 if images_at_once > 1 else 21
    return Comparison(ours, theirs, check, pairs=pairs, precision=detector.precision, images=images_at_once)


def detect_many(fixtures: Fixtures, precision: str, images: int = 64) -> Comparison:
    """Many JPEGs as a batch, of which images are computed at the same time, against one by one by OpenVINO."""
    detector, single = _detector(fixtures, precision, "auto"), _detector(fixtures, precision, "openvino")
    jpegs = [fixtures.jpeg] * images

    def ours() -> list[Detections]:
        return detector.detect_batch(jpegs)

    def theirs() -> list[Detections]:
        return [single.detect(jpeg) for jpeg in jpegs]

    def check() -> str:
        some = jpegs[:_CHECKED]
        mine, other = detector.detect_batch(some), [single.detect(jpeg) for jpeg in some]
        # PyTorch's resize of floats depends on the number of threads in its last bit, which bf16 rounds to another.
        tolerance = EXACT if detector.precision == "fp32" else LOW_PRECISION
        text = same_detections([_answer(found) for found in mine], [_answer(found) for found in other], tolerance)
        return f"{detector.backend} {detector.precision}: {text}"

    return Comparison(ours, theirs, check, pairs=5, precision=detector.precision, images=images)


def _detector(fixtures: Fixtures, precision: str, backend: str) -> Detector:
    """The detector of a stage.

    Raises:
        UnavailableError: this machine cannot run it.
    """
    if precision == "bf16" and fixtures.device.type == "cpu" and not cpu_has_bf16():
        raise UnavailableError("this CPU has no instructions for bf16")
    try:
        return fixtures.detector(precision, backend)
    except (ArgumentError, ConfigError, MissingExtraError) as error:
        raise UnavailableError(str(error)) from None


def postprocess_typical(fixtures: Fixtures) -> Comparison:
    """Predictions that are mostly background, with a few objects of a dozen default boxes each."""
    generator = torch.Generator().manual_seed(2)
    boxes, columns = len(fixtures.default_boxes), fixtures.sizes.columns
    logits = torch.randn(fixtures.sizes.batch, boxes, columns, generator=generator)
    logits[..., 0] += 9
    for image in logits:
        for _ in range(fixtures.sizes.objects):
            seen = torch.randint(0, boxes, (12,), generator=generator)
            label = int(torch.randint(1, columns, (), generator=generator))
            image[seen, label] += 6 + 5 * torch.rand(12, generator=generator)
    return _postprocess(fixtures, torch.randn(fixtures.sizes.batch, boxes, 4, generator=generator), logits)


def postprocess_worst(fixtures: Fixtures) -> Comparison:
    """Predictions with all classes equally likely, as in the first evaluation of a training run."""
    generator = torch.Generator().manual_seed(2)
    shape = fixtures.sizes.batch, len(fixtures.default_boxes)
    offsets = torch.randn(*shape, 4, generator=generator)
    return _postprocess(fixtures, offsets, torch.randn(*shape, fixtures.sizes.columns, generator=generator))


def _postprocess(fixtures: Fixtures, offsets: Tensor, logits: Tensor) -> Comparison:
    predictions = Predictions(offsets.to(fixtures.device), logits.to(fixtures.device))
    outputs = {"bbox_regression": predictions.offsets, "cls_logits": predictions.logits}
    side, images = fixtures.settings.network.input_size, len(logits)
    detector = fixtures.detector("fp32")

    @torch.inference_mode()
    def ours() -> BatchDetections:
        return detector.postprocess(predictions)

    @torch.inference_mode()
    def theirs() -> list[dict[str, Tensor]]:
        detections: list[dict[str, Tensor]] = fixtures.torchvision_model.postprocess_detections(
            outputs, [fixtures.torchvision_default_boxes] * images, [(side, side)] * images
        )
        return detections

    return Comparison(ours, theirs, lambda: same_detections(_from_found(ours(), side), _answers(theirs()), EXACT))


def _from_found(found: BatchDetections, side: int) -> list[Answer]:
    rows = zip(found.boxes.cpu() * side, found.scores.cpu(), found.labels.cpu(), found.counts.tolist(), strict=True)
    return [Answer(boxes[:count], scores[:count], labels[:count]) for boxes, scores, labels, count in rows]


def _answer(found: Detections) -> Answer:
    return Answer(torch.from_numpy(found.boxes), torch.from_numpy(found.scores), torch.from_numpy(found.labels))


def _answers(detections: Sequence[dict[str, Tensor]]) -> list[Answer]:
    return [Answer(d["boxes"].cpu(), d["scores"].cpu(), d["labels"].cpu() - 1) for d in detections]
