"""Dense mask -> the strokes and clicks that an annotator would have given instead.

A stroke wanders through the inner part of a piece, bends a little, ends before the piece ends and
never crosses its border, as in ScribbleSup (Lin et al., CVPR 2016, https://arxiv.org/abs/1604.05144).
A click lies well inside, as people click (Bearman et al., ECCV 2016,
https://arxiv.org/abs/1506.02106).
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from agmm.errors import ConfigError
from agmm.labels.annotations import Points, Scribbles
from agmm.shapes import IGNORE_INDEX, MaskArray

LENGTHS = (0.5, 0.95)
"""Shortest and longest stroke, as part of the longest way through the inner part of the piece."""

INNER = (0.2, 0.6)
"""How far from the border a stroke keeps, as part of the depth of the deepest pixel."""

WANDERING = 0.8
"""Standard deviation of the log of the cost that bends the way; 0 gives straight strokes."""


def simulate_scribbles(
    mask: MaskArray, rng: np.random.Generator, *, width: int = 3, min_pixels: int = 32
) -> Scribbles:
    """Draw one curved stroke inside every connected piece of every class, ground included.

    Args:
        mask: Dense index mask (H, W); 255 belongs to no class and gets no stroke.
        rng: Source of the ends, the bends and the lengths.
        width: Thickness of the pen in pixels, at least 1; thin pieces clip it.
        min_pixels: Pieces with fewer pixels stay unlabelled, but never all of one class: its
            largest piece gets a stroke.

    Returns:
        The strokes as an index map (H, W), 255 where there is none. Every stroke pixel has the
        class that ``mask`` has there.

    Raises:
        ConfigError: ``width`` is below 1.

    Example:
        >>> mask = np.zeros((20, 30), dtype=np.uint8)
        >>> mask[4:16, 5:25] = 1
        >>> strokes = simulate_scribbles(mask, np.random.default_rng(0)).mask
        >>> [int(value) for value in np.unique(strokes)]
        [0, 1, 255]
    """
    from scipy.ndimage import distance_transform_edt

    if width < 1:
        raise ConfigError(f"width must be at least 1 pixel, but is {width}.")
    strokes = np.full_like(mask, IGNORE_INDEX)
    for label, window, piece, depth in _pieces(mask, min_pixels):
        line = np.ones(piece.shape, dtype=bool)
        rows, cols = _line(depth, rng).T
        line[rows, cols] = False
        stroke = piece & (distance_transform_edt(line) <= width / 2)
        strokes[window][stroke] = label
    return Scribbles(mask=strokes)


def simulate_points(mask: MaskArray, rng: np.random.Generator, *, min_pixels: int = 16) -> Points:
    """Click once on every connected piece of every class, ground included.

    The pixel is drawn with a probability proportional to the square of its distance to the
    border of the piece.

    Args:
        mask: Dense index mask (H, W); 255 belongs to no class and gets no click.
        rng: Source of the clicked pixels.
        min_pixels: Pieces with fewer pixels get no click, but never all of one class: its
            largest piece gets one.

    Returns:
        The clicks, as columns and rows, in the order of the class indices.

    Example:
        >>> mask = np.full((9, 9), 3, dtype=np.uint8)
        >>> points = simulate_points(mask, np.random.default_rng(0))
        >>> points.classes.tolist(), points.xy.shape
        ([3], (1, 2))
    """
    xy: list[tuple[int, int]] = []
    classes: list[int] = []
    for label, window, _, depth in _pieces(mask, min_pixels):
        weight = depth.ravel() ** 2
        row, col = np.unravel_index(rng.choice(weight.size, p=weight / weight.sum()), depth.shape)
        xy.append((window[1].start + int(col), window[0].start + int(row)))
        classes.append(label)
    return Points(
        xy=np.array(xy, dtype=np.int64).reshape(-1, 2), classes=np.array(classes, dtype=np.uint8)
    )


def _pieces(
    mask: MaskArray, min_pixels: int
) -> Iterator[tuple[int, tuple[slice, slice], Bool[np.ndarray, "h w"], Float[np.ndarray, "h w"]]]:
    """Yield class, bounding window, pixels and depth (distance to the border) of every piece."""
    from scipy.ndimage import distance_transform_edt, find_objects, label

    touching = np.ones((3, 3), dtype=int)  # diagonal neighbours belong together
    for value in np.unique(mask[mask != IGNORE_INDEX]).tolist():
        numbered, _ = label(mask == value, structure=touching)
        sizes = np.bincount(numbered.ravel())[1:]
        # The largest piece counts in any case: a class that the picture has gets a label.
        least = min(min_pixels, int(sizes.max()))
        for number, window in enumerate(find_objects(numbered), start=1):
            if sizes[number - 1] >= least:
                piece = numbered[window] == number
                # The margin makes the picture's edge a border, too: nobody draws along it.
                yield value, window, piece, distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]


def _line(depth: Float[np.ndarray, "h w"], rng: np.random.Generator) -> Int[np.ndarray, "n 2"]:
    """Row and column of the pixels under the tip of the pen, all with positive depth."""
    from scipy.ndimage import gaussian_filter1d

    inner = depth >= rng.uniform(*INNER) * depth.max()
    cost = np.where(inner, _bumpy_cost(depth, rng), np.inf)
    # From the deepest pixel to one end, from there to the other: the longest way, or nearly so.
    deepest = np.array(np.unravel_index(depth.argmax(), depth.shape))
    way = _farthest_way(cost, _farthest_way(cost, deepest)[-1])
    length = max(1, round(rng.uniform(*LENGTHS) * len(way)))
    first = rng.integers(len(way) - length + 1)
    way = way[first : first + length]
    # A way over the pixel grid has corners of 45 degrees, a hand has not.
    smooth = gaussian_filter1d(way.astype(float), sigma=length / 12, axis=0, mode="nearest")
    smooth = np.rint(smooth).astype(int)
    return np.where(depth[*smooth.T][:, None] > 0, smooth, way)


def _bumpy_cost(
    depth: Float[np.ndarray, "h w"], rng: np.random.Generator
) -> Float[np.ndarray, "h w"]:
    """A smooth random cost of walking, so that the shortest way is a bent one."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.standard_normal(depth.shape), sigma=max(2.0, depth.max() / 4))
    cost: np.ndarray = np.exp(WANDERING * (noise - noise.mean()) / (noise.std() + 1e-6))
    return cost


def _farthest_way(
    cost: Float[np.ndarray, "h w"], start: Int[np.ndarray, " 2"]
) -> Int[np.ndarray, "n 2"]:
    """The cheapest way from ``start`` to the reachable pixel that costs most to reach."""
    from skimage.graph import MCP_Geometric

    ways = MCP_Geometric(cost)
    reached, _ = ways.find_costs([tuple(start)])
    end = np.where(np.isfinite(reached), reached, -1).argmax()
    return np.array(ways.traceback(np.unravel_index(end, cost.shape)))
