"""From pixels to cells: means and maxima over the pixels that each cell of a grid touches."""

from functools import reduce

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


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


def spread_average(gradient: Float[Tensor, "b c h w"], out: Float[Tensor, "b c H W"]) -> None:
    """Backward pass of `area_average`.

    Args:
        gradient: gradient of the averages.
        out: memory for the gradient of the maps, which is written into it.

    Example:
        >>> out = torch.empty(1, 1, 1, 4)
        >>> spread_average(torch.tensor([[[[1.0, 3.0]]]]), out)
        >>> out.flatten().tolist()
        [0.5, 0.5, 1.5, 1.5]
    """
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
