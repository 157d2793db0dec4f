"""Connected pieces of the classes of a mask: what an annotator sees as one object."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from agmm.errors import ConfigError
from agmm.shapes import IGNORE_INDEX, MaskArray


class Piece(NamedTuple):
    """One connected piece of one class; diagonal neighbours belong together.

    Attributes:
        label: Its class.
        window: Rows and columns of the smallest box round it.
        pixels: Which pixels of the window belong to it, bool.
    """

    label: int
    window: tuple[slice, slice]
    pixels: Bool[np.ndarray, "h w"]


def pieces(mask: MaskArray) -> Iterator[Piece]:
    """Find the connected pieces of every class.

    Args:
        mask: Dense index mask (H, W); 255 belongs to no class and to no piece.

    Yields:
        The pieces in the order of their classes, those of one class from the top down.

    Example:
        >>> [(p.label, int(p.pixels.sum())) for p in pieces(np.array([[1, 0, 1]], np.uint8))]
        [(0, 1), (1, 1), (1, 1)]
    """
    from scipy.ndimage import find_objects, label

    touching = np.ones((3, 3), dtype=int)
    for value in np.unique(mask[mask != IGNORE_INDEX]).tolist():
        numbered, _ = label(mask == value, structure=touching)
        for number, window in enumerate(find_objects(numbered), start=1):
            yield Piece(value, window, numbered[window] == number)


def without_crumbs(mask: MaskArray, min_pixels: int) -> MaskArray:
    """Leave out the pieces that an annotator would overlook.

    Args:
        mask: Dense index mask (H, W), 255 = unlabelled.
        min_pixels: Pieces with fewer pixels are left out, but never all of one class: its largest
            ones stay, so that every class of the picture gets its label. At least 1.

    Returns:
        The mask with 255 in place of these pieces.

    Raises:
        ConfigError: ``min_pixels`` is below 1.

    Example:
        >>> without_crumbs(np.array([[1, 0, 1, 1]], np.uint8), min_pixels=2).tolist()
        [[255, 0, 1, 1]]
    """
    if min_pixels < 1:
        raise ConfigError(f"min_pixels must be at least 1 pixel, but is {min_pixels}.")
    found = [(piece, int(piece.pixels.sum())) for piece in pieces(mask)]
    largest = {piece.label: size for piece, size in sorted(found, key=lambda item: item[1])}
    cleaned = mask.copy()
    for piece, size in found:
        if size < min(min_pixels, largest[piece.label]):
            cleaned[piece.window][piece.pixels] = IGNORE_INDEX
    return cleaned


def depth_of(pixels: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Distance of each pixel of a piece to the border of the piece.

    Args:
        pixels: Which pixels belong to the piece; what is outside of the array is border too.

    Returns:
        Distances in pixels, at least 1 inside of the piece and 0 outside.

    Example:
        >>> depth_of(np.ones((3, 3), dtype=bool)).tolist()
        [[1.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 1.0]]
    """
    from scipy.ndimage import distance_transform_edt

    # The margin makes the picture's edge a border, too: nobody draws along it.
    distances: np.ndarray = distance_transform_edt(np.pad(pixels, 1))[1:-1, 1:-1]
    return distances
