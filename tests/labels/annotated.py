"""Annotations from rows of numbers."""

import numpy as np

from agmm.labels.annotations import Boxes, Points, Tags


def clicks(*xyc: tuple[float, float, int]) -> Points:
    """Clicks at x, y on a class each."""
    table = np.array(xyc, dtype=np.float64).reshape(-1, 3)
    return Points(table[:, :2], table[:, 2].astype(np.uint8))


def boxes(*xyxyc: tuple[float, float, float, float, int]) -> Boxes:
    """Boxes from xmin, ymin to xmax, ymax of a class each."""
    table = np.array(xyxyc, dtype=np.float64).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4].astype(np.uint8))


def tags(*classes: int) -> Tags:
    """Tags of these classes."""
    return Tags(np.array(classes, dtype=np.uint8))
