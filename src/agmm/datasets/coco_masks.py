"""Masks of COCO: polygons, runs and panoptic PNGs to the class of every pixel."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from agmm.datasets.classes import Classes
from agmm.datasets.coco_fields import bbox, corners, filled, integer
from agmm.datasets.coco_runs import decode_runs
from agmm.datasets.images import image_size, opened_image
from agmm.datasets.places import find_first, relative_name
from agmm.datasets.shapes import Shape
from agmm.datasets.text import shown
from agmm.errors import DataError
from agmm.labels.annotations import DenseMask
from agmm.labels.outlines import Patch, polygon_patch
from agmm.shapes import IGNORE_INDEX


@dataclass(frozen=True)
class Annotated:
    """The annotations of one picture.

    Args:
        file: The file they stand in.
        texts: Their text.
        names: Id of each category to its name.
        things: The ids of the categories of countable objects.
        crowds: Whether ``iscrowd`` means that the pixels are not to be counted.
        size: (H, W) of the picture as the file says it; None if it does not.
    """

    file: Path
    texts: tuple[str, ...]
    names: Mapping[int, str]
    things: frozenset[int]
    crowds: bool
    size: tuple[int, int] | None = None


def tag_shapes(found: Annotated, size: tuple[int, int]) -> list[Shape]:  # noqa: ARG001 - of every form
    """Give the classes of all annotations, crowds among them.

    Args:
        found: The annotations.
        size: (H, W) of the picture in pixels.

    Returns:
        A shape without place for each annotation or segment.

    Raises:
        DataError: An annotation that cannot be read.
    """
    return [Shape(_name(entry, found, number)) for number, entry in _entries(found)]


def box_shapes(found: Annotated, size: tuple[int, int]) -> list[Shape]:  # noqa: ARG001 - of every form
    """Give the boxes of the things; x, y, width and height become corners.

    Args:
        found: The annotations.
        size: (H, W) of the picture in pixels.

    Returns:
        A box for each annotation or segment of a thing, round the whole group if it is a crowd.

    Raises:
        DataError: A ``bbox`` that is missing or not of four numbers.
    """
    shapes = []
    for number, entry in _entries(found):
        name = _name(entry, found, number)
        if entry["category_id"] in found.things:
            x, y, width, height = bbox(entry, number)
            corners = np.array([[x, y], [x + width, y + height]])
            shapes.append(Shape(name, corners))
    return shapes


def read_segments(found: Annotated, classes: Classes, image: Path) -> DenseMask:
    """Paint the segmentations of a picture.

    Where segments overlap, the one of fewer pixels is on top, as that of a cup on a table; of two
    that have as many, the later. Crowds, and the boxes of objects without a segmentation, are 255
    where nothing else is. What no segment covers is the background, or 255 if there is none.

    Args:
        found: The annotations.
        classes: The data set's classes.
        image: The picture.

    Returns:
        The class of every pixel.

    Raises:
        DataError: The picture cannot be read or has another size, a segmentation that is none, or
            an unknown class.
    """
    size, where = _size(found, image), f"{found.file}, {image.name}, dense"
    background = IGNORE_INDEX if classes.background is None else classes.background
    mask = np.full(size, background, dtype=np.uint8)
    pixels = np.full(size, mask.size + 2, dtype=np.int64)  # of the segment on top of each
    try:
        for number, entry in _entries(found):
            code = _code(entry, found, classes, number)
            if filled(entry, "segmentation"):
                window, inside = _patch(entry["segmentation"], size, number)
            else:
                code, (window, inside) = IGNORE_INDEX, _box_patch(entry, size, number)
            own = mask.size + 1 if code == IGNORE_INDEX else int(inside.sum())
            wins = inside & (own <= pixels[window])
            mask[window][wins], pixels[window][wins] = code, own
    except DataError as error:
        raise DataError(f"{where} {error}") from error
    return DenseMask(mask)


def read_panoptic(
    found: Annotated, places: Sequence[str], root: Path, classes: Classes, image: Path
) -> DenseMask:
    """Read a panoptic PNG: the id of a pixel's segment is red + 256 green + 65536 blue.

    Args:
        found: The annotation of the picture, which has the class of each segment.
        places: The folders that the PNG may lie in, from the data folder on. The last one may have
            pictures of its name, and counts if it is in none of the others.
        root: The data set's folder.
        classes: The data set's classes.
        image: The picture.

    Returns:
        The class of every pixel; 255 where the id is 0 or the segment a crowd.

    Raises:
        DataError: The picture or the PNG cannot be read, there are two, their sizes differ, or a
            pixel has an id that the file does not name.
    """
    size, where = _size(found, image), f"{found.file}, {image.name}, dense"
    try:
        name, codes = _segments(found, classes)
        name = relative_name(name, "1")
        names = [f"{place}{name}" for place in places]
        png = find_first(root, (names[:-1], names[-1:]), where)
    except DataError as error:
        raise DataError(f"{where} {error}") from error
    if png is None:
        raise DataError(
            f"{where}: there is no {name} in {root / places[0]}. Add the file, or remove its"
            " annotation."
        )
    ids = _read_ids(png)
    if ids.shape != size:
        raise DataError(
            f"{png}: has {ids.shape[1]}x{ids.shape[0]} pixels (width x height), but its picture"
            f" {image} has {size[1]}x{size[0]}. Export the mask at the picture's size."
        )
    present, place = np.unique(ids, return_inverse=True)
    unknown = [found for found in present.tolist() if found not in codes]
    if unknown:
        raise DataError(
            f"{png}: the segment {unknown[0]} is on {(ids == unknown[0]).sum()} pixels, but"
            f" {found.file} does not name it. Add it to segments_info, or export both again."
        )
    table = np.array([codes[known] for known in present.tolist()], dtype=np.uint8)
    return DenseMask(table[place].reshape(size))


def _entries(found: Annotated) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Decode the annotations, and of panoptic ones the segments, and number them."""
    number = 0
    for text in found.texts:
        entry = json.loads(text)
        for part in entry.get("segments_info", [entry]):
            number += 1
            yield number, part


def _size(found: Annotated, image: Path) -> tuple[int, int]:
    size = image_size(image)
    if found.size is not None and found.size != size:
        raise DataError(
            f"{found.file}: says {found.size[1]}x{found.size[0]} pixels (width x height), but its"
            f" picture {image} has {size[1]}x{size[0]}. Draw the labels on this picture, or correct"
            " the size."
        )
    return size


def _code(entry: Mapping[str, object], found: Annotated, classes: Classes, number: int) -> int:
    """Index of the class of an annotation or a segment; 255 if it is a crowd."""
    name = _name(entry, found, number)
    if name not in classes.names:
        raise DataError(
            f"{number}: {name!r} is no class; the classes are {', '.join(classes.names)}. Add it to"
            " classes.txt."
        )
    crowd = entry.get("iscrowd") or 0
    if crowd not in (0, 1):  # it may be a list
        raise DataError(f"{number}: iscrowd must be 0 or 1, but is {shown(crowd)}. Correct it.")
    return IGNORE_INDEX if crowd and found.crowds else classes.names.index(name)


def _name(entry: Mapping[str, object], found: Annotated, number: int) -> str:
    category = integer(entry, "category_id", number)
    if category not in found.names:
        raise DataError(f"{number}: the category {category} is not in 'categories'. Correct it.")
    return found.names[category]


def _box_patch(entry: Mapping[str, object], size: tuple[int, int], number: int) -> Patch:
    """All the pixels that the box touches."""
    x, y, width, height = bbox(entry, number)
    (left, right), (top, bottom) = (
        np.clip([np.floor(min(a, a + b)), np.ceil(max(a, a + b))], 0, side).astype(int).tolist()
        for a, b, side in ((x, width, size[1]), (y, height, size[0]))
    )
    inside = np.ones((bottom - top, right - left), dtype=np.bool_)
    return (slice(top, bottom), slice(left, right)), inside


def _patch(segmentation: object, size: tuple[int, int], number: int) -> Patch:
    """Give the pixels of a segmentation: all those of its polygons, or its runs."""
    whole = (slice(0, size[0]), slice(0, size[1]))
    try:
        if not isinstance(segmentation, list):
            return whole, _runs(segmentation, size)
        patches = [polygon_patch(corners(polygon), size) for polygon in segmentation]
    except DataError as error:
        raise DataError(f"{number}: {error}") from error
    if len(patches) == 1:
        return patches[0]
    inside = np.zeros(size, dtype=np.bool_)
    for window, part in patches:
        inside[window] |= part
    return whole, inside


def _runs(segmentation: object, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    if not isinstance(segmentation, dict) or segmentation.get("size") != [*size]:
        raise DataError(
            f"a segmentation must be polygons, or runs of the size {[*size]} (height, width) of the"
            f" picture, but is {shown(segmentation)}. Export it again."
        )
    return decode_runs(segmentation.get("counts"), size)


def _segments(found: Annotated, classes: Classes) -> tuple[str, dict[int, int]]:
    """Give the name of a panoptic PNG, and the class of each of its segments; 0 is none."""
    if len(found.texts) != 1:
        raise DataError(f"1: the picture has {len(found.texts)} annotations. Keep one of them.")
    name = json.loads(found.texts[0]).get("file_name")
    if not isinstance(name, str):
        raise DataError(f"1: file_name must be that of a PNG, but is {shown(name)}. Correct it.")
    codes = {0: IGNORE_INDEX}
    for number, segment in _entries(found):
        own = integer(segment, "id", number)
        if own in codes or not 0 < own < 2**24:
            raise DataError(
                f"{number}: the id of a segment must be in 1..{2**24 - 1} and there once, but is"
                f" {own}. Export it again."
            )
        codes[own] = _code(segment, found, classes, number)
    return name, codes


def _read_ids(path: Path) -> Int64[np.ndarray, "H W"]:
    with opened_image(path) as image:
        if image.format != "PNG" or image.mode not in {"RGB", "RGBA"}:
            raise DataError(
                f"{path}: a panoptic mask must be a PNG of colours, but this is {image.format} of"
                f" the mode {image.mode}. Export it again."
            )
        values = np.asarray(image)[..., :3].astype(np.int64)
    ids: np.ndarray = values @ np.array([1, 256, 65536])
    return ids
