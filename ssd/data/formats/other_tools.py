"""Unsupported formats of annotation tools, recognised to suggest an export that is supported."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ssd.data.formats import paths as folders

_FEW = 20  # files of one kind in one folder that are looked into
_SEARCHED = 20_000  # files that may hold annotations, of which some are looked into
_START = 2 * 2**20  # bytes of each
_AS_COCO = "Export as COCO (object detection), Pascal VOC or YOLO"
_RECIPE = "docs/recipes.md, 'Boxes in a table or in text files'"
CONVERT = f"Write it as COCO with the script in {_RECIPE}."
TO_COCO = f"Write it as COCO: {_RECIPE}, has a script to which a reader of this format can be added."
_NUMBER = r"-?\d+(\.\d+)?([eE][-+]?\d+)?"
_FRACTION = r"[01]?\.\d+|[01]"


@dataclass(frozen=True)
class Tool:
    """An unsupported format: its tool, a remedy, and the file that it was recognised by."""

    name: str
    remedy: str
    own: bool = True  # whether it is the tool's own format, or one that is read but for a detail
    found: str = ""

    def __str__(self) -> str:
        return f"{self.found}, which is {self.name}" + ("'s own format" if self.own else "")


_NUMBERS = "Write each class as its number, from 0 on, and the names into classes.txt, a name a line."
_ROWS = (  # patterns of rows in text files, the first that fits, and what they say
    (rf"[A-Za-z]\w*( {_NUMBER}){{14,15}}", Tool("KITTI", CONVERT)),
    (rf"({_NUMBER} ){{8}}\S+ [0-2]|(imagesource|gsd):.*", Tool("DOTA (rotated boxes)", CONVERT)),
    (r"-?\d+(,-?\d+){7},?", Tool("VisDrone", CONVERT)),
    (rf"\d+,-?\d+(,{_NUMBER}){{7,8}}", Tool("MOTChallenge", CONVERT)),
    (rf"\D.*?([\s,]+({_FRACTION})){{4}}", Tool("YOLO with names for numbers", _NUMBERS, own=False)),
    (
        rf"\d+(\s*[,;]\s*({_FRACTION})){{4}}",
        Tool("YOLO with commas", "Write spaces between the numbers.", own=False),
    ),
    (rf"\D.*( {_NUMBER}){{4}}", Tool("the OIDv4 toolkit", CONVERT)),
    (rf".*\.\w{{3,4}}( {_NUMBER}(,{_NUMBER}){{4}})+", Tool("keras-yolo3", CONVERT)),
)

_VIA = Tool("VIA (VGG Image Annotator)", "In VIA choose Annotation, Export Annotations (COCO format).")
_FIFTYONE = 'In FiftyOne: dataset.export(export_dir="coco", dataset_type=fo.types.COCODetectionDataset)'
_KEYS = (  # keys that a JSON file has, or the objects in its lines, the first that fits
    ("_via_img_metadata", _VIA),
    ("_via_settings", _VIA),
    ("filename,size,regions", _VIA),
    ("tags,size,objects,description", Tool("Supervisely", CONVERT)),
    ("items,categories", Tool("Datumaro", "Convert it: datum convert -f coco.")),
    ("annotator,annotation_id", Tool("Label Studio", "In Label Studio choose Export, then JSON, COCO or YOLO.")),
    ("data_row", Tool("Labelbox", "Convert it to COCO with Labelbox's SDK (labelbox.data).")),
    ("Labeled Data", Tool("Labelbox", "Convert it to COCO with Labelbox's SDK (labelbox.data).")),
    ("box2d,category", Tool("BDD100K", CONVERT)),
    ("imgHeight,imgWidth,polygon", Tool("Cityscapes", CONVERT)),
    ("_cls,samples", Tool("FiftyOne", _FIFTYONE)),
    ("classes,labels,bounding_box", Tool("FiftyOne", _FIFTYONE)),
    ("item,slots,annotations", Tool("V7 Darwin", f"{_AS_COCO} in V7.")),
    ("instances,className", Tool("SuperAnnotate", f"{_AS_COCO} in SuperAnnotate.")),
    ("regions,tagName", Tool("Azure Custom Vision", TO_COCO)),
    ("imageGcsUri", Tool("Google Vertex AI", TO_COCO)),
    ("source-ref", Tool("Amazon SageMaker Ground Truth", TO_COCO)),
    ("prefix,suffix", Tool("PaliGemma", f"{_AS_COCO} from the tool that wrote it.")),
    ("gtboxes", Tool("CrowdHuman", TO_COCO)),
    ("imgs,types", Tool("Tsinghua-Tencent 100K", TO_COCO)),
    ("file_name,objects,bbox", Tool("Hugging Face", CONVERT)),
    ("image,annotations", Tool("CreateML", f"{_AS_COCO} from the tool that wrote it.")),
)


def name_tool(folder: Path, *, deep: bool = False) -> Tool | None:
    """The tool whose own format lies in the folder or one below it, or anywhere below; None where none is known."""
    looked: Counter[tuple[Path, str]] = Counter()
    files = (path for path in folders.walk(folder) if path.suffix.lower() in _KINDS)
    for path in islice(files, _SEARCHED):
        kind = path.parent, path.suffix.lower()
        if looked[kind] >= _FEW or not (deep or path.parent in (folder, folder / path.parent.name)):
            continue
        looked[kind] += 1
        tool = _KINDS[kind[1]](path)
        if tool is not None:
            return replace(tool, found=folders.relative(path, folder))
    return None


def name_tool_of_xml(folder: Path) -> Tool | None:
    """The tool whose own XML all of the first XML files are; None where one is not."""
    found = [path for path in folders.walk(folder) if path.suffix.lower() == ".xml"][:_FEW]
    tools = [_xml(path) for path in found]
    first = tools[0] if tools and all(tools) else None
    return None if first is None else replace(first, found=folders.relative(found[0], folder))


def _json(path: Path) -> Tool | None:
    text = _start(path) or ""
    return next((tool for keys, tool in _KEYS if all(f'"{key}"' in text for key in keys.split(","))), None)


def _xml(path: Path) -> Tool | None:
    text = _start(path) or ""
    match = re.search(r"<([A-Za-z_][\w.:-]*)", re.sub(r"<\?.*?\?>|<!--.*?-->", "", text[:20_000], flags=re.S))
    root = match[1] if match else ""
    if root == "annotations" and "<image" in text:
        return Tool("CVAT for images", "In CVAT choose Export, then COCO 1.0, PASCAL VOC 1.1 or YOLO.")
    if root == "annotations" and "<track" in text:
        return Tool("CVAT for video", "In CVAT choose Export, then CVAT for images, COCO 1.0 or PASCAL VOC 1.1.")
    if root == "dataset" and "imglab" in text:
        return Tool("dlib's imglab", f"{_AS_COCO} from the tool that wrote it.")
    return None


def _csv(path: Path) -> Tool | None:
    lines = [line.strip() for line in (_start(path) or "")[:20_000].splitlines() if line.strip()][:_FEW]
    if not lines:
        return None
    head = [word.strip().lower() for word in lines[0].split(",")]
    if {"region_shape_attributes", "filename"} <= set(head):
        return _VIA
    if {"bbox", "boxesstring"} & set(head):
        return Tool("a table with a box in one column", CONVERT, own=False)
    return Tool("Google AutoML", TO_COCO) if re.match(r"\w+,gs://", lines[0]) else None


def _text(path: Path) -> Tool | None:
    lines = [line.strip() for line in (_start(path) or "")[:20_000].splitlines() if line.strip()][:_FEW]
    if re.match(r"\d+--\S+/\S+\n\d+\n(\d+ ){9}\d+", "\n".join(lines)):
        return Tool("WIDER FACE", CONVERT)
    return next((tool for row, tool in _ROWS if lines and all(re.fullmatch(row, line) for line in lines)), None)


def _record(_: Path) -> Tool | None:
    return Tool("TensorFlow (TFRecord)", f"{_AS_COCO} from the tool that wrote it.")


def _start(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            return file.read(_START).decode("utf-8-sig", errors="replace")
    except OSError:
        return None


_KINDS = {
    ".json": _json,
    ".jsonl": _json,
    ".manifest": _json,
    ".odgt": _json,
    ".xml": _xml,
    ".csv": _csv,
    ".tfrecord": _record,
    ".record": _record,
    ".txt": _text,
}
