"""Annotations of objects in PASCAL VOC's XML, and the map from their names to labels."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

from caffe.files.text import read_text
from caffe.proto import caffe_pb2
from relaybp.data_prep.errors import PrepError


class Object(NamedTuple):
    """An object in an image; the box is in pixels, x to the right and y down."""

    name: str
    box: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax
    difficult: bool


class Annotation(NamedTuple):
    """What an XML file says of its image."""

    size: tuple[int, int]  # height and width; 0 where it does not say
    objects: list[Object]


def read_annotation(path: str | Path) -> Annotation:
    """The Annotation in an XML file; PrepError where something is missing or no number."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise PrepError(f"{path}: {error.strerror}") from None
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise PrepError(f"{path}: declares entities, which no annotation needs; take them out")
    try:
        root = ET.fromstring(text)
        return Annotation(
            (_number(root, "size/height"), _number(root, "size/width")),
            [_object(node) for node in root.iter("object")],
        )
    except (ET.ParseError, ValueError) as error:
        raise PrepError(f"{path}: {error}; expected the XML of PASCAL VOC") from None


def _number(root: ET.Element, name: str) -> int:
    return int(float(root.findtext(name, "0")))


def _object(node: ET.Element) -> Object:
    name, box = node.findtext("name"), node.find("bndbox")
    if not name or box is None:
        raise ValueError("an object without name or bndbox")
    corners = [box.findtext(side) for side in ("xmin", "ymin", "xmax", "ymax")]
    if None in corners:
        raise ValueError(f"object {name!r}: bndbox needs xmin, ymin, xmax and ymax")
    xmin, ymin, xmax, ymax = map(float, corners)
    return Object(name.strip(), (xmin, ymin, xmax, ymax), node.findtext("difficult", "0") != "0")


def write_annotation(path: str | Path, image: str, annotation: Annotation) -> None:
    """Write the XML of an image of 3 channels, whose file is named `image`."""
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = image
    _add(root, "size", width=annotation.size[1], height=annotation.size[0], depth=3)
    for one in annotation.objects:
        node = _add(root, "object", name=one.name, difficult=int(one.difficult))
        _add(node, "bndbox", **dict(zip(("xmin", "ymin", "xmax", "ymax"), map(round, one.box))))
    ET.indent(root)
    Path(path).write_text(ET.tostring(root, "unicode") + "\n")


def _add(parent: ET.Element, tag: str, **values: object) -> ET.Element:
    node = ET.SubElement(parent, tag)
    for name, value in values.items():
        ET.SubElement(node, name).text = str(value)
    return node


def read_label_map(path: str | Path) -> dict[str, int]:
    """{name: label} of a label map file: items with name, label and display_name, as SSD's."""
    items = read_text(str(path), caffe_pb2.LabelMap()).item
    found = {item.name: item.label for item in items}
    if not found or len(found) < len(items):
        raise PrepError(f"{path}: expected items, each with a name of its own")
    return found


def write_label_map(path: str | Path, names: list[str]) -> None:
    """Write a label map: label 0 is the background, the names follow."""
    lines = []
    for label, name in enumerate(["none_of_the_above", *names]):
        shown = name if label else "background"
        lines.append(f'item {{ name: "{name}" label: {label} display_name: "{shown}" }}\n')
    Path(path).write_text("".join(lines))
