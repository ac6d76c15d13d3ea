"""The function of each stage, by name."""

from collections.abc import Callable
from functools import partial

from ssd.benchmark import inference, training
from ssd.benchmark.augmentation import augmentation
from ssd.benchmark.coco import coco_eval
from ssd.benchmark.fixtures import Fixtures
from ssd.benchmark.timing import Comparison

COMPARISONS: dict[str, Callable[[Fixtures], Comparison]] = {
    "decode": inference.decode,
    "network": partial(inference.network, precision="auto"),
    "network_bf16": partial(inference.network, precision="bf16", backend="torch"),
    "network_fp32": partial(inference.network, precision="fp32"),
    "detect_fp32": partial(inference.detect, precision="fp32", backend="auto"),
    "detect_bf16": partial(inference.detect, precision="bf16"),
    "detect_openvino_bf16": partial(inference.detect, precision="bf16", backend="openvino"),
    "detect_openvino_int8": partial(inference.detect, precision="int8", backend="openvino"),
    "detect_batch8": partial(inference.detect, precision="auto", backend="auto", images_at_once=8),
    "detect_many": partial(inference.detect_many, precision="auto"),
    "detect_many_fp32": partial(inference.detect_many, precision="fp32"),
    "postprocess_typical": inference.postprocess_typical,
    "postprocess_worst": inference.postprocess_worst,
    "loss": training.loss,
    "augmentation": augmentation,
    "train_step": partial(training.train_step, torchvision_tuned=False),
    "train_step_best": partial(training.train_step, torchvision_tuned=True),
    "network_batch32": partial(inference.network, precision="auto", images_at_once=32),
    "network_batch32_best": partial(inference.network, precision="auto", images_at_once=32, torchvision_tuned=True),
    "network_batch128": partial(inference.network, precision="auto", images_at_once=128),
    "detect_batch32": partial(inference.detect, precision="auto", backend="auto", images_at_once=32),
    "detect_batch32_best": partial(
        inference.detect, precision="auto", backend="auto", images_at_once=32, torchvision_tuned=True
    ),
    "detect_batch128": partial(inference.detect, precision="auto", backend="auto", images_at_once=128),
    "train_step32_best": partial(training.train_step, torchvision_tuned=True, images=32),
    "coco_eval": coco_eval,
}
