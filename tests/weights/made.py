"""Checkpoints of other codes with random weights, their names and shapes written out as those codes have them."""

import torch
from torch import Tensor

# index in the `vgg` list -> (outputs, inputs, kernel); pools and ReLUs take the other places
VGG = {
    0: (64, 3, 3), 2: (64, 64, 3), 5: (128, 64, 3), 7: (128, 128, 3), 10: (256, 128, 3), 12: (256, 256, 3),
    14: (256, 256, 3), 17: (512, 256, 3), 19: (512, 512, 3), 21: (512, 512, 3), 24: (512, 512, 3), 26: (512, 512, 3),
    28: (512, 512, 3), 31: (1024, 512, 3), 33: (1024, 1024, 1),
}  # fmt: skip
EXTRAS_300 = [
    (256, 1024, 1), (512, 256, 3), (128, 512, 1), (256, 128, 3),
    (128, 256, 1), (256, 128, 3), (128, 256, 1), (256, 128, 3),
]  # fmt: skip
EXTRAS_512 = [*EXTRAS_300, (128, 256, 1), (256, 128, 4)]
SOURCES_300, BOXES_300 = (512, 1024, 512, 256, 256, 256), (4, 6, 6, 6, 4, 4)
SOURCES_512, BOXES_512 = (512, 1024, 512, 256, 256, 256, 256), (4, 6, 6, 6, 6, 4, 4)


def random_parts(outputs: int, size: int = 300) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Trunk (`vgg.N`, `extras.N`) and heads (`loc.N`, `conf.N`) of amdegroot's and lufficc's common layout."""
    generator = torch.Generator().manual_seed(outputs + size)

    def conv(shape: tuple[int, int, int], gain: float = 2.0) -> tuple[Tensor, Tensor]:
        out, inputs, side = shape
        scale = (gain / (inputs * side * side)) ** 0.5
        return (
            torch.randn(out, inputs, side, side, generator=generator) * scale,
            torch.randn(out, generator=generator) * 0.1,
        )

    extras, sources, boxes = (
        (EXTRAS_300, SOURCES_300, BOXES_300) if size == 300 else (EXTRAS_512, SOURCES_512, BOXES_512)
    )
    trunk, heads = {}, {}
    layers = {f"vgg.{place}": shape for place, shape in VGG.items()}
    layers |= {f"extras.{index}": shape for index, shape in enumerate(extras)}
    for name, shape in layers.items():
        trunk[f"{name}.weight"], trunk[f"{name}.bias"] = conv(shape)
    for level, (source, count) in enumerate(zip(sources, boxes, strict=True)):
        for name, columns in (("loc", 4), ("conf", outputs)):
            weight, bias = conv((count * columns, source, 3), gain=0.01)
            heads[f"{name}.{level}.weight"], heads[f"{name}.{level}.bias"] = weight, bias
    return trunk, heads


def amdegroot(outputs: int = 21) -> dict[str, Tensor]:
    trunk, heads = random_parts(outputs)
    return {**trunk, "L2Norm.weight": torch.linspace(5, 25, 512), **heads}


def lufficc(outputs: int = 21, size: int = 300, *, old: bool = False) -> dict[str, Tensor]:
    trunk, heads = random_parts(outputs, size)
    state = {"l2_norm.weight": torch.linspace(5, 25, 512), **trunk}
    state = state if old else {f"backbone.{name}": tensor for name, tensor in state.items()}
    offsets, logits = (
        ("regression_headers", "classification_headers")
        if old
        else ("box_head.predictor.reg_headers", "box_head.predictor.cls_headers")
    )
    for name, tensor in heads.items():
        state[name.replace("loc", offsets).replace("conf", logits)] = tensor
    return state
