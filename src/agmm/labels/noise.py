"""Errors of annotators, for simulated labels: clicks beside the object, loose boxes."""

import math

import numpy as np

from agmm.errors import ConfigError
from agmm.labels.annotations import Boxes, Points
from agmm.shapes import IGNORE_INDEX, MaskArray

SLIP = 0.02
"""How far beyond the nearest pixel of another class a wrong click may land, as part of the
picture's diagonal."""


def misplace_clicks(
    points: Points, mask: MaskArray, rng: np.random.Generator, *, wrong_clicks: float
) -> Points:
    """Let some clicks land beside their object, on a pixel of another class.

    Such a click keeps its class and lands near the closest pixel of another class. Of the clicks
    of people on PASCAL VOC (Bearman et al., ECCV 2016) about one in ten is wrong.

    Args:
        points: Clicks on whole pixels of the picture.
        mask: Dense index mask (H, W), 255 = unlabelled.
        rng: Source of the choice and of the places.
        wrong_clicks: Probability of each click to be wrong, 0..1.

    Returns:
        The clicks, row by row; no two on one pixel. Where the picture has no free pixel of
        another class, the click stays.

    Raises:
        ConfigError: ``wrong_clicks`` out of range.

    Example:
        >>> click = Points(np.array([[0, 0]]), np.array([1], dtype=np.uint8))
        >>> mask = np.array([[1, 1, 2]], dtype=np.uint8)
        >>> wrong = misplace_clicks(click, mask, np.random.default_rng(0), wrong_clicks=1.0)
        >>> wrong.xy.tolist(), wrong.classes.tolist()
        ([[2, 0]], [1])
    """
    if not 0 <= wrong_clicks <= 1:
        raise ConfigError(f"wrong_clicks must be 0..1, but is {wrong_clicks}.")
    columns, rows = points.xy.astype(np.int64).T
    clicks = np.full_like(mask, IGNORE_INDEX)
    clicks[rows, columns] = points.classes
    slip = SLIP * math.hypot(*mask.shape)
    for index in np.flatnonzero(rng.random(len(rows)) < wrong_clicks):
        row, column, label = rows[index], columns[index], points.classes[index]
        free = (mask != IGNORE_INDEX) & (mask != label) & (clicks == IGNORE_INDEX)
        places = np.argwhere(free)
        if len(places):
            distance = np.hypot(*(places - (row, column)).T)
            near = places[distance <= distance.min() + slip]
            clicks[row, column] = IGNORE_INDEX
            clicks[tuple(near[rng.integers(len(near))])] = label
    return Points.from_mask(clicks)


def loosen_boxes(
    boxes: Boxes, size: tuple[int, int], rng: np.random.Generator, *, box_jitter: float
) -> Boxes:
    """Move every side of every box in or out.

    Args:
        boxes: Boxes without a fault, in whole pixels.
        size: (H, W) of the picture in pixels.
        rng: Source of the moves.
        box_jitter: Largest move as part of the box's width or height, 0 to below 0.5; all moves
            up to it are equally likely.

    Returns:
        The boxes in whole pixels, inside of the picture, each with at least one pixel.

    Raises:
        ConfigError: ``box_jitter`` out of range.

    Example:
        >>> boxes = Boxes(np.array([[10, 10, 30, 20]]), np.array([1], dtype=np.uint8))
        >>> loosen_boxes(boxes, (40, 40), np.random.default_rng(0), box_jitter=0.2).xyxy.tolist()
        [[11, 9, 26, 18]]
    """
    if not 0 <= box_jitter < 0.5:
        raise ConfigError(f"box_jitter must be at least 0 and below 0.5, but is {box_jitter}.")
    sides = np.tile(boxes.xyxy[:, 2:] - boxes.xyxy[:, :2], 2)
    moved = np.rint(boxes.xyxy + rng.uniform(-box_jitter, box_jitter, sides.shape) * sides)
    edges = np.array([size[1], size[0]])
    low = np.clip(moved[:, :2], 0, edges - 1)
    high = np.clip(moved[:, 2:], low + 1, edges)  # a small box may have lost its last pixel
    return Boxes(np.concatenate([low, high], axis=1).astype(np.int64), boxes.classes)
