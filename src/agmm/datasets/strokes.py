"""The strokes of *ScribbleSup* (Lin et al., CVPR 2016, https://arxiv.org/abs/1604.05144).

One XML file per picture: each ``polygon`` is an open line with the class in ``tag``, and its points
are pixels, X the column and Y the row; the stroke runs through their centres. Points outside of the
picture occur in the published files: what reaches out is cut off.
"""

from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from agmm.datasets.classes import Classes
from agmm.datasets.markup import read_xml, text_of, whole
from agmm.datasets.places import relative_name
from agmm.datasets.shapes import Drawn, Shape, read_drawn
from agmm.errors import DataError
from agmm.labels.annotations import Annotation

VOC_NAMES = {
    "plane": "aeroplane",
    "bike": "bicycle",
    "table": "diningtable",
    "plant": "pottedplant",
    "monitor": "tvmonitor",
}
"""What the published files call classes of VOC, to the names of VOC."""

_SIGN = (b"<annotation", b"<polygon>", b"<tag>", b"<X>")


def list_strokes(folder: Path) -> dict[str, Path]:
    """List the files with strokes that lie in a folder itself.

    Args:
        folder: The folder; there need be none.

    Returns:
        Name without suffix to file, of all XML files there if one of the first has lines with a
        tag; else none.

    Example:
        >>> list_strokes(Path("a/folder/that/is/missing"))
        {}
    """
    files = sorted(folder.glob("[!.]*.xml"))
    return {file.stem: file for file in files} if any(map(_has_lines, files[:8])) else {}


def read_strokes(path: Path, classes: Classes, image: Path) -> Annotation:
    """Read the strokes of one picture.

    Args:
        path: The XML file.
        classes: The data set's classes; a stroke may have the short name of one, see `VOC_NAMES`.
        image: The picture.

    Returns:
        The scribbles.

    Raises:
        DataError: The file or the picture cannot be read, they differ in size, a stroke has no
            class of ours or no point, or the file has boxes of VOC and no stroke.
    """
    tree = read_xml(path)
    if tree.tag != "annotation":
        raise DataError(f"{path}: must be an <annotation>, but is a <{tree.tag}>. Export it again.")
    relative_name(text_of(tree, "filename") or path.stem, str(path))
    height, width = whole(text_of(tree, "size/height")), whole(text_of(tree, "size/width"))
    size = (height, width) if height and width else None
    polygons = tuple(tree.iterfind("polygon"))
    if not polygons and tree.find("object") is not None:
        raise DataError(
            f"{path}: must have strokes of ScribbleSup, each a <polygon>, but has <object> only, as"
            " boxes of PASCAL VOC have. Export the strokes, or move the file into Annotations/"
            " beside JPEGImages/."
        )
    shapes = partial(_shapes, polygons, frozenset(classes.names))
    return read_drawn(Drawn(path, "scribbles", shapes, size), classes, image)


def _has_lines(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(2**16)
    except OSError:
        return False
    return all(sign in head for sign in _SIGN)


def _shapes(
    polygons: tuple[Element, ...],
    known: frozenset[str],
    size: tuple[int, int],  # noqa: ARG001 - of every label
) -> list[Shape]:
    shapes = []
    for number, polygon in enumerate(polygons, start=1):
        name = text_of(polygon, "tag")
        points = [[text_of(point, side) for side in "XY"] for point in polygon.iterfind("point")]
        try:
            xy = np.array([[float(x), float(y)] for x, y in points]).reshape(-1, 2)
        except ValueError as error:
            raise DataError(f"{number}: {error}. Correct the point, or remove the line.") from error
        shapes.append(Shape(name if name in known else VOC_NAMES.get(name, name), xy + 0.5))
    return shapes
