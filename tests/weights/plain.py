"""Five more codes, written down plainly from their documented layouts: keys, preparation, forward pass, boxes.

Nothing here comes from `ssd.weights`. `say(...)` gives, for one image, every default box as it was decoded there
(corners, fractions of the image) and its class probabilities without background, in that code's own order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import sqrt

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tests.weights import made

VGG_NAMES = ["1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_1", "4_2", "4_3", "5_1", "5_2", "5_3", "6", "7"]
PLACES = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33]
LEVELS = {300: 6, 512: 7}
GRIDS = {300: [38, 19, 10, 5, 3, 1], 512: [64, 32, 16, 8, 4, 2, 1]}
RATIOS = {300: [[2], [2, 3], [2, 3], [2, 3], [2], [2]], 512: [[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]]}
STEPS = {300: [8, 16, 32, 64, 100, 300], 512: [8, 16, 32, 64, 128, 256, 512]}


@dataclass(frozen=True)
class BatchSampler:
    """Names of the weights in the order of the forward pass; `bias` turns a weight's name into its bias's."""

    trunk: list[str]
    offsets: list[str]
    logits: list[str]
    bias: Callable[[str], str]


@lru_cache(maxsize=2)
def random_tensors(outputs: int, size: int) -> dict[str, Tensor]:
    trunk, heads = made.random_parts(outputs, size)
    return {**trunk, **heads}


def random_state(keys: BatchSampler, outputs: int, size: int, loudness: float = 0.03) -> dict[str, Tensor]:
    """Random weights under those names; the norm is still lacking.

    Pixels that are not divided by their spread come through the network as loud as they are: `loudness` keeps the
    offsets where boxes move by about their size.
    """
    tensors = random_tensors(outputs, size)
    names = [
        *zip(
            keys.trunk, [f"vgg.{p}" for p in PLACES] + [f"extras.{i}" for i in range(2 * LEVELS[size] - 4)], strict=True
        ),
        *zip(keys.offsets, [f"loc.{i}" for i in range(LEVELS[size])], strict=True),
        *zip(keys.logits, [f"conf.{i}" for i in range(LEVELS[size])], strict=True),
    ]
    state = {}
    for weight, source in names:
        state[weight] = tensors[f"{source}.weight"] * (1 if source.startswith(("vgg", "extras")) else loudness)
        state[keys.bias(weight)] = tensors[f"{source}.bias"]
    return state


def forward(
    state: dict[str, Tensor],
    keys: BatchSampler,
    images: Tensor,
    norm: Callable[[Tensor], Tensor],
    size: int,
    outputs: int,
) -> tuple[Tensor, Tensor]:
    """Offsets (K, 4) and logits (K, outputs) of one image, columns as that code has them."""

    def conv(name: str, x: Tensor, **how: int) -> Tensor:
        return F.conv2d(x, state[name], state[keys.bias(name)], **how)

    x, sources = images, []
    for name, key in zip(VGG_NAMES, keys.trunk, strict=False):
        how = {"6": {"padding": 6, "dilation": 6}, "7": {}}.get(name, {"padding": 1})
        x = F.relu(conv(key, x, **how))
        if name == "4_3":
            sources.append(norm(x))
        if name in ("1_2", "2_2", "3_3", "4_3"):
            x = F.max_pool2d(x, 2, stride=2, ceil_mode=True)
        if name == "5_3":
            x = F.max_pool2d(x, 3, stride=1, padding=1)
    sources.append(x)
    halved, unpadded = {"stride": 2, "padding": 1}, {}
    second = [halved, halved, unpadded, unpadded] if size == 300 else [halved] * 4 + [{"padding": 1}]
    extras = keys.trunk[len(VGG_NAMES) :]
    for first, then, how in zip(extras[::2], extras[1::2], second, strict=True):
        x = F.relu(conv(then, F.relu(conv(first, x)), **how))
        sources.append(x)
    parts = []
    for names, columns in ((keys.offsets, 4), (keys.logits, outputs)):
        maps = [conv(name, source, padding=1) for name, source in zip(names, sources, strict=True)]
        parts.append(torch.cat([m.permute(0, 2, 3, 1).reshape(-1, columns) for m in maps]))
    return parts[0], parts[1]


def corners(offsets: Tensor, priors: Tensor) -> Tensor:
    """From (x, y, w, h) offsets and centre-form priors."""
    centre = priors[:, :2] + offsets[:, :2] * 0.1 * priors[:, 2:]
    sides = priors[:, 2:] * torch.exp(offsets[:, 2:] * 0.2)
    return torch.cat([centre - sides / 2, centre + sides / 2], dim=1)


def caffe_priors(size: int, small: list[float], large: list[float]) -> Tensor:
    """Centre form, nothing cut; min, sqrt(min max), then 2, 1/2, 3, 1/3."""
    out = []
    for level, grid in enumerate(GRIDS[size]):
        for i, j in product(range(grid), repeat=2):
            at = [(j + 0.5) * STEPS[size][level], (i + 0.5) * STEPS[size][level]]
            s, t = small[level], sqrt(small[level] * large[level])
            shapes = [(s, s), (t, t)]
            for r in RATIOS[size][level]:
                shapes += [(s * sqrt(r), s / sqrt(r)), (s / sqrt(r), s * sqrt(r))]
            out += [[*at, w, h] for w, h in shapes]
    return torch.tensor(out) / size


def as_input(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))[None]


# sgrvinod ------------------------------------------------------------------------------------------------------------

TAPS = ["conv4_3", "conv7", "conv8_2", "conv9_2", "conv10_2", "conv11_2"]
SGRVINOD = BatchSampler(
    [f"base.conv{name}.weight" for name in VGG_NAMES]
    + [f"aux_convs.conv{n}_{half}.weight" for n in (8, 9, 10, 11) for half in (1, 2)],
    [f"pred_convs.loc_{tap}.weight" for tap in TAPS],
    [f"pred_convs.cl_{tap}.weight" for tap in TAPS],
    lambda name: name.replace(".weight", ".bias"),
)


def sgrvinod(outputs: int = 21) -> dict[str, Tensor]:
    scale = torch.linspace(5, 25, 512).view(1, 512, 1, 1)
    return {"rescale_factors": scale, **random_state(SGRVINOD, outputs, 300, loudness=1)}


def sgrvinod_priors() -> Tensor:
    scales, out = [0.1, 0.2, 0.375, 0.55, 0.725, 0.9], []
    for level, grid in enumerate(GRIDS[300]):
        ratios = [1, 2, 3, 0.5, 0.333] if RATIOS[300][level] == [2, 3] else [1, 2, 0.5]
        for i, j in product(range(grid), repeat=2):
            at = [(j + 0.5) / grid, (i + 0.5) / grid]
            for r in ratios:
                out.append([*at, scales[level] * sqrt(r), scales[level] / sqrt(r)])
                if r == 1:
                    extra = 1.0 if level == 5 else sqrt(scales[level] * scales[level + 1])
                    out.append([*at, extra, extra])
    return torch.tensor(out).clamp(0, 1)


def sgrvinod_says(state: dict[str, Tensor], image: np.ndarray, outputs: int = 21) -> tuple[Tensor, Tensor]:
    small = np.asarray(Image.fromarray(image).resize((300, 300), Image.Resampling.BILINEAR), np.float32) / 255
    x = as_input((small - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225])

    def norm(features: Tensor) -> Tensor:
        return features / features.pow(2).sum(1, keepdim=True).sqrt() * state["rescale_factors"]

    offsets, logits = forward(state, SGRVINOD, x, norm, 300, outputs)
    return corners(offsets, sgrvinod_priors()), logits.softmax(1)[:, 1:]


# qfgaohao ------------------------------------------------------------------------------------------------------------

QFGAOHAO = BatchSampler(
    [f"base_net.{place}.weight" for place in PLACES]
    + [f"extras.{level}.{place}.weight" for level in range(4) for place in (0, 2)],
    [f"regression_headers.{level}.weight" for level in range(6)],
    [f"classification_headers.{level}.weight" for level in range(6)],
    lambda name: name.replace(".weight", ".bias"),
)


def qfgaohao(outputs: int = 21, *, l2: bool = False) -> dict[str, Tensor]:
    state = random_state(QFGAOHAO, outputs, 300)
    if l2:
        return {**state, "source_layer_add_ons.0.scale": torch.linspace(5, 25, 512)}
    generator = torch.Generator().manual_seed(5)
    norm = {
        "weight": torch.linspace(0.5, 2, 512),
        "bias": torch.randn(512, generator=generator),
        "running_mean": torch.rand(512, generator=generator) * 20,
        "running_var": torch.rand(512, generator=generator) * 900 + 100,
        "num_batches_tracked": torch.tensor(1234),
    }
    return {**state, **{f"source_layer_add_ons.0.{name}": tensor for name, tensor in norm.items()}}


def qfgaohao_says(state: dict[str, Tensor], image: np.ndarray, outputs: int = 21) -> tuple[Tensor, Tensor]:
    x = as_input(cv2.resize(image, (300, 300)).astype(np.float32) - [123, 117, 104])
    add_on = {name.rpartition(".")[2]: tensor for name, tensor in state.items() if "add_ons" in name}

    def norm(features: Tensor) -> Tensor:
        if "scale" in add_on:
            return F.normalize(features, dim=1) * add_on["scale"].view(1, -1, 1, 1)
        mean, var, weight, bias = (add_on[p] for p in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(features, mean, var, weight, bias, eps=1e-5)

    offsets, logits = forward(state, QFGAOHAO, x, norm, 300, outputs)
    sizes = [30, 60, 111, 162, 213, 264, 315]
    return corners(offsets, caffe_priors(300, sizes[:-1], sizes[1:]).clamp(0, 1)), logits.softmax(1)[:, 1:]


# mmdetection ---------------------------------------------------------------------------------------------------------


def mmdetection_keys(size: int, *, old: bool = False) -> BatchSampler:
    levels, pairs = LEVELS[size], [(i, j) for i in range(LEVELS[size] - 2) for j in (0, 1)]
    extras = [
        f"backbone.extra.{2 * i + j}.weight" if old else f"neck.extra_layers.{i}.{j}.conv.weight" for i, j in pairs
    ]
    place = "{}.weight" if old else "{}.0.weight"
    return BatchSampler(
        [f"backbone.features.{place}.weight" for place in PLACES] + extras,
        ["bbox_head.reg_convs." + place.format(level) for level in range(levels)],
        ["bbox_head.cls_convs." + place.format(level) for level in range(levels)],
        lambda name: name.replace(".weight", ".bias"),
    )


def mmdetection(outputs: int = 81, size: int = 300, *, old: bool = False) -> dict[str, Tensor]:
    norm = "backbone.l2_norm.weight" if old else "neck.l2_norm.weight"
    state = random_state(mmdetection_keys(size, old=old), outputs, size)
    return {**state, norm: torch.linspace(5, 25, 512)}


def mmdetection_says(
    state: dict[str, Tensor], image: np.ndarray, outputs: int = 81, size: int = 300, percent: tuple[int, int] = (7, 15)
) -> tuple[Tensor, Tensor]:
    """`percent`: size at the first and the second level; 7 15 and 4 10 are COCO's at 300 and 512."""
    x = as_input(cv2.resize(image, (size, size)).astype(np.float32) - [123.675, 116.28, 103.53])

    def norm(features: Tensor) -> Tensor:
        scale = state["neck.l2_norm.weight"].view(1, -1, 1, 1)
        return scale * features / (features.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)

    offsets, logits = forward(state, mmdetection_keys(size), x, norm, size, outputs)
    first, second = percent
    step = (90 - second) // (LEVELS[size] - 2)
    sizes = [int(size * p / 100) for p in (first, *range(second, 91 + step, step))]
    return corners(offsets, caffe_priors(size, sizes[:-1], sizes[1:])), logits.softmax(1)[:, :-1]


# chainercv -----------------------------------------------------------------------------------------------------------


def chainercv_keys(size: int) -> BatchSampler:
    levels = LEVELS[size]
    names = [*VGG_NAMES, *(f"{n}_{half}" for n in range(8, 6 + levels) for half in (1, 2))]
    return BatchSampler(
        [f"extractor/conv{name}/W" for name in names],
        [f"multibox/loc/{level}/W" for level in range(levels)],
        [f"multibox/conf/{level}/W" for level in range(levels)],
        lambda name: name.removesuffix("W") + "b",
    )


def chainercv(outputs: int = 21, size: int = 300) -> dict[str, Tensor]:
    state = random_state(chainercv_keys(size), outputs, size)
    return {**state, "extractor/norm4/scale": torch.linspace(5, 25, 512)}


def chainercv_says(
    state: dict[str, Tensor], image: np.ndarray, outputs: int = 21, size: int = 300
) -> tuple[Tensor, Tensor]:
    x = as_input(cv2.resize(image.astype(np.float32), (size, size)) - np.array([123, 117, 104], np.float32))

    def norm(features: Tensor) -> Tensor:
        scale = state["extractor/norm4/scale"].view(1, -1, 1, 1)
        return features / (features.pow(2).sum(1, keepdim=True).sqrt() + 1e-5) * scale

    offsets, logits = forward(state, chainercv_keys(size), x, norm, size, outputs)
    sizes = {
        300: [30, 60, 111, 162, 213, 264, 315],
        512: [35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6],
    }[size]
    # Its own arithmetic: everything y first.
    yx = caffe_priors(size, sizes[:-1], sizes[1:])[:, [1, 0, 3, 2]]
    centre, sides = yx[:, :2] + offsets[:, :2] * 0.1 * yx[:, 2:], yx[:, 2:] * torch.exp(offsets[:, 2:] * 0.2)
    top_left, bottom_right = centre - sides / 2, centre + sides / 2
    boxes = torch.stack([top_left[:, 1], top_left[:, 0], bottom_right[:, 1], bottom_right[:, 0]], dim=1)
    scores = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    return boxes, scores[:, 1:]


# Caffe ---------------------------------------------------------------------------------------------------------------


def caffe_keys(size: int, weight: str = "/0", bias: str = "/1") -> BatchSampler:
    levels = LEVELS[size]
    layers = [f"conv{name}" for name in VGG_NAMES[:-2]] + ["fc6", "fc7"]
    layers += [f"conv{n}_{half}" for n in range(6, 4 + levels) for half in (1, 2)]
    taps = ["conv4_3_norm", "fc7", *(f"conv{n}_2" for n in range(6, 4 + levels))]
    return BatchSampler(
        [layer + weight for layer in layers],
        [f"{tap}_mbox_loc{weight}" for tap in taps],
        [f"{tap}_mbox_conf{weight}" for tap in taps],
        lambda name: name.removesuffix(weight) + bias,
    )


def caffe(outputs: int = 21, size: int = 300, weight: str = "/0", bias: str = "/1") -> dict[str, Tensor]:
    state = random_state(caffe_keys(size, weight, bias), outputs, size)
    return {**state, f"conv4_3_norm{weight}": torch.linspace(5, 25, 512)}


def caffe_says(
    state: dict[str, Tensor], image: np.ndarray, outputs: int = 21, size: int = 300, percent: tuple[int, int] = (10, 20)
) -> tuple[Tensor, Tensor]:
    x = as_input(cv2.resize(image[..., ::-1], (size, size)).astype(np.float32) - [104, 117, 123])

    def norm(features: Tensor) -> Tensor:
        length = (features.pow(2).sum(1, keepdim=True) + 1e-10).sqrt()
        return features / length * state["conv4_3_norm/0"].view(1, -1, 1, 1)

    offsets, logits = forward(state, caffe_keys(size), x, norm, size, outputs)
    first, second = percent
    step = (90 - second) // (LEVELS[size] - 2)
    sizes = [int(size * p / 100 + 1e-6) for p in (first, *range(second, 91 + step, step))]
    return corners(offsets, caffe_priors(size, sizes[:-1], sizes[1:])), logits.softmax(1)[:, 1:]
