"""The XML of CVAT, "CVAT for images" and "CVAT for video".

::

    [TASK/]*.xml                    annotations.xml of a task or a project, or train.xml, val.xml, …
    [TASK/]images/[SUBSET/]NAME     the pictures; they may lie beside the XML file too
    classes.txt                     the classes; else the labels and colours in the files

Boxes are boxes (turned ones the upright box round them), polygons, ellipses and masks are blocks,
polylines are scribbles, points are points, and tags are tags. Shapes lie on top of each other as
their ``z_order`` says. Of a video, the frames count whose pictures are there, as
``images/frame_000010.png``; a shape counts in the frames that the file lists it in, unless it is
outside of the view there. Attributes are not read, and skeletons and cuboids are refused.

A split is the picture's subset, else the name of the file or of a folder that it lies in if this
is one, else "train". Each of several tasks has a folder, as it was exported, with
``task1/annotations.xml`` and ``task1/images/``; or a file, as ``task1.xml``, with the pictures in
``images/task1/``. "task1/NAME" is the name.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

from agmm.datasets.classes import Color
from agmm.datasets.listing import picture_name
from agmm.datasets.markup import list_xml, read_xml, root_tag, text_of, whole
from agmm.datasets.places import find_first, relative_name, split_name
from agmm.datasets.records import Dataset
from agmm.datasets.shapes import Drawn, Shape
from agmm.datasets.text import shown
from agmm.datasets.tools import Picture, classes_of, read_tool
from agmm.errors import DataError
from agmm.labels.forms import Form

_FORMS: dict[str, Form] = {
    "tag": "tags",
    "points": "points",
    "polyline": "scribbles",
    "box": "boxes",
    "polygon": "blocks",
    "ellipse": "blocks",
    "mask": "blocks",
}
"""Element to the form of label that it gives."""


def is_cvat(root: Path) -> bool:
    """Say whether a folder has the XML of CVAT.

    Args:
        root: The data set's folder.

    Returns:
        Whether the root of one of its XML files is <annotations>.

    Example:
        >>> is_cvat(Path("a/folder/that/is/missing"))
        False
    """
    return any(root_tag(file) == "annotations" for file in sorted(root.glob("*.xml"))[:8])


def read_cvat(root: Path) -> Dataset:
    """List the pictures and shapes of an export of CVAT; decodes no picture.

    Args:
        root: The data set's folder.

    Returns:
        The records of all splits, sorted by name.

    Raises:
        DataError: A file that cannot be read or is another tool's, a picture outside of the data
            folder, in two folders, in two splits or named twice, no picture at all, or bad classes.
    """
    files = [*list_xml(root).values()]
    colors: dict[str, Color | None] = {}
    pictures: list[Picture] = []
    for file in files:
        tree = read_xml(file)
        if tree.tag != "annotations":
            raise DataError(
                f"{file}: must be <annotations>, but is <{tree.tag}>. Export it as CVAT for images,"
                " or take the file away."
            )
        found = dict(_labels(tree))
        colors = {**colors, **{name: c for name, c in found.items() if not colors.get(name)}}
        frames = [*_images(file, tree), *_frames(file, tree)]
        pictures.extend(_picture(root, file, frame) for frame in frames)
    classes = classes_of(root, [*colors], files[0] if files else root, [*colors.values()])
    return read_tool(root, classes, pictures)


@dataclass(frozen=True)
class _Frame:
    """One picture of the file: its name as it stands there, and its elements by form."""

    name: str
    subset: str
    size: tuple[int, int] | None
    elements: dict[Form, list[Element]] = field(default_factory=lambda: defaultdict(list))

    def add(self, element: Element, label: str, where: str) -> None:
        if element.tag not in _FORMS:
            raise DataError(
                f"{where}: a <{element.tag}> is none of {', '.join(_FORMS)}. Remove it, or export"
                " it as one of these."
            )
        # What stands inside of it, such as attributes, is not read.
        own = Element(element.tag, {**element.attrib, "label": label})
        self.elements[_FORMS[element.tag]].append(own)


def _labels(tree: Element) -> Iterator[tuple[str, Color | None]]:
    """Name and colour of the labels; the parts of a skeleton are none."""
    for label in tree.iterfind("meta//labels/label"):
        color = text_of(label, "color")
        try:
            red, green, blue = bytes.fromhex(color.removeprefix("#"))
        except ValueError:
            yield text_of(label, "name"), None
        else:
            yield text_of(label, "name"), (red, green, blue)


def _images(file: Path, tree: Element) -> Iterator[_Frame]:
    for image in tree.iterfind("image"):
        size = _size(image.get("height"), image.get("width"), f"{file}, {image.get('name')!r}")
        frame = _Frame(image.get("name", ""), image.get("subset", ""), size)
        for element in image:
            frame.add(element, element.get("label", ""), f"{file}, image {frame.name!r}")
        yield frame


def _size(height: str | None, width: str | None, where: str) -> tuple[int, int] | None:
    """Read the size of a picture, if it is said."""
    if not height and not width:
        return None
    rows, columns = whole(height), whole(width)
    if not rows or not columns:
        raise DataError(
            f"{where}: width and height must be pixels, but are {shown(width)} and"
            f" {shown(height)}. Export it again."
        )
    return rows, columns


def _frames(file: Path, tree: Element) -> Iterator[_Frame]:
    """Gather the shapes of each frame from the tracks of a video."""
    said = tree.find("meta//original_size")
    size = None
    if said is not None:
        size = _size(text_of(said, "height"), text_of(said, "width"), f"{file}, <original_size>")
    frames: dict[tuple[str, int], _Frame] = {}
    for track in tree.iterfind("track"):
        where = f"{file}, track {track.get('id')!r}"
        for element in track:
            number = whole(element.get("frame"))
            if number is None:
                raise DataError(f"{where}: a <{element.tag}> has no frame. Export it again.")
            subset = track.get("subset", "")
            frame = frames.setdefault(
                (subset, number),
                _Frame(f"frame_{number:06d}", subset, size),
            )
            if element.get("outside") != "1":
                frame.add(element, track.get("label", ""), where)
    yield from frames.values()


def _picture(root: Path, file: Path, frame: _Frame) -> Picture:
    folder = file.parent.relative_to(root).as_posix()
    at = "" if folder == "." else f"{folder}/"
    name = relative_name(frame.name, str(file))
    subset = relative_name(frame.subset, str(file)) if frame.subset else ""
    # Pictures of one name may lie in the folders of several subsets, or of several files.
    own = f"{subset or file.stem}/"
    places = dict.fromkeys((f"{at}images/", f"images/{at}", at))
    named, shared = ([f"{place}{sub}{name}" for place in places] for sub in (own, ""))
    # The name that CVAT gives to every file says nothing.
    groups = [[*named, *shared]] if own == "annotations/" else [named, shared]
    drawn = {
        form: Drawn(file, form, partial(_shapes, _document(frame, elements)), frame.size)
        for form, elements in frame.elements.items()
    }
    found = find_first(root, groups, str(file))
    if found is not None and not subset and not split_name(file.stem):
        path = found.relative_to(root).as_posix()
        name = path.removeprefix(next(place for place in places if path.startswith(place)))
    name = at.removeprefix("images/") + picture_name(name)
    return Picture(file, name, _split(file, at, subset), found, drawn)


def _split(file: Path, at: str, subset: str) -> str:
    """Give the split of a picture by its subset, its file or the folders of this."""
    word = subset or file.stem
    said = split_name(word) or subset
    folder = next((split for part in at.split("/") if (split := split_name(part))), None)
    if folder is None:
        return said or "train"
    # CVAT calls a subset so that nobody has chosen.
    if said and said != folder and word.casefold() != "default":
        raise DataError(
            f"{file}: {word!r} is the split {said}, but the folder {at} is {folder}, so that it is"
            " not clear which one is meant. Rename the folder, or export the split that it names."
        )
    return folder


def _document(frame: _Frame, elements: Sequence[Element]) -> bytes:
    """Write what Datumaro reads: the elements of one picture and one form, the lowest first."""
    root = Element("annotations")
    labels = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    for name in dict.fromkeys(element.get("label", "") for element in elements):
        SubElement(SubElement(labels, "label"), "name").text = name
    height, width = frame.size or (0, 0)
    image = SubElement(root, "image", id="0", name="", height=str(height), width=str(width))
    image.extend(sorted(elements, key=_z_order))
    document: bytes = tostring(root, encoding="utf-8")
    return document


def _z_order(element: Element) -> int:
    text = element.get("z_order", "0")
    digits = whole(text.removeprefix("-")) or 0
    return -digits if text.startswith("-") else digits


def _shapes(document: bytes, size: tuple[int, int]) -> list[Shape]:
    from agmm.datasets.datumaro_tools import cvat_shapes

    return cvat_shapes(document, size)
