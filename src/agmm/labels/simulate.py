"""Dense mask -> what an annotator would have given instead, in every form.

A stroke wanders through the inner part of a piece, bends a little, ends before the piece ends and
never crosses its border, as in ScribbleSup (Lin et al., CVPR 2016, https://arxiv.org/abs/1604.05144).
A click lies well inside, as people click (Bearman et al., ECCV 2016,
https://arxiv.org/abs/1506.02106). Blocks are tiles of the picture labelled pixel by pixel, as in
Tree Energy Loss (Liang et al., CVPR 2022, https://arxiv.org/abs/2203.10739).

Every function labels every piece that its mask has; `agmm.labels.pieces.without_crumbs` takes out
what is too small. Without the errors of `agmm.labels.noise` all labels agree with the mask.
"""

import numpy as np
from jaxtyping import Float, Int

from agmm.errors import ConfigError
from agmm.labels.annotations import Blocks, Boxes, Points, Scribbles, Tags
from agmm.labels.pieces import depth_of, pieces
from agmm.shapes import IGNORE_INDEX, MaskArray

LENGTHS = (0.5, 0.95)
"""Shortest and longest stroke, as part of the longest way through the inner part of the piece."""

INNER = (0.1, 0.45)
"""How far from the border a stroke keeps, as part of the depth of the deepest pixel."""

WANDERING = 0.8
"""Standard deviation of the log of the cost that bends the way; 0 gives straight strokes."""


def simulate_scribbles(
    mask: MaskArray, rng: np.random.Generator, *, stroke_width: int = 3
) -> Scribbles:
    """Draw one curved stroke inside every connected piece of every class, ground included.

    Args:
        mask: Dense index mask (H, W); 255 belongs to no class and gets no stroke.
        rng: Source of the ends, the bends and the lengths.
        stroke_width: Thickness of the pen in pixels, at least 1; thin pieces clip it.

    Returns:
        The strokes as an index map (H, W), 255 where there is none. Every stroke pixel has the
        class that ``mask`` has there.

    Raises:
        ConfigError: ``stroke_width`` is below 1.

    Example:
        >>> mask = np.zeros((20, 30), dtype=np.uint8)
        >>> mask[4:16, 5:25] = 1
        >>> strokes = simulate_scribbles(mask, np.random.default_rng(0)).mask
        >>> [int(value) for value in np.unique(strokes)]
        [0, 1, 255]
    """
    from scipy.ndimage import distance_transform_edt

    if stroke_width < 1:
        raise ConfigError(f"stroke_width must be at least 1 pixel, but is {stroke_width}.")
    strokes = np.full_like(mask, IGNORE_INDEX)
    for piece in pieces(mask):
        line = np.ones(piece.pixels.shape, dtype=bool)
        rows, cols = _line(depth_of(piece.pixels), rng).T
        line[rows, cols] = False
        stroke = piece.pixels & (distance_transform_edt(line) <= stroke_width / 2)
        strokes[piece.window][stroke] = piece.label
    return Scribbles(mask=strokes)


def simulate_points(
    mask: MaskArray, rng: np.random.Generator, *, clicks_per_class: int | None = None
) -> Points:
    """Click once on every connected piece of every class, or a number of times on every class.

    On a piece, the pixel is drawn with a probability proportional to the square of its distance
    to the border. With ``clicks_per_class``, as in the protocols of 20, 50 or 100 clicks on
    Cityscapes, the pixels are drawn evenly from all of the class.

    Args:
        mask: Dense index mask (H, W); 255 belongs to no class and gets no click.
        rng: Source of the clicked pixels.
        clicks_per_class: Clicks on each class of the picture, at least 1; a class with fewer
            pixels has all of them clicked. None = one click on every piece.

    Returns:
        The clicks, as columns and rows, row by row; no two on one pixel.

    Raises:
        ConfigError: ``clicks_per_class`` is below 1.

    Example:
        >>> mask = np.full((9, 9), 3, dtype=np.uint8)
        >>> points = simulate_points(mask, np.random.default_rng(0))
        >>> points.classes.tolist(), points.xy.shape
        ([3], (1, 2))
        >>> simulate_points(mask, np.random.default_rng(0), clicks_per_class=20).xy.shape
        (20, 2)
    """
    clicks = np.full_like(mask, IGNORE_INDEX)
    if clicks_per_class is None:
        for piece in pieces(mask):
            weight = depth_of(piece.pixels) ** 2
            pixel = rng.choice(weight.size, p=(weight / weight.sum()).ravel())
            clicks[piece.window][np.unravel_index(pixel, weight.shape)] = piece.label
        return Points.from_mask(clicks)
    if clicks_per_class < 1:
        raise ConfigError(
            f"clicks_per_class must be at least 1 or None, but is {clicks_per_class}."
        )
    for label in np.unique(mask[mask != IGNORE_INDEX]):
        places = np.flatnonzero(mask == label)
        chosen = rng.choice(places, min(clicks_per_class, places.size), replace=False)
        clicks.flat[chosen] = label
    return Points.from_mask(clicks)


def simulate_blocks(
    mask: MaskArray, rng: np.random.Generator, *, block_share: float = 0.1, block_size: int = 40
) -> Blocks:
    """Label tiles of the picture pixel by pixel, chosen at random until the share is reached.

    Args:
        mask: Dense index mask (H, W), 255 = unlabelled, also in the blocks.
        rng: Source of the choice.
        block_share: Share of the labelled pixels of ``mask`` to give, above 0 and at most 1; the
            last tile may exceed it.
        block_size: Height and width of a tile in pixels, at least 1. The tiles are counted from
            the upper left corner; those at the right and at the bottom may be smaller.

    Returns:
        The blocks as an index map (H, W), 255 outside of them.

    Raises:
        ConfigError: ``block_share`` or ``block_size`` out of range.

    Example:
        >>> mask = np.zeros((4, 6), dtype=np.uint8)
        >>> blocks = simulate_blocks(mask, np.random.default_rng(0), block_share=0.5, block_size=2)
        >>> int((blocks.mask == 0).sum())
        12
    """
    if not 0 < block_share <= 1:
        raise ConfigError(f"block_share must be above 0 and at most 1, but is {block_share}.")
    if block_size < 1:
        raise ConfigError(f"block_size must be at least 1 pixel, but is {block_size}.")
    labelled = mask != IGNORE_INDEX
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    tile_of = (rows // block_size) * -(-mask.shape[1] // block_size) + columns // block_size
    order = rng.permutation(int(tile_of[-1, -1]) + 1)
    given = np.bincount(tile_of[labelled], minlength=order.size)[order].cumsum()
    enough = np.searchsorted(given, round(block_share * int(labelled.sum())))
    chosen = np.isin(tile_of, order[: enough + 1])
    return Blocks(mask=np.where(chosen, mask, np.uint8(IGNORE_INDEX)))


def simulate_boxes(mask: MaskArray, *, background: int | None = None) -> Boxes:
    """Put a tight box round every connected piece of every class but the background.

    Args:
        mask: Dense index mask (H, W); 255 belongs to no class and gets no box.
        background: Index of the background, which gets no boxes; None if no class is one.

    Returns:
        The boxes in whole pixels, in the order of the class indices.

    Example:
        >>> mask = np.array([[0, 1, 1, 0, 1]], dtype=np.uint8)
        >>> simulate_boxes(mask, background=0).xyxy.tolist()
        [[1, 0, 3, 1], [4, 0, 5, 1]]
    """
    found = [piece for piece in pieces(mask) if piece.label != background]
    corners = [(x.start, y.start, x.stop, y.stop) for _, (y, x), _ in found]
    return Boxes(
        xyxy=np.array(corners, dtype=np.int64).reshape(-1, 4),
        classes=np.array([piece.label for piece in found], dtype=np.uint8),
    )


def simulate_tags(mask: MaskArray, *, background: int | None = None) -> Tags:
    """Name the classes that the picture shows.

    Args:
        mask: Dense index mask (H, W); 255 is no class.
        background: Index of the background, which is not named as it may be in any picture; None
            if no class is one.

    Returns:
        The classes in ascending order.

    Example:
        >>> simulate_tags(np.array([[0, 2, 1, 255]], dtype=np.uint8), background=0).classes.tolist()
        [1, 2]
    """
    return Tags(np.unique(mask[(mask != IGNORE_INDEX) & (mask != background)]))


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
