"""The JSON export of Label Studio.

::

    *.json               the export "JSON", one or several files; not "JSON-MIN"
    images/, or beside   the pictures: under the path or the name that the task has for them, with
                         or without the eight letters that an upload puts in front of it
    classes.txt          the classes; else the labels in the files, sorted

Rectangles are boxes (turned ones the upright box round them), polygons, ellipses and brushes are
blocks, key points are points, and choices for a whole picture are tags. A later region lies on top.
All the annotations of a picture count that were not cancelled; predictions and drafts do not. Every
picture is ``train``.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from agmm.datasets.brush import decode_brush
from agmm.datasets.listing import picture_name
from agmm.datasets.places import find_first, relative_name
from agmm.datasets.records import Dataset
from agmm.datasets.shapes import Drawn, Shape
from agmm.datasets.text import read_json, shown
from agmm.datasets.tools import Picture, classes_of, read_tool
from agmm.errors import DataError
from agmm.labels.forms import Form
from agmm.labels.outlines import ellipse_outline, turned

_FORMS: dict[str, Form] = {
    "rectanglelabels": "boxes",
    "polygonlabels": "blocks",
    "ellipselabels": "blocks",
    "brushlabels": "blocks",
    "keypointlabels": "points",
    "choices": "tags",
}
"""Type of a result to the form of label that it gives."""

_SIGN = re.compile(
    rb'^\s*(\xef\xbb\xbf)?\s*\[\s*\{.*"(annotations|completions)"\s*:\s*\[', re.DOTALL
)
_HEAD = 2**16
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")

_Result = Mapping[str, Any]


def is_label_studio(root: Path) -> bool:
    """Say whether a folder has an export of Label Studio.

    Args:
        root: The data set's folder.

    Returns:
        Whether one of its JSON files starts as a list of tasks with annotations.

    Example:
        >>> is_label_studio(Path("a/folder/that/is/missing"))
        False
    """
    return any(_is_export(path) for path in _exports(root)[:8])


def read_label_studio(root: Path) -> Dataset:
    """List the pictures and regions of an export of Label Studio; decodes no picture.

    Args:
        root: The data set's folder.

    Returns:
        The records, all in the split "train", sorted by name.

    Raises:
        DataError: A file that cannot be read or is another export, a picture outside of the data
            folder or in two folders, a form that comes in two tasks for one picture, no picture at
            all, or bad classes.
    """
    names: set[str] = set()
    pictures: list[Picture] = []
    for file in _exports(root):
        tasks = read_json(file)
        if not isinstance(tasks, list):
            raise DataError(f"{file}: must be a list of tasks, but is {shown(tasks)}. Export JSON.")
        for number, task in enumerate(tasks, start=1):
            where = f"{file}, task {number}"
            results = _grouped(task, where)
            for found in results.values():
                names |= {name for result in found for name in _names(result)}
            pictures.append(_picture(root, file, task, results, where))
    return read_tool(root, classes_of(root, sorted(names), root), pictures)


def _exports(root: Path) -> list[Path]:
    return [file for file in sorted(root.glob("*.json")) if file.name != "clicks.json"]


def _is_export(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return bool(_SIGN.search(file.read(_HEAD)))
    except OSError:
        return False


def _grouped(task: object, where: str) -> dict[Form, list[_Result]]:
    """Sort the results of all annotations of a task by their form."""
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
        raise DataError(
            f"{where}: must have data and annotations, but is {shown(task)}. Export it as JSON,"
            " not as JSON-MIN."
        )
    grouped: dict[Form, list[_Result]] = defaultdict(list)
    for annotation in _list(task.get("annotations", task.get("completions")), where):
        if not isinstance(annotation, dict):
            raise DataError(f"{where}: an annotation is {shown(annotation)}. Export it again.")
        if annotation.get("was_cancelled"):
            continue
        for result in _list(annotation.get("result"), where):
            form = _form(result, where)
            if form is not None:
                grouped[form].append(result)
    return grouped


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{where}: must have a list, but has {shown(value)}. Export it as JSON.")
    return value


def _form(result: object, where: str) -> Form | None:
    """Tell the form of a result; None if it says nothing of the picture's classes."""
    if not isinstance(result, dict) or not isinstance(result.get("type", ""), str):
        raise DataError(f"{where}: a result is {shown(result)}. Export it again.")
    kind, value = result.get("type", ""), result.get("value")
    if not isinstance(value, dict):
        return None  # a relation of two regions
    if kind == "labels":
        kind = f"{_shape_of(value)}labels"
    if kind == "choices" and ("x" in value or "points" in value or "rle" in value):
        return None  # said of one region
    if kind.endswith("labels") and kind not in _FORMS:
        raise DataError(
            f"{where}: the type {kind!r} is not known; known are {', '.join(_FORMS)}. Draw it as"
            " one of these, or remove it."
        )
    return _FORMS.get(kind)


def _shape_of(value: _Result) -> str:
    signs = {"width": "rectangle", "points": "polygon", "radiusX": "ellipse", "rle": "brush"}
    found = (kind for sign, kind in signs.items() if sign in value)
    # A key point has a width as well, but no height.
    kind = next(found, "")
    return "keypoint" if kind == "rectangle" and "height" not in value else kind


def _names(result: _Result) -> list[str]:
    """The classes of a result; none if they are no list of names, which is told later."""
    value = result["value"]
    key = "labels" if "labels" in value and result["type"] not in value else result["type"]
    names = value.get(key)
    good = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return list(names) if good and names else []


def _picture(
    root: Path,
    file: Path,
    task: _Result,
    results: Mapping[Form, Sequence[_Result]],
    where: str,
) -> Picture:
    name = _image_of(task["data"], where)
    places = [relative_name(place, where) for place in _places(name, task.get("file_upload"))]
    drawn = {
        form: Drawn(file, form, partial(_shapes, tuple(found), form))
        for form, found in results.items()
    }
    found = find_first(root, ((f"images/{place}", place) for place in places), where)
    if found is None:
        return Picture(file, picture_name(places[0]), "train", None, drawn)
    key = found.relative_to(root).as_posix().removeprefix("images/")
    return Picture(file, picture_name(key), "train", found, drawn)


def _image_of(data: _Result, where: str) -> str:
    """The picture of a task: what is called image, or else the only text that names a picture."""
    texts = [value for value in data.values() if isinstance(value, str)]
    pictures = [text for text in texts if picture_name(_path_of(text)) != _path_of(text)]
    image = data.get("image", pictures[0] if len(pictures) == 1 else None)
    if not isinstance(image, str) or not image:
        raise DataError(
            f"{where}: it is not clear which picture is meant by {shown(dict(data))}. Call its"
            " field in the task's data 'image'."
        )
    return image


def _path_of(text: str) -> str:
    """The path of an address such as "/data/local-files/?d=a/b.jpg" or "s3://bucket/b.jpg"."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path).removeprefix("/")


def _places(image: str, upload: object) -> Iterator[str]:
    """Where a picture may lie: its path, its name, and the name before it was uploaded."""
    path = _path_of(image)
    yield path
    for name in (path.rpartition("/")[2], upload if isinstance(upload, str) else ""):
        if name:
            yield name
            yield _UPLOAD.sub("", name)


def _shapes(results: Sequence[_Result], form: Form, size: tuple[int, int]) -> list[Shape]:
    return [
        shape
        for number, result in enumerate(results, start=1)
        for shape in _shape(result, form, size, number)
    ]


def _shape(result: _Result, form: Form, size: tuple[int, int], number: int) -> Iterator[Shape]:
    """Give the shapes of a result, one for each of its labels."""
    names = _names(result)
    if not names:
        raise DataError(f"{number}: {shown(result['value'])} has no label. Choose its class.")
    if form == "tags":
        yield from map(Shape, names)
        return
    said = (result.get("original_height"), result.get("original_width"))
    if said != size:
        raise DataError(
            f"{number}: it was drawn on {shown(said[1])}x{shown(said[0])} pixels (width x height),"
            f" but the picture has {size[1]}x{size[0]}. Put the picture there that was annotated."
        )
    if result.get("image_rotation", 0) != 0:
        raise DataError(f"{number}: the picture was turned while it was annotated. Turn it back.")
    value: _Result = result["value"]
    if "rle" in value:
        rle = value["rle"]
        inside = decode_brush(rle if isinstance(rle, list) else [rle], size)
        patch = ((slice(0, size[0]), slice(0, size[1])), inside)
        yield from (Shape(name, patch=patch) for name in names)
        return
    xy = _outline(value, form, size, number)
    yield from (Shape(name, xy) for name in names)


def _outline(value: _Result, form: Form, size: tuple[int, int], number: int) -> np.ndarray:
    """The points of a region in pixels; Label Studio counts in percent of the picture's sides."""
    percent = np.array([size[1], size[0]]) / 100

    def numbers(*keys: str) -> list[float]:
        return [_number(value.get(key), f"{number}: {key}") for key in keys]

    if form == "points":
        return np.array([numbers("x", "y")]) * percent
    if "points" in value:
        points = value["points"]
        if not isinstance(points, list) or not all(
            isinstance(point, list) and len(point) == 2 for point in points
        ):
            raise DataError(f"{number}: points must be [[x, y], …]. Draw the region again.")
        found = [[_number(v, f"{number}: a point") for v in point] for point in points]
        return np.array(found, dtype=np.float64).reshape(-1, 2) * percent
    degrees = _number(value.get("rotation", 0), f"{number}: rotation")
    if form == "blocks":
        x, y, rx, ry = (
            np.array(numbers("x", "y", "radiusX", "radiusY")) * [*percent, *percent]
        ).tolist()
        return ellipse_outline((x, y), (rx, ry), degrees)
    x, y, width, height = (
        np.array(numbers("x", "y", "width", "height")) * [*percent, *percent]
    ).tolist()
    if degrees == 0:
        return np.array([[x, y], [x + width, y + height]])
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    corners = turned(corners, (x, y), degrees)  # about its upper left corner
    return np.stack([corners.min(axis=0), corners.max(axis=0)])


def _number(value: object, what: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 2**53:
        return float(value)
    raise DataError(f"{what} must be a number, but is {shown(value)}. Draw the region again.")
