"""What is fuzzed: for each kind of input its seeds, and the call that must answer, or raise an error of `ssd.errors`.

Each target is `make(folder) -> (seeds, call)`; `call(data)` gives changed bytes of a seed to the package.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import random
import resource
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from ssd.data.dataset import open_dataset, scan
from ssd.data.formats import cvat, label_studio, labelme, tables
from ssd.data.formats.entries import EntryFormat
from ssd.errors import ImageDecodeError
from ssd.experiment import config_file as config
from ssd.images.decode import decode
from ssd.inference.load import load
from ssd.model.factory import from_settings, settings_for
from ssd.training import checkpoints
from ssd.weights import native
from ssd.weights.files.tensors import read_tensors
from ssd.weights.resolve import read_weights
from tests.data.made import coco_content, coco_folder, voc_folder, write_image, write_text, xml, xml_object
from tests.weights.files.test_caffemodel import model, prior_box

Call = Callable[[bytes], object]
Target = Callable[[Path], tuple[list[bytes], Call]]
ROOT = Path(__file__).parents[2]


def voc_xml(folder: Path) -> tuple[list[bytes], Call]:
    """An annotation of a VOC folder, opened for training with its bad objects left out."""
    objects = (xml_object(), xml_object("dog", (1, 1, 30.5, 20), "<difficult>1</difficult><pose>Left</pose>"))
    seeds = [xml(*objects, filename="a.jpg").encode(), xml(xml_object(), size=None).encode("utf-16")]
    seeds.append(b'<?xml version="1.0" encoding="latin-1"?>' + xml(xml_object("K\xe4se")).encode("latin-1"))
    voc_folder(folder, {"a": xml(xml_object()), "b": xml(xml_object("dog"))})
    return seeds, _opens(folder, folder / "Annotations" / "a.xml")


def coco_json(folder: Path) -> tuple[list[bytes], Call]:
    """The JSON file of a COCO folder."""
    content = coco_content(info={"year": 2026}, licenses=[])
    content["annotations"].append({"id": 3, "image_id": 7, "category_id": 3, "bbox": [1.5, 2, 3, 4]})
    coco_folder(folder, content)
    seeds = [json.dumps(content).encode(), json.dumps(coco_content(), indent=1).encode()]
    return seeds, _opens(folder, folder / "annotations" / "instances_train.json")


def yolo_text(folder: Path) -> tuple[list[bytes], Call]:
    """A label file of a YOLO folder."""
    write_text(folder / "data.yaml", "names: [cat, dog]\ntrain: images/train\nval: images/train\n")
    write_image(folder / "images" / "train" / "a.jpg")
    seeds = [b"0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.2 0.2\n", b"1 0.1 0.1 0.5 0.1 0.5 0.9 0.2 0.8\r\n\r\n0 .5 .5 1 1"]
    return seeds, _opens(folder, write_text(folder / "labels" / "train" / "a.txt", ""))


def yolo_yaml(folder: Path) -> tuple[list[bytes], Call]:
    """The data.yaml of a YOLO folder."""
    write_image(folder / "images" / "train" / "a.jpg")
    write_text(folder / "labels" / "train" / "a.txt", "0 0.5 0.5 0.25 0.5\n")
    write_text(folder / "train.txt", "./images/train/a.jpg\n")
    seeds = [b"path: .\ntrain: images/train\nval: train.txt\nnc: 2\nnames:\n  0: cat\n  1: dog\n"]
    seeds.append(b"names: [cat, 'dog']\ntrain: [images/train, train.txt]\n")
    return seeds, _opens(folder, folder / "data.yaml")


def labelme_json(folder: Path) -> tuple[list[bytes], Call]:
    """A LabelMe file beside its image."""
    for name in ("a", "b"):
        write_image(folder / "train" / f"{name}.jpg")
    shapes = [
        {"label": "cat", "points": [[12, 3.5], [2, 13]], "shape_type": "rectangle", "flags": {}, "group_id": None},
        {"label": "dog", "points": [[1, 2], [9, 2], [5, 8]], "shape_type": "polygon"},
        {"label": "dog", "points": [[20, 10], [22, 10]], "shape_type": "circle"},
        {"label": "dog", "points": [[20, 10]], "shape_type": "point"},
    ]
    content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": "a.jpg", "imageData": None}
    content |= {"imageHeight": 20, "imageWidth": 40}
    other = content | {"imagePath": "..\\train\\b.jpg", "imageHeight": None, "shapes": shapes[:1]}
    write_text(folder / "train" / "b.json", json.dumps(other))
    seeds = [json.dumps(content).encode(), json.dumps(other, indent=2).encode()]
    return seeds, _opens(folder, folder / "train" / "a.json", labelme.FORMAT)


def cvat_xml(folder: Path) -> tuple[list[bytes], Call]:
    """The file of a `CVAT for images` export."""
    for name in ("a", "b"):
        write_image(folder / "train" / "images" / f"{name}.jpg")
    shapes = """<box label="cat" source="manual" occluded="0" xtl="2.5" ytl="3.00" xbr="12.00" ybr="13.00" z_order="0"/>
        <box label="dog" xtl="5" ytl="5" xbr="15" ybr="10" rotation="30.5"/>
        <polygon label="dog" points="1.00,2.00;9.0,2.0;5.0,8.0"/><points label="dog" points="3,4"/>
        <ellipse label="cat" cx="20" cy="10" rx="4" ry="2" rotation="10"/>
        <mask label="cat" rle="1, 2, 3" left="3" top="4" width="10" height="5"/>"""
    images = f"""<image id="0" name="a.jpg" width="40" height="20">{shapes}</image><image id="1" name="b.jpg"/>"""
    meta = "<version>1.1</version><meta><task><labels><label><name>cat</name></label></labels></task></meta>"
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{meta}{images}</annotations>'
    seeds = [text.encode(), f"<annotations>{images}</annotations>".encode("utf-16")]
    return seeds, _opens(folder, folder / "train" / "annotations.xml", cvat.FORMAT)


def label_studio_json(folder: Path) -> tuple[list[bytes], Call]:
    """Label Studio's export."""
    for name in ("a", "b", "c d"):
        write_image(folder / "images" / f"{name}.jpg")
    value = {"x": 5.0, "y": 15, "width": 25, "height": 50.5, "rotation": 0}
    sides = {"original_width": 40, "original_height": 20, "image_rotation": 0}
    results = [
        {"type": kind, **sides, "value": value | more | {kind: ["cat"]}}
        for kind, more in (
            ("rectanglelabels", {}),
            ("rectanglelabels", {"rotation": 30}),
            ("ellipselabels", {"radiusX": 3, "radiusY": 4}),
            ("polygonlabels", {"points": [[1, 2], [30, 2], [5, 40]]}),
        )
    ]
    done = {"id": 1, "result": results, "was_cancelled": False, "ground_truth": False}
    addresses = ("/data/upload/1/0a1b2c3d-a.jpg", "/data/local-files/?d=images/b.jpg", "s3://bucket/c%20d.jpg")
    tasks = [{"id": i, "data": {"image": text}, "annotations": [done]} for i, text in enumerate(addresses)]
    only = [{"data": {"picture": "images/a.jpg"}, "predictions": [{"result": results[:1], "score": 0.5}]}]
    seeds = [json.dumps(tasks).encode(), json.dumps(only, indent=2).encode()]
    return seeds, _opens(folder, folder / "train.json", label_studio.FORMAT)


def csv_table(folder: Path) -> tuple[list[bytes], Call]:
    """Tables with a row for each object, in the three usual forms."""
    for name in ("a", "b"):
        write_image(folder / "images" / f"{name}.jpg")
    write_text(folder / "class-descriptions.csv", "/m/01yrx,Cat\n/m/0bt9lr,Dog\n")
    seeds = [
        b"images/a.jpg,2,3,12,13,cat\nimages/b.jpg,,,,,\nimages/a.jpg,1,2,3,4,dog\n",
        b"filename,width,height,class,xmin,ymin,xmax,ymax\r\na.jpg,40,20,cat,2,3,12,13\r\nb.jpg,40,20,dog,1,2,3.5,4\r\n",
        b"ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\na,x,/m/01yrx,1,0.1,0.5,0.2,0.9,0\n"
        b"b,x,/m/0bt9lr,1,0.1,0.5,0.2,0.9,1\n",
    ]
    return seeds, _opens(folder, folder / "train.csv", tables.FORMAT)


def config_yaml(folder: Path) -> tuple[list[bytes], Call]:
    """A config file, and overrides from the command line."""
    path = folder / "config.yaml"

    def call(data: bytes) -> object:
        path.write_bytes(data)
        overrides = [word for word in data.decode(errors="replace").split()[:3] if "=" in word]
        return config.to_yaml(config.load(path, overrides))

    folders = (ROOT / "configs", ROOT / "tests" / "experiment" / "configs_before")
    seeds = [file.read_bytes() for folder in folders for file in sorted(folder.glob("*.yaml"))]
    return [*seeds, b"optim.lr=1e-3 train.epochs=3 data.classes=[cat,dog]"], call


def weights_file(folder: Path) -> tuple[list[bytes], Call]:
    """A weights file of ours, and the same tensors as PyTorch and numpy write them."""
    tensors = {"conv.weight": torch.ones(2, 3, 3, 3), "conv.bias": torch.zeros(2)}
    native.save_weights(folder / "a.safetensors", tensors, settings_for(("cat", "dog"), input_size=80, width=0.05))
    torch.save({"model": tensors, "epoch": 3}, folder / "a.pth")
    np.savez(folder / "a.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    suffixes = {b"PK": ".pth", b"NU": ".npz"}
    seeds = [(folder / f"a.{suffix}").read_bytes() for suffix in ("safetensors", "pth")]
    seeds.append(b"NUMPY" + (folder / "a.npz").read_bytes())

    def call(data: bytes) -> object:
        path = folder / f"b{suffixes.get(data[:2], '.safetensors')}"
        path.write_bytes(data.removeprefix(b"NUMPY"))
        return read_weights(path)

    return seeds, call


def caffe_file(folder: Path) -> tuple[list[bytes], Call]:
    """A `.caffemodel`: Caffe's protocol buffers, parsed by this package itself."""
    weights = {"conv1_1/0": torch.ones(2, 3, 3, 3), "conv1_1/1": torch.zeros(2)}
    seeds = [model(weights), model(weights, prior_box(30.0, 60.0, [2, 3], 8.0))]
    path = folder / "a.caffemodel"

    def call(data: bytes) -> object:
        path.write_bytes(data)
        return read_tensors(path)

    return seeds, call


def weights_settings(folder: Path) -> tuple[list[bytes], Call]:
    """The settings inside a weights file whose checksum is right: what a stranger could write.

    The bytes given choose what is changed, so that the file stays JSON and its checksum right.
    """
    small = settings_for(("cat", "dog"), width=0.05, input_size=80)
    network = from_settings(small)
    path = folder / "a.safetensors"

    def call(data: bytes) -> object:
        stated = small.to_dict()
        if data != b"unchanged":
            draw = random.Random(data)
            for _ in range(draw.randint(1, 2)):
                _spoil(stated, draw)
        few = {"conv.bias": torch.zeros(2)}
        native.save_weights(path, few, _Stated(stated))  # type: ignore[arg-type]
        native.load_weights(path)
        if zlib.crc32(data) % 10 and data != b"unchanged":
            return None  # to build the network that was accepted takes long: every tenth is enough
        native.save_weights(path, network.state_dict(), _Stated(stated))  # type: ignore[arg-type]
        return load(path, backend="torch").detect(np.zeros((9, 9, 3), np.uint8))

    return [b"unchanged"], call


def run_state(folder: Path) -> tuple[list[bytes], Call]:
    """A run's state: damaged, and as a stranger would write it, with the right checksum."""
    path = folder / "state-1.pt"
    state = {"step": 3, "network": {"a": torch.ones(3)}, "rng": torch.arange(9, dtype=torch.uint8), "best": None}
    checkpoints.save_state(path, state)
    whole = path.read_bytes()
    payload = whole[: -len(b"SSDSTATE") - 32]

    def call(data: bytes) -> object:
        if data.startswith(b"SIGN"):
            data = data[4:] + b"SSDSTATE" + hashlib.sha256(data[4:]).digest()
        path.write_bytes(data)
        return checkpoints.load_state(path)

    return [whole, b"SIGN" + payload], call


def picture(folder: Path) -> tuple[list[bytes], Call]:
    """An image file of every format that is read."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    seeds = [cv2.imencode(suffix, pixels)[1].tobytes() for suffix in (".jpg", ".png", ".webp", ".bmp", ".tiff")]
    for mode, kind, options in (
        ("P", "GIF", {}),
        ("L", "JPEG", {"exif": _turned()}),
        ("CMYK", "JPEG", {}),
        ("I;16", "PNG", {}),
        ("LA", "PNG", {}),
        ("1", "TIFF", {"compression": "group4"}),
    ):
        buffer = io.BytesIO()
        Image.new(mode, (32, 24)).save(buffer, kind, **options)
        seeds.append(buffer.getvalue())
    deep = pixels.astype(np.uint16) * 16
    seeds += [cv2.imencode(".tiff", values)[1].tobytes() for values in (deep, deep[..., 0].astype(np.float32))]
    seeds.append(cv2.imencode(".png", deep)[1].tobytes())

    def call(data: bytes) -> object:
        before = _peak_memory()
        try:
            image = decode(data, max_pixels=1_000_000, depth="percentile")
            with contextlib.suppress(ImageDecodeError):
                decode(data, max_pixels=1_000_000)
        finally:
            assert _peak_memory() - before < 200_000, "more than 200 MB for a small image"
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        return image

    return seeds, call


TARGETS: dict[str, Target] = {
    make.__name__: make
    for make in (
        *(
            voc_xml,
            coco_json,
            yolo_text,
            yolo_yaml,
            labelme_json,
            cvat_xml,
            label_studio_json,
            csv_table,
            config_yaml,
            weights_file,
            caffe_file,
            weights_settings,
            run_state,
            picture,
        ),
    )
}


_ODD: tuple[Any, ...] = (
    *(None, True, "", "vgg", -1, 0, 1, 2, 1e-30, 0.5, 1e300, 10**6, 10**30, [], {}, [[]], [0], [1, 2], "\ud800"),
    *(
        [-1.0] * 3,
        [0.0] * 4,
        [1e9] * 4,
        ["cat", "cat"],
        ["cat"] * 3,
        [""],
        [10**9] * 4,
        [[0.0]] * 4,
        [[2.0] * 1000] * 4,
    ),
)


def _spoil(stated: dict[str, Any], draw: random.Random) -> None:
    """Put something odd in the place of one value, or take the value away, or add one."""
    groups = [value for value in stated.values() if isinstance(value, dict) and value]
    group = stated if not groups or draw.random() < 0.1 else draw.choice(groups)
    key = draw.choice(list(group))
    if draw.random() < 0.1:
        del group[key]
    elif draw.random() < 0.1:
        group["more"] = 1
    elif isinstance(group[key], tuple | list) and group[key] and draw.random() < 0.5:
        items = list(group[key])
        items[draw.randrange(len(items))] = draw.choice(_ODD)
        group[key] = items
    else:
        group[key] = draw.choice(_ODD)


@dataclasses.dataclass
class _Stated:
    """Stands in for settings, and says what it is told to say."""

    stated: Any

    def to_dict(self) -> Any:
        return self.stated


def _opens(folder: Path, file: Path, reader: EntryFormat | None = None) -> Call:
    def call(data: bytes) -> object:
        file.write_bytes(data)
        if reader is not None:
            reader.parse(file, folder)  # also what the folder is not taken for
        dataset, problems = scan(folder, "train", check_images=True)
        for record in dataset.records:
            assert np.isfinite(record.boxes).all()
            assert (record.boxes[:, 2:] > record.boxes[:, :2]).all()
            assert Path(record.path).resolve().is_relative_to(folder.resolve())
        assert all(str(problem) for problem in problems)
        # Opening reads all of it again: every tenth is enough.
        return None if zlib.crc32(data) % 10 else open_dataset(folder, "train", bad_objects="drop")

    return call


def _peak_memory() -> int:
    """The most memory this process ever had, in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def fresh(target: str, folder: Path) -> tuple[list[bytes], Call]:
    """A target in a folder of its own."""
    place = folder / target
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return TARGETS[target](place)
