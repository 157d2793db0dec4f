"""From pixels to cells, and back: means and maxima over the pixels of each cell; maps enlarged.

A network of stride s gives ceil(H / s) rows of cells: row r is that of the pixels r·s to
(r + 1)·s − 1, and the last may reach beyond the picture, which the network pads. So it is here
wherever the sizes allow it; elsewhere the cells divide the picture evenly, and share pixels.
"""

from functools import reduce

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

Sides = tuple[int, int]


def cell_side(pixels: int, cells: int) -> int | None:
    """Pixels of a cell along one axis, if no two cells share a pixel.

    Args:
        pixels: number of pixels.
        cells: number of cells.

    Returns:
        The number s with `cells` = ceil(`pixels` / s); None if there is none.

    Example:
        >>> cell_side(321, 81), cell_side(320, 80), cell_side(5, 4)
        (4, 4, None)
    """
    side = -(-pixels // cells)
    return side if -(-pixels // side) == cells else None


def cell_sides(pixels: Sides, cells: Sides) -> Sides | None:
    """`cell_side` along both axes; None if it is None along one.

    Args:
        pixels: rows and columns of the picture.
        cells: rows and columns of the grid.

    Returns:
        Rows and columns of a cell.
    """
    rows, columns = cell_side(pixels[0], cells[0]), cell_side(pixels[1], cells[1])
    return None if rows is None or columns is None else (rows, columns)


def cell_index(pixels: int, cells: int, device: torch.device) -> Int64[Tensor, " pixels"]:
    """The one cell that each pixel belongs to, along one axis; for no fewer pixels than cells.

    Args:
        pixels: number of pixels.
        cells: number of cells.
        device: where the result is to be.

    Returns:
        Cells.

    Example:
        >>> cell_index(5, 3, torch.device("cpu")).tolist()
        [0, 0, 1, 1, 2]
    """
    pixel = torch.arange(pixels, device=device)
    side = cell_side(pixels, cells)
    return pixel // side if side is not None else pixel * cells // pixels


def area_average(
    maps: Float[Tensor, "b c H W"], size: tuple[int, int], sides: Sides | None = None
) -> Tensor:
    """Mean over the pixels that each cell of a `size` grid touches.

    Its backward pass is deterministic on CUDA.

    Args:
        maps: maps of any size.
        size: rows and columns of the grid.
        sides: rows and columns of a cell, of maps that are a part of others; None = by the sizes.

    Returns:
        Averages, shape `b c h w`.

    Example:
        >>> area_average(torch.tensor([[[[1.0, 2.0, 3.0]]]]), (1, 2)).flatten().tolist()
        [1.5, 3.0]
    """
    (height, width), (rows, columns) = maps.shape[-2:], size
    if (height, width) == (rows, columns):
        return maps
    cell = sides or cell_sides((height, width), size)
    if cell is not None:
        if maps.stride(1) == 1 or height % cell[0] or width % cell[1]:
            return functional.avg_pool2d(maps, cell, ceil_mode=True)
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
    sides = cell_sides((maps.shape[2], maps.shape[3]), size)
    if sides is None:
        return area_average(maps.float(), size) > 0
    beyond = (0, -maps.shape[3] % sides[1], 0, -maps.shape[2] % sides[0])
    maps = functional.pad(maps, beyond) if any(beyond) else maps
    for axis, cells in ((2, size[0]), (3, size[1])):
        pixels = torch.unflatten(maps, axis, (cells, maps.shape[axis] // cells))
        maps = reduce(torch.logical_or, pixels.unbind(axis + 1))
    return maps


def spread_average(
    gradient: Float[Tensor, "b c h w"], out: Float[Tensor, "b c H W"], sides: Sides | None = None
) -> None:
    """Backward pass of `area_average`.

    Args:
        gradient: gradient of the averages.
        out: memory for the gradient of the maps, which is written into it.
        sides: as in `area_average`.

    Example:
        >>> out = torch.empty(1, 1, 1, 4)
        >>> spread_average(torch.tensor([[[[1.0, 3.0]]]]), out)
        >>> out.flatten().tolist()
        [0.5, 0.5, 1.5, 1.5]
    """
    (height, width), (rows, columns) = out.shape[-2:], gradient.shape[-2:]
    cell = sides or cell_sides((height, width), (rows, columns))
    if cell is None:
        vertical = _averaging_matrix(height, rows, gradient)
        horizontal = _averaging_matrix(width, columns, gradient)
        out.copy_(vertical.mT @ (gradient @ horizontal))
    elif height % cell[0] or width % cell[1]:
        gradient = gradient / _pixels_of_cells(height, cell[0], gradient).unsqueeze(1)
        gradient = gradient / _pixels_of_cells(width, cell[1], gradient)
        down = gradient.repeat_interleave(cell[0], 2)[:, :, :height]
        out.copy_(down.repeat_interleave(cell[1], 3)[..., :width])
    else:
        gradient = (gradient / (cell[0] * cell[1])).unsqueeze(4)
        wide = gradient.expand(-1, -1, -1, -1, cell[1])  # b c h w times a cell's columns
        if out.stride(1) == 1:
            target = torch.unflatten(out, 3, (columns, cell[1]))
            torch.unflatten(target, 2, (rows, cell[0])).copy_(wide.unsqueeze(3))
        else:  # whole rows at once
            torch.unflatten(out, 2, (rows, cell[0])).copy_(wide.flatten(3).unsqueeze(3))


def enlarge(maps: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c H W"]:
    """Maps of cells at the pixels, bilinearly between the middles of the cells.

    Args:
        maps: maps of the cells.
        size: rows and columns of the picture.

    Returns:
        Maps of the pixels.

    Example:
        >>> enlarge(torch.tensor([[[[0.0, 4.0]]]]), (1, 3)).flatten().tolist()  # 2 pixels, and 1
        [0.0, 1.0, 3.0]
    """
    (rows, columns), (height, width) = maps.shape[2:], size
    if (rows, columns) == (height, width):
        return maps
    sides = cell_sides(size, (rows, columns))
    covered = size if sides is None else (rows * sides[0], columns * sides[1])
    wide = functional.interpolate(maps, covered, mode="bilinear", align_corners=False)
    return wide[..., :height, :width]


def _averaging_matrix(pixels: int, cells: int, like: Tensor) -> Tensor:
    """Matrix `cells pixels` of the mean over the pixels that a cell touches, along one axis."""
    cell = torch.arange(cells, device=like.device).unsqueeze(1)
    if cell_side(pixels, cells) is not None:
        touched = cell_index(pixels, cells, like.device) == cell
    else:
        pixel = torch.arange(pixels, device=like.device)
        # Cell c covers [c·pixels/cells, (c+1)·pixels/cells), pixel j covers [j, j+1).
        touched = ((pixel + 1) * cells > cell * pixels) & (pixel * cells < (cell + 1) * pixels)
    touched = touched.to(like.dtype)
    return touched / touched.sum(1, keepdim=True)


def _pixels_of_cells(pixels: int, side: int, like: Tensor) -> Tensor:
    """Number of pixels of each cell along one axis."""
    first = torch.arange(0, pixels, side, device=like.device)
    return (pixels - first).clamp(max=side).to(like.dtype)
