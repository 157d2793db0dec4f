"""What Datumaro reads of labelling tools; import this module where it is used.

Datumaro's readers of whole exports join the names of pictures to paths as they stand in the file,
leave out what they do not know, keep shapes without a class, and stop at the first fault. So they
get the shapes of one picture and one form at a time, from trees that defusedxml has parsed; names,
pictures and classes are ours.
"""

import io
from collections.abc import Iterable
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from datumaro.components.annotation import (
    AnnotationType,
    Label,
    LabelCategories,
    RotatedBbox,
)
from datumaro.components.errors import DatumaroError
from datumaro.plugins.data_formats.cvat.base import CvatBase
from datumaro.plugins.data_formats.labelme import LabelMeBase
from defusedxml import ElementTree

from agmm.datasets.markup import whole
from agmm.datasets.shapes import Shape
from agmm.errors import DataError
from agmm.labels.outlines import Patch, ellipse_outline, turned

_FAULTS = (
    *(DatumaroError, ValueError, KeyError, TypeError, AttributeError, IndexError),
    *(AssertionError, OverflowError, OSError),
)
"""What Datumaro's readers raise on values that they do not expect."""


class _Cvat(CvatBase):  # type: ignore[misc]
    """Datumaro's reader of CVAT without files: no path, no pictures, no subsets."""

    def __init__(self) -> None:
        self._subset = None

    def read(self, document: bytes) -> list[Any]:
        """Read the shapes of one picture."""
        items, _ = self._parse(io.BytesIO(document))
        return [shape for item in items.values() for shape in item["annotations"]]


def cvat_shapes(document: bytes, size: tuple[int, int]) -> list[Shape]:
    """Read the shapes of one picture as CVAT writes them; Datumaro rounds to hundredths of a pixel.

    Args:
        document: <annotations> with the labels in <meta> and one <image>, in UTF-8.
        size: (H, W) of the picture in pixels.

    Returns:
        The shapes, in their order.

    Raises:
        DataError: A shape without a label, a coordinate that is missing or no number, or a mask
            that does not fill its rectangle or reaches out of the picture.
    """
    root = ElementTree.fromstring(document)
    names = [element.text or "" for element in root.iterfind("meta/task/labels/label/name")]
    [image] = root.iterfind("image")
    elements = list(image)
    masks: dict[int, Shape] = {}
    for number, element in enumerate(elements, start=1):
        label = element.get("label")
        if not label:
            raise DataError(f"{number}: the <{element.tag}> has no label. Choose its class.")
        if element.tag == "ellipse":
            _as_polygon(element, number)
        elif element.tag == "mask":
            masks[number] = Shape(label, patch=_mask(element, size, number))
            image.remove(element)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # told when the shape is judged
            found = _Cvat().read(tostring(root, encoding="utf-8"))
            others = iter([_shape(annotation, names) for annotation in found])
    except _FAULTS as error:
        raise _explained(error) from error
    return [masks.get(number) or next(others) for number in range(1, len(elements) + 1)]


def labelme_shapes(objects: Iterable[Element]) -> list[Shape]:
    """Read polygons as the web tool LabelMe writes them; Datumaro rounds to hundredths of a pixel.

    Args:
        objects: <object> elements with a name and a polygon.

    Returns:
        The shapes, in their order.

    Raises:
        DataError: A coordinate that is missing or no number.
    """
    tree = Element("annotation")
    for number, given in enumerate(objects):
        # Datumaro keeps one object of each id, and wants an id of each.
        element = SubElement(tree, "object")
        element.extend([found for found in given if found.tag in {"name", "polygon", "type"}])
        SubElement(element, "id").text = str(number)
    labels = LabelCategories()
    categories = {AnnotationType.label: labels}
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            found = LabelMeBase._parse_annotations(tree, "", "", categories)  # noqa: SLF001
            names = [label.name.strip() for label in labels]
            return [_shape(annotation, names) for annotation in found]
    except _FAULTS as error:
        raise _explained(error) from error


def _shape(annotation: Any, names: list[str]) -> Shape:
    label = names[annotation.label]
    if isinstance(annotation, Label):
        return Shape(label)
    if isinstance(annotation, RotatedBbox):
        x, y, width, height, degrees = annotation.points
        half = (
            np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
        )
        corners = turned(half + np.array([x, y]), (float(x), float(y)), float(degrees))
        return Shape(label, np.stack([corners.min(axis=0), corners.max(axis=0)]))
    return Shape(label, np.array(annotation.points, dtype=np.float64).reshape(-1, 2))


def _as_polygon(element: Element, number: int) -> None:
    """Turn an ellipse, which Datumaro does not know, into a polygon."""
    try:
        cx, cy, rx, ry = (float(element.attrib[name]) for name in ("cx", "cy", "rx", "ry"))
        degrees = float(element.get("rotation", "0"))
    except (KeyError, ValueError) as error:
        raise DataError(f"{number}: an ellipse needs cx, cy, rx and ry ({error}).") from error
    outline = ellipse_outline((cx, cy), (rx, ry), degrees)
    element.tag = "polygon"
    element.set("points", ";".join(f"{x},{y}" for x, y in outline.tolist()))


def _mask(element: Element, size: tuple[int, int], number: int) -> Patch:
    """Decode a mask; Datumaro's way, by pycocotools, warns with NumPy 2 and trusts the numbers."""
    left, top, width, height = (
        whole(element.get(name)) for name in ("left", "top", "width", "height")
    )
    if left is None or top is None or not width or not height:
        raise DataError(f"{number}: a mask needs left, top, width and height. Export it again.")
    if left + width > size[1] or top + height > size[0]:
        raise DataError(
            f"{number}: the mask of {width}x{height} pixels at x={left}, y={top} reaches out of the"
            f" picture of {size[1]}x{size[0]} (width x height). Draw it again."
        )
    runs = [whole(text) for text in element.get("rle", "").split(",")]
    lengths = [run for run in runs if run is not None]
    if sum(lengths) != width * height or len(lengths) < len(runs):
        raise DataError(f"{number}: the runs of the mask do not fill it. Export it again.")
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)  # it starts with what is outside
    window = (slice(top, top + height), slice(left, left + width))
    return window, inside.reshape(height, width)


def _explained(error: BaseException) -> DataError:
    return DataError(
        f"a shape cannot be read ({type(error).__name__}: {error}). Correct or remove it."
    )
