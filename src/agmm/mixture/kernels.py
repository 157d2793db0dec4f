"""The pass over the logits, with a backward pass of its own.

It reads them once and writes the gradient once. On a CPU most of the time of a plain formulation
goes into fresh memory for intermediate results of the size of the input; here these have the size
of a band of rows.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from agmm.mixture import inputs
from agmm.mixture.pooling import Sides, area_average, cell_sides, spread_average
from agmm.shapes import IGNORE_INDEX

BAND = 2**20
"""Logits of a band on a CPU: 4 MiB in float32."""

Pixels = tuple[Int64[Tensor, " m"], Int64[Tensor, " m"], Int64[Tensor, " m"]]
"""Image, row and column of some pixels, each named once, in the order of `nonzero`."""


class _Band(NamedTuple):
    """A part of the batch: images, rows of cells, the rows of their pixels, sides of the cells."""

    images: slice
    cells: slice
    rows: slice
    sides: Sides | None


def _bands(logits: Tensor, size: tuple[int, int]) -> Iterator[_Band]:
    """Bands that stay in the cache of a CPU, or images where cells share pixels; elsewhere one."""
    (batch, classes, height, width), rows = logits.shape, size[0]
    sides = cell_sides((height, width), size)
    if sides is None:
        step, side = rows, height
    else:
        side = sides[0]
        step = max(1, BAND // (classes * side * width))
    if not inputs.readable(logits):
        yield _Band(slice(0, batch), slice(0, rows), slice(0, height), sides)
        return
    for image in range(batch):
        for first in range(0, rows, step):
            last = min(first + step, rows)
            pixels = slice(first * side, min(last * side, height))
            yield _Band(slice(image, image + 1), slice(first, last), pixels, sides)


def _places(
    bands: list[_Band], height: int, pixels: tuple[Tensor, Tensor, Tensor]
) -> list[tuple[slice, tuple[Tensor, Tensor, Tensor]]]:
    """Which of the pixels lie in each band, and where in it."""
    image, row, column = pixels
    if not len(image):
        return [(slice(0, 0), pixels)] * len(bands)
    first = torch.tensor([b.images.start * height + b.rows.start for b in bands])
    edges = [*torch.searchsorted(image * height + row, first).tolist(), len(image)]
    found = []
    for band, start, stop in zip(bands, edges[:-1], edges[1:], strict=True):
        some = slice(start, stop)
        inside = (image[some] - band.images.start, row[some] - band.rows.start, column[some])
        found.append((some, inside))
    return found


def _average_band(part: Tensor, band: _Band, valid: Tensor | None, cells: Tensor) -> None:
    """Write the sums of the valid logits of a band, divided by its pixels, into the cells."""
    outside = _outside(valid, band)
    if outside is not None:
        part = part.masked_fill(outside, 0)
    place = cells[band.images, :, band.cells]
    place.copy_(area_average(part, (place.shape[2], place.shape[3]), band.sides))


def _spread_band(cells: Tensor, band: _Band, valid: Tensor | None, part: Tensor) -> None:
    """Write the gradient of the cells of a band into that of its logits."""
    spread_average(cells[band.images, :, band.cells], part, band.sides)
    outside = _outside(valid, band)
    if outside is not None:
        part.masked_fill_(outside, 0)


def _outside(valid: Tensor | None, band: _Band) -> Tensor | None:
    """The pixels of a band that do not count, `b 1 H W`; None if all are known to count."""
    if valid is None:
        return None
    outside = ~valid[band.images, band.rows].unsqueeze(1)
    return outside if not inputs.readable(outside) or bool(outside.any()) else None


class _PixelLogits(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, valid: Tensor | None, size: tuple[int, int], *pixels: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(valid, *pixels)
        ctx.shape, ctx.size, ctx.dtype = logits.shape, size, logits.dtype
        ctx.layout = _layout(logits)
        dtype = torch.promote_types(logits.dtype, torch.float32)
        image, row, column = pixels
        if valid is None and dtype == logits.dtype and logits.shape[2:] == size:
            return logits.view_as(logits), logits[image, :, row, column]
        batch, classes, height, _ = logits.shape
        cells = torch.empty(
            batch, classes, *size, dtype=dtype, device=logits.device, memory_format=ctx.layout
        )
        chosen = logits.new_empty(len(image), classes, dtype=dtype)
        bands = list(_bands(logits, size))
        for band, (some, (i, r, c)) in zip(
            bands, _places(bands, height, (image, row, column)), strict=True
        ):
            part = logits[band.images, :, band.rows].to(dtype)
            chosen[some] = part[i, :, r, c]
            _average_band(part, band, valid, cells)
        return cells, chosen

    @staticmethod
    def backward(ctx: Any, cells: Tensor, chosen: Tensor) -> tuple[Tensor | None, ...]:
        valid, *pixels = ctx.saved_tensors
        # The layout of the logits, so that nothing is copied behind us.
        cells = cells.contiguous(memory_format=ctx.layout)
        gradient = torch.empty(
            ctx.shape, dtype=ctx.dtype, device=cells.device, memory_format=ctx.layout
        )
        bands = list(_bands(gradient, ctx.size))
        places = _places(bands, ctx.shape[2], (pixels[0], pixels[1], pixels[2]))
        for band, (some, inside) in zip(bands, places, strict=True):
            part = gradient[band.images, :, band.rows]
            _spread_band(cells, band, valid, part)
            if some.stop > some.start:
                given = chosen[some].to(ctx.dtype)
                part.movedim(1, -1).index_put_(inside, given, accumulate=True)
        return gradient, None, None, None, None, None


class _LabelledLogits(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        seeds: Tensor,
        valid: Tensor | None,
        size: tuple[int, int],
        adjustment: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(logits, seeds, valid, adjustment)
        ctx.size, ctx.layout = size, _layout(logits)
        dtype = torch.promote_types(logits.dtype, torch.float32)
        cells = torch.empty(
            *logits.shape[:2], *size, dtype=dtype, device=logits.device, memory_format=ctx.layout
        )
        total = cells.new_zeros(())
        for band in _bands(logits, size):
            part = logits[band.images, :, band.rows].to(dtype)
            labels = _in_rows(seeds[band.images, None, band.rows], like=part).squeeze(1)
            total += functional.cross_entropy(
                _adjusted(part, adjustment), labels, ignore_index=IGNORE_INDEX, reduction="sum"
            )
            _average_band(part, band, valid, cells)
        return cells, total

    @staticmethod
    def backward(ctx: Any, cells: Tensor, total: Tensor) -> tuple[Tensor | None, ...]:
        logits, seeds, valid, adjustment = ctx.saved_tensors
        cells = cells.contiguous(memory_format=ctx.layout)
        gradient = torch.empty_like(logits, memory_format=ctx.layout)
        for band in _bands(logits, ctx.size):
            part = gradient[band.images, :, band.rows]
            _spread_band(cells, band, valid, part)
            # By a logit, cross-entropy is p − 1 for the class of the label and p elsewhere.
            values = logits[band.images, :, band.rows].to(total.dtype)
            slope = _adjusted(values, adjustment).softmax(1)
            labels = _in_rows(seeds[band.images, None, band.rows], like=values)
            labelled = labels != IGNORE_INDEX
            labels = labels.masked_fill(~labelled, 0)
            slope.scatter_add_(1, labels, slope.new_full((), -1).expand_as(labels))
            _in_rows(part, like=values).add_(slope.mul_(total * labelled))
        return gradient, None, None, None, None


def _adjusted(logits: Tensor, adjustment: Tensor | None) -> Tensor:
    """Logits `b k H W` as `_in_rows` gives them, with what is added to each class."""
    rows = _in_rows(logits, like=logits)
    if adjustment is None:
        return rows
    return rows + adjustment.to(rows.dtype).view(-1, *(1 for _ in rows.shape[2:]))


def _in_rows(maps: Tensor, like: Tensor) -> Tensor:
    """Maps `b c H W` as they are, or as `n c` where the channels of a pixel of `like` adjoin."""
    return maps.movedim(1, -1).reshape(-1, maps.shape[1]) if like.stride(1) == 1 else maps


def _layout(maps: Tensor) -> torch.memory_format:
    return torch.channels_last if maps.stride(1) == 1 else torch.contiguous_format


def pixel_logits(
    logits: Float[Tensor, "b k H W"],
    valid: Bool[Tensor, "b H W"] | None,
    size: tuple[int, int],
    pixels: Pixels | None = None,
) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, "m k"]]:
    """Valid logits of each cell, summed and divided by its number of pixels; those of some pixels.

    One gradient for both: it is written once, and the few pixels are added in place.

    Args:
        logits: logits, any float type.
        valid: pixels that count, None = all.
        size: rows and columns of the grid.
        pixels: the pixels, None = none; all of them valid.

    Returns:
        Logits of the cells and of the pixels, in float32 or wider.

    Example:
        >>> one = torch.tensor([0])
        >>> cells, chosen = pixel_logits(torch.ones(1, 2, 4, 4), None, (2, 2), (one, one, one))
        >>> cells.shape, chosen.shape
        (torch.Size([1, 2, 2, 2]), torch.Size([1, 2]))
    """
    if pixels is None:  # three tensors, because the compiler takes no tensor twice
        image, row, column = (logits.new_empty(0, dtype=torch.int64) for _ in range(3))
        pixels = (image, row, column)
    cells, chosen = _PixelLogits.apply(logits, valid, size, *pixels)
    return cells, chosen


def labelled_logits(
    logits: Float[Tensor, "b k H W"],
    seeds: Int64[Tensor, "b H W"],
    valid: Bool[Tensor, "b H W"] | None,
    size: tuple[int, int],
    adjustment: Float[Tensor, " k"] | None = None,
) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, ""]]:
    """Logits of the cells, as `pixel_logits` gives them, and cross-entropy of labelled pixels.

    One pass over the logits forward and one backward, in bands that stay in the cache of a CPU, and
    one gradient.

    Args:
        logits: logits, any float type.
        seeds: class of each pixel, 255 = unlabelled; unlabelled where pixels do not count.
        valid: pixels that count, None = all.
        size: rows and columns of the grid.
        adjustment: what is added to the logits in the cross-entropy alone, None = nothing.

    Returns:
        Logits of the cells, and the sum over the labelled pixels in nats, in float32 or wider.

    Example:
        >>> seeds = torch.tensor([[[1, 255], [255, 255]]])
        >>> cells, total = labelled_logits(torch.zeros(1, 2, 2, 2), seeds, None, (1, 1))
        >>> cells.shape, round(total.item(), 4)
        (torch.Size([1, 2, 1, 1]), 0.6931)
    """
    cells, total = _LabelledLogits.apply(logits, seeds, valid, size, adjustment)
    return cells, total
