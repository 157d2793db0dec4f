"""Shapes that a labelling tool drew, to annotations.

A line becomes a stroke of `STROKE_WIDTH`; polygons and masks become blocks: their pixels are
labelled, all others are not. Within one form the later shape lies on top, as the tools draw it.
Coordinates are pixels of the picture with (0, 0) in its upper left corner, so that the centre of
the first pixel is (0.5, 0.5).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from agmm.datasets.classes import Classes
from agmm.datasets.images import image_size
from agmm.errors import DataError
from agmm.labels.annotations import Annotation, Blocks, Boxes, Points, Scribbles, Tags
from agmm.labels.forms import Form
from agmm.labels.outlines import Patch, polygon_patch, stroke_patch
from agmm.shapes import IGNORE_INDEX, MaskArray

STROKE_WIDTH = 3.0
"""Thickness in pixels of the stroke that is drawn along a line."""

_NO_POINTS = np.zeros((0, 2))

_LARGEST = 2.0**53
"""The largest coordinate; above it not every whole number is a float."""

_NEEDED: dict[Form, tuple[int, int, str]] = {
    "tags": (0, 0, "no point"),
    "points": (1, 2**31, "at least one point"),
    "scribbles": (1, 2**31, "at least one point"),
    "boxes": (2, 2, "two corners"),
    "blocks": (3, 2**31, "at least three points"),
}
"""How many points a shape of a form may have."""


@dataclass(frozen=True, eq=False)
class Shape:
    """One thing that an annotator drew.

    Args:
        label: The name of its class; None paints 255 = unlabelled.
        xy: (n, 2), in pixels: clicks, the points of a line, the minima and the maxima of a box, or
            the corners of a polygon; none for a tag or a mask.
        patch: The pixels of a mask; None for everything else.
    """

    label: str | None
    xy: Float[np.ndarray, "n 2"] = field(default_factory=_NO_POINTS.copy)
    patch: Patch | None = None


@dataclass(frozen=True)
class Drawn:
    """The shapes of one form in one picture.

    Args:
        file: The file they stand in.
        form: Their form.
        shapes: Gives them in the order they are drawn in, called with (H, W) of the picture in
            pixels; raises `DataError` if one cannot be read. Picklable.
        size: (H, W) of the picture as the file says it; None if it does not.
    """

    file: Path
    form: Form
    shapes: Callable[[tuple[int, int]], Sequence[Shape]]
    size: tuple[int, int] | None = None


def read_drawn(drawn: Drawn, classes: Classes, image: Path) -> Annotation:
    """Make the annotation of shapes.

    Args:
        drawn: The shapes.
        classes: The data set's classes.
        image: The picture.

    Returns:
        Tags, points, scribbles, boxes or blocks. Boxes and clicks are kept as they are, wherever
        they lie; lines, polygons and masks are cut off at the picture's border.

    Raises:
        DataError: The picture cannot be read or has another size than the file says, or a shape
            cannot be read, has no class of ours, a coordinate that is no number, or too few points.

    Example:
        >>> drawn = Drawn(Path("a.json"), "tags", lambda size: [Shape("cat")])
        >>> read_drawn(drawn, Classes(("cat",), ((0, 0, 0),)), Path("a/missing/picture.jpg"))
        Traceback (most recent call last):
        agmm.errors.DataError: a/missing/picture.jpg: there is no such file. Correct the path.
    """
    size = image_size(image)
    if drawn.size is not None and drawn.size != size:
        height, width = drawn.size
        raise DataError(
            f"{drawn.file}: says {width}x{height} pixels (width x height), but its picture {image}"
            f" has {size[1]}x{size[0]}. Draw the labels on this picture, or correct the size."
        )
    where = f"{drawn.file}, {image.name}, {drawn.form}"
    try:
        shapes = drawn.shapes(size)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    codes = _codes(shapes, classes, where)
    for number, shape in enumerate(shapes, start=1):
        _check(shape, drawn.form, f"{where} {number}")
    if drawn.form in {"scribbles", "blocks"}:
        try:
            mask = _painted(shapes, codes, size, drawn.form)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        return Scribbles(mask) if drawn.form == "scribbles" else Blocks(mask)
    labelled = codes != IGNORE_INDEX
    kept = [shape for shape, keep in zip(shapes, labelled, strict=True) if keep]
    if drawn.form == "tags":
        return Tags(np.unique(codes[labelled]))
    xy = np.concatenate([_NO_POINTS, *(shape.xy for shape in kept)])
    if drawn.form == "boxes":
        return Boxes(xy.reshape(-1, 4), codes[labelled])
    return Points(xy, np.repeat(codes[labelled], [len(shape.xy) for shape in kept]))


def _codes(shapes: Sequence[Shape], classes: Classes, where: str) -> UInt8[np.ndarray, " n"]:
    index: dict[str | None, int] = {name: i for i, name in enumerate(classes.names)}
    index[None] = IGNORE_INDEX
    for number, shape in enumerate(shapes, start=1):
        if shape.label not in index:
            raise DataError(
                f"{where} {number}: {shape.label!r} is no class; the classes are"
                f" {', '.join(classes.names)}. Name one of them, or add it to classes.txt."
            )
    return np.array([index[shape.label] for shape in shapes], dtype=np.uint8)


def _check(shape: Shape, form: Form, where: str) -> None:
    if shape.patch is not None:
        return
    if not (np.abs(shape.xy) <= _LARGEST).all():  # NaN is not either
        raise DataError(
            f"{where}: has a coordinate that is no number of pixels. Correct or remove the shape."
        )
    least, most, needed = _NEEDED[form]
    if not least <= len(shape.xy) <= most:
        raise DataError(
            f"{where}: needs {needed}, but has {len(shape.xy)}. Correct or remove the shape."
        )


def _painted(
    shapes: Sequence[Shape], codes: UInt8[np.ndarray, " n"], size: tuple[int, int], form: Form
) -> MaskArray:
    mask = np.full(size, IGNORE_INDEX, dtype=np.uint8)
    for shape, code in zip(shapes, codes, strict=True):
        window, inside = shape.patch or (
            stroke_patch(shape.xy, STROKE_WIDTH, size)
            if form == "scribbles"
            else polygon_patch(shape.xy, size)
        )
        mask[window][inside] = code
    return mask
