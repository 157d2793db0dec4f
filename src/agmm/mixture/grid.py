"""From pixels to the feature grid: class shares of the seeds, valid cells, candidates, logits.

Seeds are reduced by counting, so that a single click is never lost: pixel `(i, j)` of an `H W` map
belongs to cell `(⌊i·h/H⌋, ⌊j·w/W⌋)`, and where the map is coarser than the grid every cell belongs
to pixel `(⌊i·H/h⌋, ⌊j·W/w⌋)`. All else is averaged over the valid pixels that a cell touches.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from agmm.shapes import IGNORE_INDEX


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
        return functional.avg_pool2d(maps, (height // rows, width // columns))
    vertical = _averaging_matrix(height, rows, maps)
    horizontal = _averaging_matrix(width, columns, maps)
    return vertical @ (maps @ horizontal.mT)


def _averaging_matrix(pixels: int, cells: int, like: Tensor) -> Tensor:
    """Matrix `cells pixels` of the mean over the pixels that a cell touches, along one axis."""
    cell = torch.arange(cells, device=like.device).unsqueeze(1)
    pixel = torch.arange(pixels, device=like.device)
    # Cell c covers [c·pixels/cells, (c+1)·pixels/cells), pixel j covers [j, j+1).
    touched = ((pixel + 1) * cells > cell * pixels) & (pixel * cells < (cell + 1) * pixels)
    touched = touched.to(like.dtype)
    return touched / touched.sum(1, keepdim=True)


def class_shares(
    seeds: Int64[Tensor, "b H W"],
    num_classes: int,
    size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "b k n"]:
    """Share of each class among the labelled pixels of each cell of a `size` grid.

    Args:
        seeds: class of each pixel, 0 to `num_classes` − 1; 255 = unlabelled.
        num_classes: number of classes.
        size: rows and columns of the grid.
        dtype: type of the shares.

    Returns:
        Shares, which sum to 1 on a cell with a labelled pixel and are 0 elsewhere.

    Example:
        >>> class_shares(torch.tensor([[[0, 255], [1, 1]]]), 2, (1, 2)).tolist()
        [[[0.5, 0.0], [0.5, 1.0]]]
    """
    rows, columns = size
    for axis, cells in ((1, rows), (2, columns)):
        if cells > seeds.shape[axis]:  # coarser than the grid: a pixel is several cells
            source = torch.arange(cells, device=seeds.device) * seeds.shape[axis] // cells
            seeds = seeds.index_select(axis, source)
    batch, height, width = seeds.shape
    row = torch.arange(height, device=seeds.device) * rows // height
    column = torch.arange(width, device=seeds.device) * columns // width
    cell = row.unsqueeze(1) * columns + column  # H W
    labelled = seeds != IGNORE_INDEX
    image = torch.arange(batch, device=seeds.device).view(-1, 1, 1)
    # An unlabelled pixel counts 0 for class 0 of its own cell: no boolean indexing, which would
    # wait for the device, and no single address that all threads write to.
    bin_index = (image * num_classes + seeds.masked_fill(~labelled, 0)) * (rows * columns) + cell
    # Integers: sums do not depend on the order in which threads arrive.
    counts = torch.zeros(
        batch * num_classes * rows * columns, dtype=torch.int32, device=seeds.device
    )
    counts.scatter_add_(0, bin_index.flatten(), labelled.flatten().to(torch.int32))
    counts = counts.view(batch, num_classes, rows * columns).to(dtype)
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


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
    batch, num_classes = logits.shape[:2]
    rows, columns = features.shape[2:]
    size, cells = (rows, columns), rows * columns
    logits = logits.to(dtype)
    if valid is None:
        valid_cells = torch.ones(batch, cells, dtype=torch.bool, device=logits.device)
        logits = area_average(logits, size)
    else:
        seeds = seeds.masked_fill(~valid, IGNORE_INDEX)
        share = area_average(valid.unsqueeze(1).to(dtype), size)
        valid_cells = (share > 0).view(batch, cells)
        logits = area_average(logits.masked_fill(~valid.unsqueeze(1), 0), size)
        logits = logits / torch.where(share > 0, share, 1)
    shares = class_shares(seeds, num_classes, size, dtype)
    return Grid(
        logits=logits.flatten(2),
        features=features.to(dtype).flatten(2),
        shares=shares,
        labelled=(shares > 0).any(1),
        valid=valid_cells,
        candidates=_cell_candidates(candidates, valid, shares, size),
    )


def _cell_candidates(
    candidates: Tensor | None, valid: Tensor | None, shares: Tensor, size: tuple[int, int]
) -> Tensor:
    """Candidates of every cell, `b k n`."""
    if candidates is None:
        return torch.ones_like(shares, dtype=torch.bool)
    if candidates.ndim == 2:
        cells = candidates.unsqueeze(2)
    else:
        if valid is not None:
            candidates = candidates & valid.unsqueeze(1)
        cells = area_average(candidates.to(shares.dtype), size).flatten(2) > 0
    cells = cells | (shares > 0)
    return cells | ~cells.any(1, keepdim=True)
