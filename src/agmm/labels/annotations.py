"""What an annotator gave for one picture: plain, validated data without a word on its use."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Integer, UInt8

from agmm.errors import InputError
from agmm.labels.forms import Form
from agmm.shapes import IGNORE_INDEX, MaskArray


@dataclass(frozen=True, eq=False)
class Points:
    """Clicks: one pixel each, with the class that the annotator named.

    Args:
        xy: (n, 2), finite, in pixels of the picture, x to the right and y down. The clicked pixel
            is (floor x, floor y), so whole numbers are columns and rows.
        classes: (n,), uint8, 0..254.

    Raises:
        InputError: A wrong shape or type, a coordinate that is not finite, or class 255.

    Example:
        >>> clicks = Points(np.array([[3, 1]]), np.array([7], dtype=np.uint8))
        >>> clicks.form, len(clicks.classes)
        ('points', 1)
    """

    xy: Float[np.ndarray, "n 2"] | Integer[np.ndarray, "n 2"]
    classes: UInt8[np.ndarray, " n"]

    form: ClassVar[Form] = "points"

    def __post_init__(self) -> None:
        _validate_rows("Points.xy", self.xy, 2, "(x, y) per click")
        _validate_classes("Points", self.classes, len(self.xy))

    @classmethod
    def from_mask(cls, mask: MaskArray) -> "Points":
        """Take every labelled pixel of an index map for a click.

        Args:
            mask: (H, W), uint8, class index or 255 = unlabelled.

        Returns:
            The clicks, row by row.

        Example:
            >>> Points.from_mask(np.array([[255, 7]], dtype=np.uint8)).xy.tolist()
            [[1, 0]]
        """
        rows, columns = np.nonzero(mask != IGNORE_INDEX)
        return cls(np.stack([columns, rows], axis=1), mask[rows, columns])


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes, each round one object or a group of objects of one class.

    Args:
        xyxy: (n, 4), finite, xmin, ymin, xmax, ymax in pixels of the picture, x to the right and y
            down; the maxima are exclusive, so a box of one pixel is (3, 1, 4, 2). Whether they are
            in order and inside of the picture is judged with its size, in `agmm.labels.boxes`.
        classes: (n,), uint8, 0..254.

    Raises:
        InputError: A wrong shape or type, a coordinate that is not finite, or class 255.

    Example:
        >>> boxes = Boxes(np.array([[3, 1, 4, 2]]), np.array([7], dtype=np.uint8))
        >>> boxes.form, len(boxes.classes)
        ('boxes', 1)
    """

    xyxy: Float[np.ndarray, "n 4"] | Integer[np.ndarray, "n 4"]
    classes: UInt8[np.ndarray, " n"]

    form: ClassVar[Form] = "boxes"

    def __post_init__(self) -> None:
        _validate_rows("Boxes.xyxy", self.xyxy, 4, "(xmin, ymin, xmax, ymax) per box")
        _validate_classes("Boxes", self.classes, len(self.xyxy))


@dataclass(frozen=True, eq=False)
class Tags:
    """Image-level tags: the classes that the picture shows, without their place.

    Args:
        classes: (n,), uint8, 0..254, the tagged classes; a class may come twice. The background
            need not be among them: it may occur in any picture.

    Raises:
        InputError: A wrong shape or type, or class 255.

    Example:
        >>> Tags(np.array([7, 3], dtype=np.uint8)).form
        'tags'
    """

    classes: UInt8[np.ndarray, " n"]

    form: ClassVar[Form] = "tags"

    def __post_init__(self) -> None:
        _validate_classes("Tags", self.classes, len(self.classes))


def _validate_rows(name: str, values: np.ndarray, columns: int, row: str) -> None:
    if values.ndim != 2 or values.shape[1] != columns or values.dtype.kind not in "fiu":
        raise InputError(
            f"{name} must be numbers of shape (n, {columns}), but is {values.dtype} of shape"
            f" {values.shape}. Give one row {row}."
        )
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if bad.size:
        raise InputError(
            f"{name} must be finite, but row {bad[0]} is {tuple(values[bad[0]].tolist())}."
            " Drop it or give its place."
        )


def _validate_classes(name: str, classes: np.ndarray, expected: int) -> None:
    if classes.shape != (expected,) or classes.dtype != np.uint8:
        raise InputError(
            f"{name}.classes must be uint8 of shape ({expected},), but is {classes.dtype} of shape"
            f" {classes.shape}."
        )
    unlabelled = np.flatnonzero(classes == IGNORE_INDEX)
    if unlabelled.size:
        raise InputError(
            f"{name}.classes: number {unlabelled[0]} is class {IGNORE_INDEX}, which means"
            " unlabelled. Drop such entries."
        )


@dataclass(frozen=True, eq=False)
class _IndexMap:
    """An index map over the picture: class of each pixel, 255 = unlabelled.

    Args:
        mask: (H, W), uint8, class index or 255 = unlabelled.

    Raises:
        InputError: ``mask`` is no uint8 array of two axes, or has no pixel.
    """

    mask: MaskArray

    def __post_init__(self) -> None:
        mask = self.mask
        if mask.ndim != 2 or mask.dtype != np.uint8 or mask.size == 0:
            raise InputError(
                f"{type(self).__name__}.mask must be uint8 of shape (H, W) with at least one"
                f" pixel, but is {mask.dtype} of shape {mask.shape}."
            )


class Scribbles(_IndexMap):
    """Strokes: the pixels under each have its class, all others are 255 = unlabelled.

    Args:
        mask: (H, W), uint8, class index or 255 = unlabelled.

    Raises:
        InputError: ``mask`` is no uint8 array of two axes, or has no pixel.

    Example:
        >>> Scribbles(np.full((2, 3), 255, dtype=np.uint8)).form
        'scribbles'
    """

    form: ClassVar[Form] = "scribbles"


class Blocks(_IndexMap):
    """Small regions labelled pixel by pixel; everything outside of them is 255 = unlabelled.

    Args:
        mask: (H, W), uint8, class index or 255 = unlabelled.

    Raises:
        InputError: ``mask`` is no uint8 array of two axes, or has no pixel.

    Example:
        >>> Blocks(np.full((2, 3), 255, dtype=np.uint8)).form
        'blocks'
    """

    form: ClassVar[Form] = "blocks"


class DenseMask(_IndexMap):
    """The class of every pixel; 255 = a border or something that is not to be counted.

    Args:
        mask: (H, W), uint8, class index or 255 = unlabelled.

    Raises:
        InputError: ``mask`` is no uint8 array of two axes, or has no pixel.

    Example:
        >>> DenseMask(np.zeros((2, 3), dtype=np.uint8)).form
        'dense'
    """

    form: ClassVar[Form] = "dense"


Annotation = Points | Scribbles | Blocks | Boxes | Tags | DenseMask
