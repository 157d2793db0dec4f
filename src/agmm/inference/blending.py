"""Overlapping tiles to one map, block by block: what is finished leaves, what is not is kept.

Tiles lie on a grid, so a pixel's weight is the product of one of its row and one of its column,
and these sum to 1 over the tiles of either axis. Tiles come row by row. Behind each, the pixels
that no later tile reaches leave; of the others the sums are handed on, to the right and downwards.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from agmm.inference.resizing import needed, resized_window

PIXELS_AT_ONCE = 2**20
"""Pixels that leave together where they are resized."""


class Step(NamedTuple):
    """A tile along one side.

    Pixels are those of the resized side, on which the tiles lie, except ``out_first`` and
    ``out_stop``, which are those of the picture's own.

    Attributes:
        first: First pixel of the tile.
        stop: The one behind its last.
        keep: First pixel of which the sum is still needed when the tile comes.
        drop: The same when it has been added.
        out_first: First pixel of the picture that leaves behind this tile.
        out_stop: The one behind the last.
        share: Weight of the tile in the sum, for each of its pixels, 0 to 1.
    """

    first: int
    stop: int
    keep: int
    drop: int
    out_first: int
    out_stop: int
    share: Tensor


class Block(NamedTuple):
    """Finished probabilities of a part of the picture.

    Attributes:
        band: Number of the row of tiles behind which it left.
        top: First row, in pixels of the picture.
        left: First column, in pixels of the picture.
        probs: ``k h w``, to be used before the next block is asked for.
    """

    band: int
    top: int
    left: int
    probs: Tensor


class Side(NamedTuple):
    """One side of a picture with the tiles along it.

    Attributes:
        length: In pixels of the picture.
        resized: In pixels of the resized picture, on which the tiles lie.
        steps: The tiles, from the first to the last.
    """

    length: int
    resized: int
    steps: list[Step]


def tiled_side(length: int, resized: int, tile: int | None, overlap: float) -> Side:
    """Lay as few tiles along one side as the overlap allows, evenly.

    Were the last one only moved up, it could share nearly everything with the one before, and so
    many sums would have to wait for it.

    Args:
        length: Length of the side in the picture, at least 1.
        resized: Its length in the resized picture, at least 1.
        tile: Length of a tile, at least 1; None or more than ``resized`` is one tile.
        overlap: Least share of it that it has in common with the next, in [0, 1).

    Returns:
        The side with its tiles.

    Example:
        >>> [(step.first, step.stop) for step in tiled_side(10, 10, 4, 0.25).steps]
        [(0, 4), (3, 7), (6, 10)]
    """
    tile = min(resized, tile or resized)
    stride = max(1, int(tile * (1 - overlap)))
    gaps = -(-(resized - tile) // stride)
    starts = [place * (resized - tile) // max(1, gaps) for place in range(gaps + 1)]
    window = _hann_window(tile).double()
    weight = torch.zeros(resized, dtype=torch.float64)
    for first in starts:
        weight[first : first + tile] += window
    steps: list[Step] = []
    keep = left = 0
    for first, finished in zip(starts, [*starts[1:], resized], strict=True):
        out_first = left
        while left < length and needed(left, left + 1, resized, length)[1] <= finished:
            left += 1
        drop = needed(left, left + 1, resized, length)[0] if left < length else resized
        share = (window / weight[first : first + tile]).float()
        steps.append(Step(first, first + tile, keep, drop, out_first, left, share))
        keep = drop
    return Side(length, resized, steps)


def blended(
    tiles: Iterator[Float32[Tensor, "k h w"]], rows: Side, columns: Side, num_classes: int
) -> Iterator[Block]:
    """Blend the probabilities of tiles under a Hann window, at the size of the picture.

    Args:
        tiles: Probabilities of the tiles, row by row, in main memory; they are overwritten.
        rows: The tiles along the picture's height.
        columns: The tiles along its width.
        num_classes: k.

    Yields:
        Blocks that cover the picture without overlap; those of a row of tiles follow one another
        from left to right. Held are the sums that wait for the next row of tiles, of
        k x (overlap of two tiles) x width floats, and those of two tiles.
    """
    waiting = torch.zeros(
        num_classes, max(row.stop - row.drop for row in rows.steps), columns.resized
    )
    # One buffer for all, as fresh memory costs more time than the sums.
    buffer = torch.empty(
        num_classes,
        max(row.stop - row.keep for row in rows.steps),
        max(column.stop - column.keep for column in columns.steps),
    )
    known = 0  # rows of `waiting` that hold sums of the rows of tiles above
    for band, row in enumerate(rows.steps):
        right = torch.empty(num_classes, row.stop - row.keep, 0)
        for column in columns.steps:
            sums = buffer[:, : row.stop - row.keep, : column.stop - column.keep]
            done = right.shape[2]
            sums[:, :, :done] = right
            sums[:, :known, done:] = waiting[:, :known, column.keep + done : column.stop]
            sums[:, known:, done:] = 0
            sums[:, row.first - row.keep :, column.first - column.keep :] += (
                next(tiles).mul_(row.share[:, None]).mul_(column.share)
            )
            for top, left, probs in _finished(sums, row, column, rows, columns):
                yield Block(band, top, left, probs)
            gone = column.drop - column.keep
            handed = sums[:, row.drop - row.keep :, :gone]
            waiting[:, : row.stop - row.drop, column.keep : column.drop] = handed
            right = sums[:, :, gone:].clone()
        known = row.stop - row.drop


def _finished(
    sums: Float32[Tensor, "k h w"], row: Step, column: Step, rows: Side, columns: Side
) -> Iterator[tuple[int, int, Float32[Tensor, "k H W"]]]:
    """What leaves behind a tile: first row, first column and probabilities."""
    if (rows.length, columns.length) == (rows.resized, columns.resized):
        size = row.out_stop - row.out_first, column.out_stop - column.out_first
        yield row.out_first, column.out_first, sums[:, : size[0], : size[1]]
        return
    left, width = column.out_first, column.out_stop - column.out_first
    step = max(1, PIXELS_AT_ONCE // max(1, width))
    y_ratio, x_ratio = rows.resized / rows.length, columns.resized / columns.length
    for top in range(row.out_first, row.out_stop if width else row.out_first, step):
        stop = min(top + step, row.out_stop)
        low, high = needed(top, stop, rows.resized, rows.length)
        box = (
            top * y_ratio - low,
            left * x_ratio - column.keep,
            stop * y_ratio - low,
            column.out_stop * x_ratio - column.keep,
        )
        near = sums[:, low - row.keep : high - row.keep]
        yield top, left, resized_window(near, box, (stop - top, width))


def _hann_window(length: int) -> Float[Tensor, " n"]:
    """sin², sampled at the centres of the pixels: above zero also at the ends."""
    return torch.sin((torch.arange(length) + 0.5) * (math.pi / length)).square()
