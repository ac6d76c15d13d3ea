"""Write the tables of networks.md, counted from the code, between `<!-- table: NAME -->` and `<!-- end -->`.

python docs/networks.py        # needs the extra `backbones`
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ssd.model import backbones, vgg
from ssd.model.factory import settings_for
from ssd.model.levels import smallest_input
from ssd.summary import figures, networks

_DESCENT = (
    ("lenet", "LeNet-5", "1998"),
    ("alexnet", "AlexNet", "2012"),
    ("nin", "Network in Network", "2013"),
    ("vgg11", "VGG-11 (A)", "2014"),
    ("vgg11_lrn", "VGG-11 with LRN (A-LRN)", "2014"),
    ("vgg13", "VGG-13 (B)", "2014"),
    ("vgg16c", "VGG-16 with 1x1 (C)", "2014"),
    ("vgg16", "VGG-16 (D)", "2014"),
    ("vgg19", "VGG-19 (E)", "2014"),
    ("googlenet", "GoogLeNet", "2014"),
    ("inception_v3", "Inception v3", "2015"),
    ("inception_v4", "Inception v4", "2016"),
    ("inception_resnet_v2", "Inception-ResNet v2", "2016"),
    ("resnet18", "ResNet-18", "2015"),
    ("resnet50", "ResNet-50", "2015"),
    ("resnet152", "ResNet-152", "2015"),
    ("resnext50_32x4d", "ResNeXt-50", "2016"),
    ("densenet121", "DenseNet-121", "2016"),
    ("mobilenet_v1", "MobileNet v1", "2017"),
    ("mobilenet_v2", "MobileNet v2", "2018"),
    ("mobilenet_v3_large", "MobileNet v3, large", "2019"),
)


def filled(page: str) -> str:
    """The page with its tables counted anew."""
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda place: f"{place[1]}\n{TABLES[place[2]]()}\n\n{place[3]}",
        page,
        flags=re.DOTALL,
    )


def descent() -> str:
    """Every network as a whole, as it was published."""
    rows = []
    for name, title, year in _DESCENT:
        network = networks.find(name)
        counted = network.survey()
        size = f"{network.size}, grey" if network.channels == 1 else str(network.size)
        row = [title, year, f"`{name}`", size, f"{counted.parameters:,}", f"{counted.multiply_adds / 1e6:,.1f} million"]
        rows.append(row)
    return _table(["network", "year", "`summary`", "input", "parameters", "multiply-adds"], rows)


def as_backbones() -> str:
    """Every backbone in SSD300 with the 20 classes of VOC."""
    rows = []
    for name in (*vgg.CONFIGURATIONS, *backbones.TORCHVISION, *backbones.TIMM):
        detector = networks.find(f"ssd-{name}", size=300)
        counted = detector.survey()
        grids = settings_for(("a",), input_size=300, backbone=name).boxes.grids
        smallest = vgg.SMALLEST_INPUT if name in vgg.NAMES else smallest_input(name)
        numbers = [f"{detector.boxes:,}", f"{counted.parameters:,}", f"{counted.multiply_adds / 1e9:.2f} billion"]
        rows.append([f"`{name}`", " ".join(map(str, grids)), *numbers, str(smallest)])
    return _table(["backbone", "cells a side", "boxes", "parameters", "multiply-adds", "smallest"], rows)


def lite() -> str:
    """SSDLite320 of every MobileNet with the 20 classes of VOC."""
    rows = []
    for name in [name for name, cut in backbones.TORCHVISION.items() if cut.expansion]:
        detector = networks.find(f"ssdlite-{name}")
        counted = detector.survey()
        numbers = [f"{detector.boxes:,}", f"{counted.parameters:,}", f"{counted.multiply_adds / 1e9:.2f} billion"]
        rows.append([f"`{name}`", "20 10 5 3 2 1", *numbers])
    return _table(["backbone", "cells a side", "boxes", "parameters", "multiply-adds"], rows)


def _claims(group: Callable[[], list[figures.Figure]]) -> Callable[[], str]:
    def table() -> str:
        rows = [[claim.what, claim.documents or "-", claim.counted] for claim in group()]
        return _table(["", "documents", "counted"], rows)

    return table


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    "descent": descent,
    "backbones": as_backbones,
    "lite": lite,
    **{name: _claims(group) for name, group in figures.GROUPS.items()},
}

if __name__ == "__main__":
    page = Path(__file__).with_name("networks.md")
    page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
