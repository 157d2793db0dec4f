"""From pixels to the feature grid: class shares of the seeds, valid cells, candidates, logits.

Seeds are reduced by counting, so that a single click is never lost: each pixel belongs to one cell
(`pooling.cell_index`), and where the map is coarser than the grid cell `(r, c)` belongs to pixel
`(⌊r·H/h⌋, ⌊c·W/w⌋)`. All else is averaged over the valid pixels that a cell touches.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int32, Int64, Shaped
from torch import Tensor

from agmm.mixture import inputs
from agmm.mixture.kernels import Pixels, pixel_logits
from agmm.mixture.pooling import any_pixel, area_average, cell_index
from agmm.shapes import IGNORE_INDEX

FEW = 0.25
"""Share of labelled pixels up to which they are picked out: the cost of a dense pass is four times
that of a pixel that is picked (measured)."""


class Grid(NamedTuple):
    """A batch on the feature grid, flattened to `n = h·w` cells.

    Attributes:
        logits: mean logits of each cell, `b k n`.
        features: features, `b d n`.
        shares: share of each class among the cell's labelled pixels, `b k n`; 0 if it has none.
        labelled: cells with a labelled pixel, `b n`.
        valid: cells with a valid pixel, `b n`.
        candidates: classes that the labels allow, `b k n`; at least one per cell.
    """

    logits: Tensor
    features: Tensor
    shares: Tensor
    labelled: Tensor
    valid: Tensor
    candidates: Tensor


def class_counts(
    seeds: Int64[Tensor, "b H W"], num_classes: int, size: tuple[int, int]
) -> Int32[Tensor, "b k n"]:
    """Number of labelled pixels of each class in each cell of a `size` grid.

    Args:
        seeds: class of each pixel, 0 to `num_classes` − 1; 255 = unlabelled.
        num_classes: number of classes.
        size: rows and columns of the grid; where it is finer than the pixels, a pixel counts in
            each of its cells.

    Returns:
        Numbers of pixels.

    Example:
        >>> class_counts(torch.tensor([[[0, 255], [1, 1]]]), 2, (1, 2)).tolist()
        [[[1, 0], [1, 1]]]
    """
    rows, columns = size
    for axis, cells in ((1, rows), (2, columns)):
        if cells > seeds.shape[axis]:  # coarser than the grid: a pixel is several cells
            source = torch.arange(cells, device=seeds.device) * seeds.shape[axis] // cells
            seeds = seeds.index_select(axis, source)
    batch, height, width = seeds.shape
    row = cell_index(height, rows, seeds.device)
    column = cell_index(width, columns, seeds.device)
    cell = row.unsqueeze(1) * columns + column  # H W
    labelled = seeds != IGNORE_INDEX
    few = few_pixels(labelled)
    if few is not None:
        bins = (few[0] * num_classes + seeds[few]) * (rows * columns) + cell[few[1:]]
        ones = torch.ones_like(bins, dtype=torch.int32)
    else:
        image = torch.arange(batch, device=seeds.device).view(-1, 1, 1)
        # An unlabelled pixel counts 0 for class 0 of its own cell: no boolean indexing, which
        # would wait for the device, and no single address that all threads write to.
        bins = (image * num_classes + seeds.masked_fill(~labelled, 0)) * (rows * columns) + cell
        ones = labelled.to(torch.int32)
    # Integers: sums do not depend on the order in which threads arrive.
    counts = torch.zeros(
        batch * num_classes * rows * columns, dtype=torch.int32, device=seeds.device
    )
    counts.scatter_add_(0, bins.flatten(), ones.flatten())
    return counts.view(batch, num_classes, rows * columns)


def class_shares(
    counts: Int32[Tensor, "b k n"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "b k n"]:
    """Share of each class among the labelled pixels of each cell.

    Args:
        counts: numbers of labelled pixels, see `class_counts`.
        dtype: type of the shares.

    Returns:
        Shares, which sum to 1 on a cell with a labelled pixel and are 0 elsewhere.

    Example:
        >>> class_shares(torch.tensor([[[1, 0], [1, 1]]], dtype=torch.int32)).tolist()
        [[[0.5, 0.0], [0.5, 1.0]]]
    """
    wide = counts.to(dtype)
    return wide / wide.sum(1, keepdim=True).clamp(min=1)


def few_pixels(pixels: Bool[Tensor, "b H W"]) -> Pixels | None:
    """Image, row and column of each pixel, if it is faster to pick them than to pass over all.

    Args:
        pixels: pixels to look at.

    Returns:
        Their places; None if they are many, or if to count them would wait for the device.

    Example:
        >>> image, row, column = few_pixels(torch.tensor([[[False, False, True, False, False]]]))
        >>> image.tolist(), row.tolist(), column.tolist()
        ([0], [0], [2])
    """
    if not inputs.readable(pixels) or pixels.count_nonzero() > FEW * pixels.numel():
        return None
    image, row, column = pixels.nonzero(as_tuple=True)
    return image, row, column


def reduce_to_grid(
    logits: Float[Tensor, "b k H W"],
    features: Float[Tensor, "b d h w"],
    seeds: Int64[Tensor, "b H W"],
    candidates: Bool[Tensor, "b k"] | Bool[Tensor, "b k H W"] | None = None,
    valid: Bool[Tensor, "b H W"] | None = None,
) -> Grid:
    """Bring everything to the grid of the features, in float32 or wider.

    Args:
        logits: logits of the network; a cell takes the mean over the valid pixels it touches.
        features: features of the network.
        seeds: class of each pixel, 255 = unlabelled; seeds on invalid pixels do not count.
        candidates: classes that the labels allow in the image or at the pixel, None = all; a cell
            has the candidates of all valid pixels it touches, and the classes of its seeds; a
            cell outside the picture may have none of these and then has all classes.
        valid: pixels of the picture (False = padding), None = all.

    Returns:
        The batch on the grid.

    Example:
        >>> seeds = torch.full((1, 4, 4), 255)
        >>> grid = reduce_to_grid(torch.zeros(1, 3, 4, 4), torch.zeros(1, 8, 2, 2), seeds)
        >>> grid.logits.shape, grid.labelled.any().item()
        (torch.Size([1, 3, 4]), False)
    """
    dtype = torch.promote_types(torch.promote_types(logits.dtype, features.dtype), torch.float32)
    num_classes = logits.shape[1]
    size = (features.shape[2], features.shape[3])
    if valid is not None:
        seeds = seeds.masked_fill(~valid, IGNORE_INDEX)
    share = valid_share(valid, seeds, size, dtype)
    shares = class_shares(class_counts(seeds, num_classes, size), dtype)
    return Grid(
        logits=mean_logits(pixel_logits(logits, valid, size)[0].to(dtype), share),
        features=features.to(dtype).flatten(2),
        shares=shares,
        labelled=(shares > 0).any(1),
        valid=(share > 0).flatten(1),
        candidates=cell_candidates(candidates, valid, shares, size),
    )


def valid_share(
    valid: Bool[Tensor, "b H W"] | None,
    like: Shaped[Tensor, "b H W"],
    size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "b h w"]:
    """Share of each cell's pixels that are valid.

    Args:
        valid: pixels that count, None = all.
        like: any map of the pixels, for their number and device.
        size: rows and columns of the grid.
        dtype: type of the shares.

    Returns:
        Shares, 0 to 1.

    Example:
        >>> valid = torch.tensor([[[True, False, False, False]]])
        >>> valid_share(valid, torch.zeros(1, 1, 4).long(), (1, 2)).flatten().tolist()
        [0.5, 0.0]
    """
    if valid is None:
        return torch.ones(len(like), *size, dtype=dtype, device=like.device)
    return area_average(valid.unsqueeze(1).to(dtype), size).squeeze(1)


def mean_logits(
    sums: Float[Tensor, "b k h w"], share: Float[Tensor, "b h w"]
) -> Float[Tensor, "b k n"]:
    """Mean over the valid pixels, from a mean over all pixels where the invalid ones count 0.

    Args:
        sums: means with zeros.
        share: share of the valid pixels.

    Returns:
        Means, 0 in a cell without valid pixels.

    Example:
        >>> mean_logits(torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1), 0.5)).item()
        4.0
    """
    if inputs.readable(share) and bool((share == 1).all()):
        return sums.flatten(2)
    return (sums / torch.where(share > 0, share, 1).unsqueeze(1)).flatten(2)


def cell_candidates(
    candidates: Bool[Tensor, "b k"] | Bool[Tensor, "b k H W"] | None,
    valid: Bool[Tensor, "b H W"] | None,
    shares: Float[Tensor, "b k n"],
    size: tuple[int, int],
) -> Bool[Tensor, "b k n"]:
    """Candidates of every cell: those of its valid pixels and the classes of its seeds.

    Args:
        candidates: classes that the labels allow in the image or at the pixel, None = all.
        valid: pixels that count, None = all.
        shares: class shares of the seeds.
        size: rows and columns of the grid.

    Returns:
        Candidates; all classes where there are none.

    Example:
        >>> given, seeds = torch.tensor([[True, False]]), torch.tensor([[[0.0], [1.0]]])
        >>> cell_candidates(given, None, seeds, (1, 1)).tolist()
        [[[True], [True]]]
    """
    if candidates is None:
        return torch.ones_like(shares, dtype=torch.bool)
    if candidates.ndim == 2:
        cells = candidates.unsqueeze(2)
    else:
        if valid is not None:
            candidates = candidates & valid.unsqueeze(1)
        cells = any_pixel(candidates, size).flatten(2)
    cells = cells | (shares > 0)
    return cells | ~cells.any(1, keepdim=True)
