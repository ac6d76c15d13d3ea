"""One VOC annotation: XML from strangers -> objects, or what is wrong with them."""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem, RawObject
from ssd.errors import AnnotationError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def parse(path: Path) -> Element:
    """Parse one XML file without following anything that it may declare.

    Raises:
        AnnotationError: missing, over 10 MB, not XML, an unknown encoding, or a document type.
    """
    content = folders.read_bytes(path)
    try:
        # A document type is where entity bombs and outside references come from; no annotation tool writes one.
        return fromstring(content, forbid_dtd=True)
    except DefusedXmlException:
        raise AnnotationError("declares a document type or entities, refused for safety", place=path) from None
    except ParseError as error:
        raise AnnotationError(f"is not valid XML ({error})", place=path) from None
    except (ValueError, LookupError) as error:
        raise AnnotationError(f"has an encoding that cannot be read ({error})", place=path) from None


def read_size_tag(root: Element) -> tuple[int, int]:
    """`<size>` as (width, height); 0 where it is missing, as some tools write it too.

    Raises:
        AnnotationError: it is there and not a number.
    """
    return _whole_number(root, "size/width"), _whole_number(root, "size/height")


def read_objects(root: Element, source: str) -> list[RawObject | Problem]:
    """Every `<object>` in its order; in place of one that cannot be read stands the problem."""
    return [_read_object(element, number, source) for number, element in enumerate(root.iter("object"), start=1)]


def _read_object(element: Element, number: int, source: str) -> RawObject | Problem:
    name = (element.findtext("name") or "").strip()
    if not name:
        return Problem(source, "no_name", "has no <name>", index=number)
    if element.find("bndbox") is None:
        return Problem(source, "no_box", "has no <bndbox>", index=number, name=name)
    corners = []
    for tag in _CORNERS:
        text = element.findtext(f"bndbox/{tag}")
        try:
            corners.append(float(text or ""))
        except ValueError:
            message = f"has no <{tag}>" if text is None else f"<{tag}> is {text!r}, not a number"
            return Problem(source, "not_a_number", message, index=number, name=name)
    left, top, right, bottom = corners
    difficult = (element.findtext("difficult") or "0").strip().lower() in ("1", "true")
    return RawObject(number, name, (left, top, right, bottom), difficult)


def _whole_number(root: Element, tag: str) -> int:
    text = root.findtext(tag) or "0"
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        raise AnnotationError(f"<{tag}> is {text!r}, not a number") from None
