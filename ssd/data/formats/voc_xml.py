"""Reads one VOC annotation: objects, or their problems."""

import math
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem, RawObject, rotated_box
from ssd.errors import AnnotationError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_ROTATED = ("cx", "cy", "w", "h", "angle")


def parse(path: Path) -> Element:
    """Parse one XML file without resolving entities or references; tags come in lower case and without a namespace.

    Raises:
        AnnotationError: missing, over 10 MB, not XML, an unknown encoding, a document type, or another tool's schema.
    """
    content = folders.read_bytes(path)
    try:
        # A document type can declare entity bombs and external references; no annotation tool writes one.
        root: Element = fromstring(content, forbid_dtd=True)
    except DefusedXmlException:
        raise AnnotationError("declares a document type or entities, refused for safety", place=path) from None
    except ParseError as error:
        raise AnnotationError(f"is not valid XML ({error})", place=path, remedy=_encoding_remedy(content)) from None
    except (ValueError, LookupError) as error:
        raise AnnotationError(f"has an encoding that cannot be read ({error})", place=path) from None
    written = root.tag
    for element in root.iter():  # some tools write a namespace, or capitals
        if not element.tag.islower() or element.tag[0] == "{":
            element.tag = element.tag.rpartition("}")[2].lower()
    if root.tag != "annotation":
        problem = f"is not VOC: its root is <{written[:60]}>, not <annotation>"
        remedy = "Export as Pascal VOC, or move it out of the data folder."
        raise AnnotationError(problem, place=path, remedy=remedy)
    return root


def _encoding_remedy(content: bytes) -> str:
    """What helps where the text has bytes that are not those of the encoding it declares, or of UTF-8."""
    if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return ""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return "Save it as UTF-8 in a text editor, without another encoding in its first line."
    return ""


def read_size_tag(root: Element) -> tuple[int, int]:
    """`<size>` as (width, height); 0 where it is missing, as some tools write it too.

    Raises:
        AnnotationError: it is there and not a number.
    """
    return _whole_number(root, "size/width"), _whole_number(root, "size/height")


def read_objects(root: Element, source: str) -> tuple[list[RawObject], list[Problem]]:
    """Every `<object>` in order, and the problems of unreadable ones."""
    objects: list[RawObject] = []
    problems: list[Problem] = []
    for number, element in enumerate(root.iter("object"), start=1):
        name = (element.findtext("name") or "").strip()
        try:
            if not name:
                raise _BadObjectError("no_name", "has no <name>")
            box, rotated = _read_box(element)
        except _BadObjectError as error:
            problems.append(Problem(source, error.kind, str(error), index=number, name=name or None))
            continue
        if rotated:
            message = "is a rotated box; the upright box around it is used"
            problems.append(Problem(source, "rotated", message, "note", number, name))
        difficult = (element.findtext("difficult") or "0").strip().lower() in ("1", "true")
        objects.append(RawObject(number, name, box, difficult))
    return objects, problems


class _BadObjectError(Exception):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def _read_box(element: Element) -> tuple[tuple[float, float, float, float], bool]:
    """The box, and whether it was a rotated one (roLabelImg's `robndbox`, its angle in radians)."""
    if element.find("bndbox") is not None:
        left, top, right, bottom = (_number(element, "bndbox", tag) for tag in _CORNERS)
        return (left, top, right, bottom), False
    if element.find("robndbox") is not None:
        x, y, width, height, angle = (_number(element, "robndbox", tag) for tag in _ROTATED)
        if not math.isfinite(angle):
            raise _BadObjectError("not_finite", f"<angle> is {angle}")
        return rotated_box(x, y, width, height, angle), True
    raise _BadObjectError("no_box", "has no <bndbox>")


def _number(element: Element, box: str, tag: str) -> float:
    text = element.findtext(f"{box}/{tag}")
    try:
        return float(text or "")
    except ValueError:
        message = f"has no <{tag}>" if text is None else f"<{tag}> is {text!r}, not a number"
        raise _BadObjectError("not_a_number", message) from None


def _whole_number(root: Element, tag: str) -> int:
    text = root.findtext(tag) or "0"
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        raise AnnotationError(f"<{tag}> is {text!r}, not a number") from None
