"""Resizing a picture that is not there as a whole: bilinear, with antialiasing, by windows."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image
from torch import Tensor

from agmm.datasets.windows import PictureRows
from agmm.shapes import ImageArray

ROWS_AT_ONCE = 256
"""Rows of the picture that are resized together."""


def needed(first: int, stop: int, source: int, target: int) -> tuple[int, int]:
    """Tell which pixels of a side the pixels ``first`` to ``stop`` of the resized side depend on.

    Args:
        first: First pixel of the resized side.
        stop: The one behind its last.
        source: Length of the side.
        target: Its length after resizing.

    Returns:
        The first, and the one behind the last; one pixel to spare where the length changes.

    Example:
        >>> needed(10, 20, 100, 100)
        (10, 20)
        >>> needed(10, 20, 100, 50)
        (18, 42)
    """
    if source == target:
        return first, stop
    ratio = source / target
    reach = max(ratio, 1) + 1
    low = math.floor((first + 0.5) * ratio - reach)
    high = math.ceil((stop - 0.5) * ratio + reach)
    return max(0, low), min(source, high)


class RowBuffer:
    """The rows of a picture that are still needed; each is taken from the picture once.

    Args:
        chunks: Rows from top to bottom, "h W 3" each.

    Example:
        >>> picture = np.arange(12, dtype=np.uint8).reshape(4, 1, 3)
        >>> buffer = RowBuffer(iter([picture[:3], picture[3:]]))
        >>> buffer.rows(0, 2)[:, 0, 0].tolist(), buffer.rows(1, 4)[:, 0, 0].tolist()
        ([0, 3], [3, 6, 9])
    """

    def __init__(self, chunks: Iterator[ImageArray]) -> None:
        self._chunks = chunks
        self._held: ImageArray | None = None
        self._first = 0

    def rows(self, first: int, stop: int) -> ImageArray:
        """Rows ``first`` to ``stop``, neither of which may be less than in the call before."""
        held = [] if self._held is None else [self._held[first - self._first :]]
        have = first + sum(map(len, held))
        assert self._held is not None or first == 0
        while have < stop:
            held.append(next(self._chunks))
            have += len(held[-1])
        rows = held[0] if len(held) == 1 else np.concatenate(held)
        self._held, self._first = rows, first
        return rows[: stop - first]


def resized_rows(picture: PictureRows, height: int, width: int) -> PictureRows:
    """Resize a picture while it is read.

    Args:
        picture: The picture; its rows are used up.
        height: Height of the result, in pixels.
        width: Width of the result, in pixels.

    Returns:
        The resized picture, as Pillow's bilinear filter makes it.
    """
    if (height, width) == (picture.height, picture.width):
        return picture
    return PictureRows(height, width, _resized_chunks(picture, height, width))


def _resized_chunks(picture: PictureRows, height: int, width: int) -> Iterator[ImageArray]:
    buffer, ratio = RowBuffer(picture.chunks), picture.height / height
    step = max(1, int(ROWS_AT_ONCE / ratio))
    for first in range(0, height, step):
        stop = min(first + step, height)
        low, high = needed(first, stop, picture.height, height)
        rows = buffer.rows(low, high)
        box = (0, first * ratio - low, picture.width, min(stop * ratio - low, len(rows)))
        shrunk = Image.fromarray(rows).resize((width, stop - first), Image.Resampling.BILINEAR, box)
        yield np.asarray(shrunk)


def resized_window(
    maps: Float32[Tensor, "k h w"],
    box: tuple[float, float, float, float],
    size: tuple[int, int],
) -> Float32[Tensor, "k H W"]:
    """Resize a window of maps, with what lies round it as its neighbourhood.

    Args:
        maps: One map per class, in main memory.
        box: Top, left, bottom and right of the window in ``maps``, fractions of pixels allowed.
        size: Height and width of the result.

    Returns:
        The window at that size, as Pillow's bilinear filter makes it.

    Example:
        >>> resized_window(torch.tensor([[[0.0, 1.0]]]), (0.0, 0.0, 1.0, 2.0), (1, 4)).tolist()
        [[[0.0, 0.25, 0.75, 1.0]]]
    """
    height, width = maps.shape[1:]
    top, left, bottom, right = box
    edges = (left, top, min(right, width), min(bottom, height))  # may be a rounding beyond
    resized = torch.empty(len(maps), *size)
    for values, target in zip(maps.numpy(), resized.numpy(), strict=True):
        plane = Image.fromarray(values)
        target[:] = plane.resize(size[::-1], Image.Resampling.BILINEAR, edges)
    return resized
