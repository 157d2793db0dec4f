"""What the program labelme writes beside the pictures: one JSON file for each.

::

    [FOLDERS/]NAME.json     its shapes; the picture is the file that its "imagePath" names
    classes.txt             the classes; else the labels in the files, sorted

Polygons, circles and masks are blocks, rectangles are boxes, points are points, lines and line
strips are scribbles. The corners of a rectangle are put in order, as labelme keeps them as they
were clicked. The label ``__ignore__`` paints unlabelled pixels, and ``_background_`` is the class
``background``, as in labelme's own conversions. A picture without a JSON file is not used; flags,
descriptions and the embedded picture ("imageData") are not read.
"""

import base64
import binascii
import io
import os
import re
import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from agmm.datasets.listing import list_files
from agmm.datasets.places import find_picture, relative_name, split_name
from agmm.datasets.records import Dataset
from agmm.datasets.shapes import Drawn, Shape
from agmm.datasets.text import read_json, shown
from agmm.datasets.tools import Picture, classes_of, read_tool
from agmm.errors import DataError
from agmm.labels.forms import Form
from agmm.labels.outlines import Patch, ellipse_outline

_FORMS: dict[str, Form] = {
    "polygon": "blocks",
    "circle": "blocks",
    "mask": "blocks",
    "rectangle": "boxes",
    "point": "points",
    "points": "points",
    "line": "scribbles",
    "linestrip": "scribbles",
}
"""Type of a shape to the form of label that it gives."""

_NAMES: dict[str, str | None] = {"__ignore__": None, "_background_": "background"}

_SIGN = re.compile(rb'"shapes"\s*:\s*\[')
_HEAD = 2**16
"""So many bytes at the start and the end of a file are searched for the sign."""

_NO_MASK = (
    *(TypeError, binascii.Error, OSError, SyntaxError, ValueError, struct.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
"""What decoding raises on damaged masks."""

_DEPTH = 3
"""So many folders deep a file of labelme is looked for to recognise the layout."""


def is_labelme(root: Path) -> bool:
    """Say whether the files of labelme lie in a folder.

    Args:
        root: The data set's folder.

    Returns:
        Whether the first JSON file of it or of a folder at most three levels below is labelme's.

    Example:
        >>> is_labelme(Path("a/folder/that/is/missing"))
        False
    """
    if not root.is_dir():
        return False
    for folder, folders, files in os.walk(root):
        folders.sort()
        if len(Path(folder).relative_to(root).parts) >= _DEPTH:
            folders.clear()
        first = min((name for name in files if name.endswith(".json")), default=None)
        if first is not None and _is_labelme_file(Path(folder) / first):
            return True
    return False


def read_labelme(root: Path) -> Dataset:
    """List the pictures and shapes of a folder with the files of labelme; decodes no picture.

    A folder that is named as a split, such as ``train`` or ``val``, makes its files that split;
    all others are ``train``.

    Args:
        root: The data set's folder.

    Returns:
        The records of all splits, sorted by name.

    Raises:
        DataError: A file that is not labelme's, a picture named in two files or outside of the data
            folder, no picture at all, or bad classes.
    """
    files = list_files(root, (".json",))
    files.pop("clicks", None)  # may lie beside any layout
    contents = {name: _load(file) for name, file in files.items()}
    pictures = [_picture(root, name, files[name], content) for name, content in contents.items()]
    labels = {shape["label"] for content in contents.values() for shape in content["shapes"]}
    names = {_NAMES.get(label, label) for label in labels}
    classes = classes_of(root, sorted(name for name in names if name is not None), root)
    return read_tool(root, classes, pictures)


def _is_labelme_file(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            file.seek(max(0, path.stat().st_size - _HEAD))
            text = head + file.read(_HEAD)
    except OSError:
        return False
    # The embedded picture may stand before the shapes or after them.
    return b'"imagePath"' in text and bool(_SIGN.search(text)) and text.lstrip()[:1] == b"{"


def _load(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError(
            f'{path}: must be a file of labelme, {{"shapes": […], "imagePath": …}}, but is'
            f" {shown(content)}. Remove it, or save it with labelme again."
        )
    content.pop("imageData", None)
    if not isinstance(content.get("imagePath"), str):
        raise DataError(f"{path}: imagePath must name the picture. Save it with labelme again.")
    for number, shape in enumerate(content["shapes"], start=1):
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise DataError(
                f"{path}, shape {number}: must have a label, but is {shown(shape)}. Name its class."
            )
        kind = shape.setdefault("shape_type", "polygon") or "polygon"  # old files have none
        if not isinstance(kind, str) or kind not in _FORMS:
            raise DataError(
                f"{path}, shape {number}: the type {shown(kind)} is not known; known are"
                f" {', '.join(_FORMS)}. Draw it as one of these, or remove it."
            )
    return content


def _picture(root: Path, name: str, file: Path, content: Mapping[str, Any]) -> Picture:
    folder = file.parent.relative_to(root).as_posix().removeprefix(".")
    image = relative_name(content["imagePath"], str(file), below=folder or ".")
    found = find_picture(root, [image], str(file))
    grouped: dict[Form, list[Mapping[str, Any]]] = defaultdict(list)
    for shape in content["shapes"]:
        grouped[_FORMS[shape.get("shape_type") or "polygon"]].append(shape)
    height, width = content.get("imageHeight"), content.get("imageWidth")
    said = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    drawn = {
        form: Drawn(file, form, partial(_shapes, tuple(shapes)), said)
        for form, shapes in grouped.items()
    }
    splits = [split for part in name.split("/")[:-1] if (split := split_name(part))]
    return Picture(file, name, [*splits, "train"][0], found, drawn)


def _shapes(given: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> list[Shape]:
    return [_shape(shape, size) for shape in given]


def _shape(shape: Mapping[str, Any], size: tuple[int, int]) -> Shape:
    kind, label = shape.get("shape_type") or "polygon", _NAMES.get(shape["label"], shape["label"])
    xy = _points(shape.get("points"))
    if kind in {"circle", "rectangle", "mask"} and len(xy) != 2:
        raise DataError(f"a {kind} needs two points, but has {len(xy)}. Draw it again.")
    if kind == "rectangle":
        return Shape(label, np.stack([xy.min(axis=0), xy.max(axis=0)]))
    if kind == "circle":
        radius = float(np.linalg.norm(xy[1] - xy[0]))
        return Shape(label, ellipse_outline(xy[0].tolist(), (radius, radius)))
    if kind == "mask":
        return Shape(label, patch=_mask(shape.get("mask"), xy, size))
    return Shape(label, xy)


def _points(points: object) -> np.ndarray:
    if not isinstance(points, list):
        raise DataError(f"points must be a list, but is {shown(points)}. Draw the shape again.")
    for point in points:
        good = isinstance(point, list) and len(point) == 2
        if not good or not all(type(v) in {int, float} and abs(v) <= 2**53 for v in point):
            raise DataError(f"a point must be [x, y], but is {shown(point)}. Draw it again.")
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def _mask(text: object, xy: np.ndarray, size: tuple[int, int]) -> Patch:
    """Decode the PNG of a mask, which lies at its first point and is cut to its rectangle."""
    (left, top), (H, W) = np.floor(xy[0]).astype(np.int64).tolist(), size
    try:
        if not isinstance(text, str):
            raise TypeError("there is none")
        data = io.BytesIO(base64.b64decode(text, validate=True))
        with Image.open(data, formats=["PNG"]) as image:
            width, height = image.size
            if left < 0 or top < 0 or left + width > W or top + height > H:
                raise DataError(
                    f"a mask of {width}x{height} pixels at x={left}, y={top} reaches out of the"
                    f" picture of {W}x{H} (width x height). Draw it again."
                )
            inside = np.asarray(image.convert("L")) > 0
    except _NO_MASK as error:
        raise DataError(f"its mask is no PNG in base64 ({error}). Draw it again.") from error
    return (slice(top, top + height), slice(left, left + width)), inside
