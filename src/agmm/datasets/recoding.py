"""Masks whose values are ids of a data set, to classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agmm.datasets.beside import require_size
from agmm.datasets.classes import Classes
from agmm.datasets.masks import read_index_mask, read_pixels
from agmm.errors import DataError
from agmm.labels.annotations import Blocks, DenseMask
from agmm.labels.forms import Form
from agmm.shapes import IGNORE_INDEX

_LARGEST = 65535
"""The largest value of a grey PNG."""


@dataclass(frozen=True)
class Coding:
    """What the values of a mask mean.

    Args:
        classes: Value 0..65535 to class 0..K-1, or to 255 = unlabelled; other values are refused.
        meaning: What they are, for the message, as in "ids of Cityscapes, 0..33".
        per_instance: Whether a value of 1000 and more is 1000 times the id and the number of an
            object.
    """

    classes: Mapping[int, int]
    meaning: str
    per_instance: bool = False


def read_coded(path: Path, coding: Coding, form: Form, image: Path) -> DenseMask | Blocks:
    """Read a mask of ids; what is fully transparent is unlabelled.

    Args:
        path: A PNG with grey values or a palette.
        coding: What its values mean.
        form: "dense" or "blocks".
        image: The picture.

    Returns:
        The annotation, in classes.

    Raises:
        DataError: The mask cannot be read, has colours, an unknown id, or not its picture's size.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = Path(tempfile.mkdtemp()) / "mask.png"
        >>> Image.fromarray(np.array([[7, 0]], np.uint8)).save(path)
        >>> read_coded(path, Coding({0: 255, 7: 0}, "ids"), "dense", path).mask.tolist()
        [[0, 255]]
    """
    values, drawn = read_pixels(path)
    if values.ndim != 2:
        raise DataError(
            f"{path}: has colours, but must have grey values or a palette, whose values are"
            f" {coding.meaning}. Take the file with the ids, not the one to look at."
        )
    require_size(path, values, image)
    table = np.full(_LARGEST + 1, -1, dtype=np.int16)
    table[list(coding.classes)] = list(coding.classes.values())
    # 32 bits for the rare PNG that Pillow gives as such; none is negative or above 16 bits.
    ids = values.astype(np.int32)
    if coding.per_instance:
        ids = np.where(ids >= 1000, ids // 1000, ids)
    mask = np.where(drawn, table[ids], IGNORE_INDEX)
    if (mask < 0).any():
        y, x = np.argwhere(mask < 0)[0].tolist()
        count = (values == values[y, x]).sum()
        raise DataError(
            f"{path}: the value {values[y, x]} on {count} pixels, first at x={x}, y={y}; the"
            f" values are {coding.meaning}. Correct the mask, or name another format."
        )
    return _annotation(mask.astype(np.uint8), form)


def read_merged(
    path: Path, raw: Classes, table: tuple[int, ...], form: Form, image: Path
) -> DenseMask | Blocks:
    """Read a mask of colours or values, some of whose classes are none of the data set.

    Args:
        path: A PNG as `agmm.datasets.masks.read_index_mask` takes it.
        raw: The classes of the file.
        table: For each of them the class of the data set, or 255 = unlabelled.
        form: "dense" or "blocks".
        image: The picture.

    Returns:
        The annotation, in classes of the data set.

    Raises:
        DataError: The mask cannot be read, has a value or colour of no class, or not its picture's
            size.
    """
    mask = read_index_mask(path, raw)
    require_size(path, mask, image)
    full = np.full(256, 255, dtype=np.uint8)
    full[: len(table)] = table
    return _annotation(full[mask], form)


def _annotation(mask: np.ndarray, form: Form) -> DenseMask | Blocks:
    return Blocks(mask) if form == "blocks" else DenseMask(mask)
