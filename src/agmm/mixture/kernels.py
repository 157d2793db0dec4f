"""The two passes over large tensors, with backward passes of their own: logits and features.

Each reads its tensor once per product and writes the gradient once. On a CPU most of the time of a
plain formulation goes into fresh memory for intermediate results of the size of the input; here
these have the size of a band of rows.
"""

from collections.abc import Iterator
from functools import reduce
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from agmm.mixture import inputs
from agmm.mixture.gaussian import squared_norms
from agmm.shapes import IGNORE_INDEX

BAND = 2**20
"""Logits of a band on a CPU: 4 MiB in float32."""

Pixels = tuple[Int64[Tensor, " m"], Int64[Tensor, " m"], Int64[Tensor, " m"]]
"""Image, row and column of some pixels, each named once, in the order of `nonzero`."""


def area_average(maps: Float[Tensor, "b c H W"], size: tuple[int, int]) -> Tensor:
    """Mean over the pixels that each cell of a `size` grid touches.

    Like `torch.nn.functional.adaptive_avg_pool2d`, with a backward pass that is deterministic on
    CUDA.

    Args:
        maps: maps of any size.
        size: rows and columns of the grid.

    Returns:
        Averages, shape `b c h w`.

    Example:
        >>> area_average(torch.tensor([[[[1.0, 2.0, 3.0]]]]), (1, 2)).flatten().tolist()
        [1.5, 2.5]
    """
    (height, width), (rows, columns) = maps.shape[-2:], size
    if (height, width) == (rows, columns):
        return maps
    if height % rows == 0 and width % columns == 0:
        cell = (height // rows, width // columns)
        if maps.stride(1) == 1:
            return functional.avg_pool2d(maps, cell)
        # Rows first: whole rows are added at once, and a quarter is left for the slow direction.
        sums = torch.unflatten(maps, 2, (rows, cell[0])).sum(3)
        return torch.unflatten(sums, 3, (columns, cell[1])).sum(4) / (cell[0] * cell[1])
    vertical = _averaging_matrix(height, rows, maps)
    horizontal = _averaging_matrix(width, columns, maps)
    return vertical @ (maps @ horizontal.mT)


def any_pixel(maps: Bool[Tensor, "b c H W"], size: tuple[int, int]) -> Bool[Tensor, "b c h w"]:
    """Whether any of the pixels is set that each cell of a `size` grid touches.

    Args:
        maps: maps of any size.
        size: rows and columns of the grid.

    Returns:
        One value per cell.

    Example:
        >>> any_pixel(torch.tensor([[[[True, False, False]]]]), (1, 2)).flatten().tolist()
        [True, False]
    """
    for axis, cells in ((2, size[0]), (3, size[1])):
        if maps.shape[axis] % cells:
            return area_average(maps.float(), size) > 0
        pixels = torch.unflatten(maps, axis, (cells, maps.shape[axis] // cells))
        maps = reduce(torch.logical_or, pixels.unbind(axis + 1))
    return maps


def _averaging_matrix(pixels: int, cells: int, like: Tensor) -> Tensor:
    """Matrix `cells pixels` of the mean over the pixels that a cell touches, along one axis."""
    cell = torch.arange(cells, device=like.device).unsqueeze(1)
    pixel = torch.arange(pixels, device=like.device)
    # Cell c covers [c·pixels/cells, (c+1)·pixels/cells), pixel j covers [j, j+1).
    touched = ((pixel + 1) * cells > cell * pixels) & (pixel * cells < (cell + 1) * pixels)
    touched = touched.to(like.dtype)
    return touched / touched.sum(1, keepdim=True)


def _spread(gradient: Tensor, out: Tensor) -> None:
    """Backward pass of `area_average`, into `out`."""
    (height, width), (rows, columns) = out.shape[-2:], gradient.shape[-2:]
    if height % rows == 0 and width % columns == 0:
        cell = (height // rows, width // columns)
        gradient = (gradient / (cell[0] * cell[1])).unsqueeze(4)
        wide = gradient.expand(-1, -1, -1, -1, cell[1])  # b c h w times a cell's columns
        if out.stride(1) == 1:
            target = torch.unflatten(out, 3, (columns, cell[1]))
            torch.unflatten(target, 2, (rows, cell[0])).copy_(wide.unsqueeze(3))
        else:  # whole rows at once
            torch.unflatten(out, 2, (rows, cell[0])).copy_(wide.flatten(3).unsqueeze(3))
        return
    vertical = _averaging_matrix(height, rows, gradient)
    horizontal = _averaging_matrix(width, columns, gradient)
    out.copy_(vertical.mT @ (gradient @ horizontal))


class _Band(NamedTuple):
    """A part of the batch: images, rows of cells, and the rows of their pixels."""

    images: slice
    cells: slice
    rows: slice


def _bands(logits: Tensor, size: tuple[int, int]) -> Iterator[_Band]:
    """Bands that stay in the cache of a CPU, or images where cells share pixels; elsewhere one."""
    (batch, classes, height, width), (rows, columns) = logits.shape, size
    if not inputs.readable(logits):
        yield _Band(slice(0, batch), slice(0, rows), slice(0, height))
        return
    separate = height % rows == 0 and width % columns == 0
    step = max(1, BAND * rows // (classes * height * width)) if separate else rows
    for image in range(batch):
        for first in range(0, rows, step):
            last = min(first + step, rows)
            pixels = slice(first * height // rows, last * height // rows)
            yield _Band(slice(image, image + 1), slice(first, last), pixels)


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
    place.copy_(area_average(part, (place.shape[2], place.shape[3])))


def _spread_band(cells: Tensor, band: _Band, valid: Tensor | None, part: Tensor) -> None:
    """Write the gradient of the cells of a band into that of its logits."""
    _spread(cells[band.images, :, band.cells], part)
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
        ctx: Any, logits: Tensor, seeds: Tensor, valid: Tensor | None, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(logits, seeds, valid)
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
                _in_rows(part, like=part), labels, ignore_index=IGNORE_INDEX, reduction="sum"
            )
            _average_band(part, band, valid, cells)
        return cells, total

    @staticmethod
    def backward(ctx: Any, cells: Tensor, total: Tensor) -> tuple[Tensor | None, ...]:
        logits, seeds, valid = ctx.saved_tensors
        cells = cells.contiguous(memory_format=ctx.layout)
        gradient = torch.empty_like(logits, memory_format=ctx.layout)
        for band in _bands(logits, ctx.size):
            part = gradient[band.images, :, band.rows]
            _spread_band(cells, band, valid, part)
            # By a logit, cross-entropy is p − 1 for the class of the label and p elsewhere.
            values = logits[band.images, :, band.rows].to(total.dtype)
            slope = _in_rows(values, like=values).softmax(1)
            labels = _in_rows(seeds[band.images, None, band.rows], like=values)
            labelled = labels != IGNORE_INDEX
            labels = labels.masked_fill(~labelled, 0)
            slope.scatter_add_(1, labels, slope.new_full((), -1).expand_as(labels))
            _in_rows(part, like=values).add_(slope.mul_(total * labelled))
        return gradient, None, None, None


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
) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, ""]]:
    """Logits of the cells, as `pixel_logits` gives them, and cross-entropy of labelled pixels.

    One pass over the logits forward and one backward, in bands that stay in the cache of a CPU, and
    one gradient.

    Args:
        logits: logits, any float type.
        seeds: class of each pixel, 255 = unlabelled; unlabelled where pixels do not count.
        valid: pixels that count, None = all.
        size: rows and columns of the grid.

    Returns:
        Logits of the cells, and the sum over the labelled pixels in nats, in float32 or wider.

    Example:
        >>> seeds = torch.tensor([[[1, 255], [255, 255]]])
        >>> cells, total = labelled_logits(torch.zeros(1, 2, 2, 2), seeds, None, (1, 1))
        >>> cells.shape, round(total.item(), 4)
        (torch.Size([1, 2, 1, 1]), 0.6931)
    """
    cells, total = _LabelledLogits.apply(logits, seeds, valid, size)
    return cells, total


class _ImageMixture(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, shares: Tensor, running: Tensor
    ) -> tuple[Tensor, Tensor]:
        mass = shares.sum(2, keepdim=True)
        present = mass > 0
        rates = shares / torch.where(present, mass, 1)
        image_means = _products(rates, features)
        means = torch.where(present, image_means, running)
        distances = means @ features  # b k n
        distances.mul_(-2).add_(squared_norms(features).unsqueeze(1))
        distances.add_(means.square().sum(2, keepdim=True)).clamp_(min=0)
        distances.div_(features.shape[1])
        ctx.save_for_backward(features, rates, means, present, distances)
        return image_means, distances

    @staticmethod
    def backward(ctx: Any, by_means: Tensor, by_distances: Tensor) -> tuple[Tensor | None, ...]:
        features, rates, means, present, distances = ctx.saved_tensors
        # d² = ‖f − μ‖²/d: by f it is 2(f − μ)/d, by μ it is −2(f − μ)/d; 0 where it was clamped.
        slope = torch.where(distances > 0, by_distances, 0) * (2 / features.shape[1])
        centres = means * slope.sum(2, keepdim=True) - _products(slope, features)
        centres = torch.where(present, centres, 0) + by_means
        gradient = features * slope.sum(1, keepdim=True)
        factors, cells = torch.cat([-means, centres], 1), torch.cat([slope, rates], 1)
        return gradient.baddbmm_(factors.mT, cells), None, None


def _products(weights: Tensor, features: Tensor) -> Tensor:
    """`Σ_n w_bkn f_bn`, `b k d`."""
    return weights @ features.mT


def image_mixture(
    features: Float[Tensor, "b d n"],
    shares: Float[Tensor, "b k n"],
    running: Float[Tensor, "b k d"],
) -> tuple[Float[Tensor, "b k d"], Float[Tensor, "b k n"]]:
    """Centres of each image, and mean squared distances to them or to the running centres.

    `weighted_means`, and `squared_distances` to these means where a class has mass in the image
    and to `running` elsewhere; here with one gradient for the features.

    Args:
        features: features of the cells.
        shares: weight of each cell for each class, without gradient.
        running: centres of the classes without mass in the image, without gradient.

    Returns:
        Centres of the image's own cells (0 without mass), and the distances.

    Example:
        >>> features, shares = torch.tensor([[[2.0, 4.0]]]), torch.tensor([[[1.0, 0.0]]])
        >>> means, distances = image_mixture(features, shares, torch.zeros(1, 1, 1))
        >>> means.item(), distances.flatten().tolist()
        (2.0, [0.0, 4.0])
    """
    means, distances = _ImageMixture.apply(features, shares, running)
    return means, distances
