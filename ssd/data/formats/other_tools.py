"""Unsupported formats of annotation tools, recognised to suggest an export that is supported."""

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ssd.data.formats import paths as folders

_FEW = 20  # files of one kind in one folder that are looked into
_SEARCHED = 20_000  # files whose names are looked at
_START = 2 * 2**20  # bytes of each
_AS_COCO = "Export as COCO (object detection), Pascal VOC or YOLO"
_CONVERT = "Write it as COCO with the script in docs/recipes.md, 'Boxes in a table or in text files'."
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
    (rf"[A-Za-z]\w*( {_NUMBER}){{14,15}}", Tool("KITTI", _CONVERT)),
    (rf"({_NUMBER} ){{8}}\S+ [0-2]|(imagesource|gsd):.*", Tool("DOTA (rotated boxes)", _CONVERT)),
    (r"-?\d+(,-?\d+){7},?", Tool("VisDrone", _CONVERT)),
    (rf"\d+,-?\d+(,{_NUMBER}){{7,8}}", Tool("MOTChallenge", _CONVERT)),
    (rf"\D.*?([\s,]+({_FRACTION})){{4}}", Tool("YOLO with names for numbers", _NUMBERS, own=False)),
    (
        rf"\d+(\s*[,;]\s*({_FRACTION})){{4}}",
        Tool("YOLO with commas", "Write spaces between the numbers.", own=False),
    ),
    (rf"\D.*( {_NUMBER}){{4}}", Tool("the OIDv4 toolkit", _CONVERT)),
    (rf".*\.\w{{3,4}}( {_NUMBER}(,{_NUMBER}){{4}})+", Tool("keras-yolo3", _CONVERT)),
)


def name_tool(folder: Path, *, deep: bool = False) -> Tool | None:
    """The tool whose own format lies in the folder or one below it, or anywhere below; None where none is known."""
    looked: Counter[tuple[Path, str]] = Counter()
    for path in islice(folders.walk(folder), _SEARCHED):
        kind = path.parent, path.suffix.lower()
        if (
            kind[1] not in _KINDS
            or looked[kind] >= _FEW
            or not (deep or path.parent in (folder, folder / path.parent.name))
        ):
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
    text = _start(path)
    if text is None:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(content, list):
        return _json_list(content)
    if not isinstance(content, dict):
        return None
    if "_via_img_metadata" in content or "_via_settings" in content or _all_have(content, "regions", "filename"):
        return Tool("VIA (VGG Image Annotator)", "In VIA choose Annotation, Export Annotations (COCO format).")
    if "objects" in content and "size" in content and path.parent.name in ("ann", "annotations"):
        return Tool("Supervisely", f"{_AS_COCO} with Supervisely's export apps.")
    if "items" in content and "categories" in content:
        return Tool("Datumaro", "Convert it: datum convert -f coco.")
    return None


def _json_list(content: list[Any]) -> Tool | None:
    entry = content[0] if content else None
    if not isinstance(entry, dict):
        return None
    if "annotation_id" in entry or "annotator" in entry:
        return Tool("Label Studio", "In Label Studio choose Export, then JSON, COCO, Pascal VOC XML or YOLO.")
    if "annotations" in entry and "image" in entry:
        return Tool("CreateML", f"{_AS_COCO} from the tool that wrote it.")
    if "Labeled Data" in entry or "data_row" in entry:
        return Tool("Labelbox", "Convert it to COCO with Labelbox's SDK (labelbox.data).")
    return None


def _all_have(content: dict[str, Any], *keys: str) -> bool:
    values = list(content.values())[:5]
    return bool(values) and all(isinstance(value, dict) and all(key in value for key in keys) for value in values)


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
        return Tool("VIA (VGG Image Annotator)", "In VIA choose Annotation, Export Annotations (COCO format).")
    return None


def _text(path: Path) -> Tool | None:
    lines = [line.strip() for line in (_start(path) or "")[:20_000].splitlines() if line.strip()][:_FEW]
    return next((tool for row, tool in _ROWS if lines and all(re.fullmatch(row, line) for line in lines)), None)


def _json_lines(path: Path) -> Tool | None:
    first = (_start(path) or "").partition("\n")[0]
    return Tool("Hugging Face", _CONVERT) if '"file_name"' in first else None


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
    ".jsonl": _json_lines,
    ".xml": _xml,
    ".csv": _csv,
    ".tfrecord": _record,
    ".record": _record,
    ".txt": _text,
}
