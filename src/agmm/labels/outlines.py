"""The pixels inside polygons and under strokes.

A pixel belongs to a shape if its centre does: that of column 3 lies at x = 3.5. So polygons that
share an edge share no pixel and leave none between them, whatever their coordinates are.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from agmm.errors import DataError
from agmm.labels.boxes import Window

Patch = tuple[Window, Bool[np.ndarray, "h w"]]
"""A window of the picture and which of its pixels belong to the shape."""

MAX_CROSSINGS = 2**23
"""The most rows that the edges of one shape may cross, counted edge by edge."""

_CAP = np.linspace(np.pi / 2, 3 * np.pi / 2, 9)
"""Angles of the corners that round off the end of a stroke."""


def polygon_patch(xy: Float[np.ndarray, "n 2"], size: tuple[int, int]) -> Patch:
    """Find the pixels inside a polygon; what is outside of the picture is cut off.

    Where the outline crosses itself, the even-odd rule says what is inside.

    Args:
        xy: (n, 2), finite, the corners in pixels, in either direction; the last is joined to the
            first.
        size: (H, W) of the picture in pixels.

    Returns:
        The polygon's window in the picture and its pixels there.

    Raises:
        DataError: An outline of more than `MAX_CROSSINGS`.

    Example:
        >>> corners = np.array([[1.0, 0.0], [3.0, 0.0], [3.0, 9.0], [1.0, 9.0]])
        >>> window, inside = polygon_patch(corners, (2, 4))
        >>> window, inside.tolist()
        ((slice(0, 2, None), slice(1, 3, None)), [[True, True], [True, True]])
    """
    window, winding = _winding(xy[None], size)
    return window, winding % 2 == 1


def stroke_patch(xy: Float[np.ndarray, "n 2"], width: float, size: tuple[int, int]) -> Patch:
    """Find the pixels under a stroke with round ends; what is outside of the picture is cut off.

    Args:
        xy: (n, 2), finite, the points that the stroke runs through, in pixels; one gives a dot.
        width: Thickness of the stroke in pixels, above 0.
        size: (H, W) of the picture in pixels.

    Returns:
        The stroke's window in the picture and its pixels there: those whose centre is nearer to
        the line than half the width.

    Raises:
        DataError: An outline of more than `MAX_CROSSINGS`.

    Example:
        >>> window, under = stroke_patch(np.array([[1.5, 1.5], [2.5, 1.5]]), 1.0, (3, 9))
        >>> window, under.tolist()
        ((slice(1, 2, None), slice(1, 3, None)), [[True, True]])
    """
    starts, ends = (xy, xy) if len(xy) == 1 else (xy[:-1], xy[1:])
    step = ends - starts
    heading = np.arctan2(step[:, 1], step[:, 0])[:, None]
    angles = np.concatenate([heading + _CAP, heading + _CAP + np.pi], axis=1)  # (n-1, corners)
    rim = np.stack([np.cos(angles), np.sin(angles)], axis=2) * (width / 2)
    behind = np.arange(angles.shape[1])[None, :, None] < len(_CAP)
    # All pieces turn the same way round, so where any covers a pixel, their sum does not vanish.
    window, winding = _winding(np.where(behind, starts[:, None], ends[:, None]) + rim, size)
    return window, winding != 0


def ellipse_outline(
    center: Sequence[float], radii: Sequence[float], degrees: float = 0.0
) -> Float[np.ndarray, "n 2"]:
    """Give the outline of an ellipse as a polygon.

    Args:
        center: (x, y) in pixels.
        radii: Half the width and half the height in pixels.
        degrees: Turn, clockwise as seen on the picture.

    Returns:
        64 corners on the ellipse.

    Example:
        >>> ellipse_outline((5.0, 5.0), (2.0, 1.0))[0].tolist()
        [7.0, 5.0]
    """
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    rim = np.stack([radii[0] * np.cos(angles), radii[1] * np.sin(angles)], axis=1)
    outline: np.ndarray = np.asarray(center, dtype=np.float64) + rim @ _turn(degrees)
    return outline


def turned(
    xy: Float[np.ndarray, "n 2"], pivot: Sequence[float], degrees: float
) -> Float[np.ndarray, "n 2"]:
    """Turn points about another one.

    Args:
        xy: (n, 2), in pixels.
        pivot: (x, y) of the point that stays, in pixels.
        degrees: Turn, clockwise as seen on the picture.

    Returns:
        (n, 2), the turned points.

    Example:
        >>> turned(np.array([[3.0, 1.0]]), (1.0, 1.0), 90.0).round(9).tolist()
        [[1.0, 3.0]]
    """
    rotated: np.ndarray = (xy - np.asarray(pivot)) @ _turn(degrees) + np.asarray(pivot)
    return rotated


def _turn(degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cos, sin], [-sin, cos]])


def _winding(
    polygons: Float[np.ndarray, "m n 2"], size: tuple[int, int]
) -> tuple[Window, np.ndarray]:
    """How often polygons wind round the centres of the pixels in their window, all added up.

    An edge that crosses the row of a pixel to its left turns the winding number there by one, up
    or down as the edge runs; so the numbers are the sums of these turns along the rows.
    """
    H, W = size
    low, high = polygons.min(axis=(0, 1)), polygons.max(axis=(0, 1))
    left, right = _first_centers(np.array([low[0], high[0]]), W).tolist()
    top, bottom = _first_centers(np.array([low[1], high[1]]), H).tolist()
    window = (slice(top, bottom), slice(left, right))
    starts = polygons.reshape(-1, 2)
    ends = np.roll(polygons, -1, axis=1).reshape(-1, 2)
    first, last = _first_centers(starts[:, 1], H), _first_centers(ends[:, 1], H)
    counts = np.abs(last - first)
    if counts.sum() > MAX_CROSSINGS:
        raise DataError(
            f"an outline crosses {counts.sum()} rows of pixels, but at most {MAX_CROSSINGS} are"
            " drawn. Draw it with fewer points."
        )
    edge = np.repeat(np.arange(len(starts)), counts)
    place = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = np.minimum(first, last)[edge] + place
    # From the upper end down, so that an edge is rounded alike in both of its directions.
    down = (last > first)[edge, None]
    (x0, y0), (x1, y1) = (
        np.where(down, starts[edge], ends[edge]).T,
        np.where(down, ends[edge], starts[edge]).T,
    )
    columns = _first_centers(x0 + (rows + 0.5 - y0) / (y1 - y0) * (x1 - x0), W)
    turns = np.zeros((bottom - top, right - left + 1), dtype=np.int64)
    # Rounding may put a crossing beside the outermost corner.
    np.add.at(turns, (rows - top, columns.clip(left, right) - left), np.sign(last - first)[edge])
    winding: np.ndarray = np.cumsum(turns[:, :-1], axis=1)
    return window, winding


def _first_centers(values: np.ndarray, count: int) -> np.ndarray:
    """The first of ``count`` pixels whose centre is not below a coordinate, else ``count``."""
    return np.ceil(values - 0.5).clip(0, count).astype(np.int64)
