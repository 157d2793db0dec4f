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
        xy, classes = self.xy, self.classes
        if xy.ndim != 2 or xy.shape[1] != 2 or xy.dtype.kind not in "fiu":
            raise InputError(
                f"Points.xy must be numbers of shape (n, 2), but is {xy.dtype} of shape {xy.shape}."
                " Give one row (x, y) per click."
            )
        if classes.shape != xy.shape[:1] or classes.dtype != np.uint8:
            raise InputError(
                f"Points.classes must be uint8 of shape ({len(xy)},), one per click, but is"
                f" {classes.dtype} of shape {classes.shape}."
            )
        bad = np.flatnonzero(~np.isfinite(xy).all(axis=1))
        if bad.size:
            raise InputError(
                f"Points.xy must be finite, but click {bad[0]} is at {tuple(xy[bad[0]].tolist())}."
                " Drop it or give its place."
            )
        unlabelled = np.flatnonzero(classes == IGNORE_INDEX)
        if unlabelled.size:
            raise InputError(
                f"Points.classes: click {unlabelled[0]} has class {IGNORE_INDEX}, which means"
                " unlabelled. Drop such clicks."
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


Annotation = Points | Scribbles | Blocks | DenseMask
