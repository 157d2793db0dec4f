"""Annotations of one picture to seeds and candidates."""

from collections.abc import Sequence

import numpy as np

from agmm.errors import ContradictionError, DataError, InputError
from agmm.labels.annotations import Annotation, Points
from agmm.labels.supervision import Supervision, merge
from agmm.shapes import IGNORE_INDEX, MaskArray

_COVERING = ("points", "scribbles")
"""Forms that can say which classes a picture has; blocks show a part of it only."""


def rasterize(
    annotations: Sequence[Annotation], size: tuple[int, int], num_classes: int, *, complete: bool
) -> Supervision:
    """Draw all annotations of one picture into seeds and candidates.

    Seeds are all the labelled pixels of all forms. Candidates are all the classes, except when
    the annotation is ``complete`` and has a click or a stroke: then they are the classes labelled
    in this picture in any form, as ``complete`` speaks of the annotator's whole work on it, not
    of one form. Blocks or a dense mask alone exclude nothing, and neither does a picture without
    a labelled pixel.

    Args:
        annotations: What was given for the picture, in any mixture of forms; may be empty.
        size: (H, W) of the picture in pixels.
        num_classes: K, 1..255.
        complete: Whether the annotator clicked or stroked every class that the picture has.

    Returns:
        Seeds (H, W) and candidates (K,).

    Raises:
        InputError: ``size`` or ``num_classes`` out of range.
        DataError: A click outside of the picture, a mask of another size, or a class >= K.
        ContradictionError: Two labels give one pixel two classes.

    Example:
        >>> clicks = Points(np.array([[2, 0]]), np.array([1], dtype=np.uint8))
        >>> s = rasterize([clicks], (1, 3), 3, complete=True)
        >>> s.seeds.tolist(), s.candidates.tolist()
        ([[255, 255, 1]], [False, True, False])
    """
    if not 1 <= num_classes <= IGNORE_INDEX:
        raise InputError(f"num_classes must be in 1..{IGNORE_INDEX}, but is {num_classes}.")
    if min(size) < 1:
        raise InputError(f"size must be (H, W) with at least one pixel, but is {size}.")
    unlabelled = np.full(size, IGNORE_INDEX, dtype=np.uint8)
    result = Supervision(unlabelled, np.ones(num_classes, dtype=np.bool_))
    drawn: list[str] = []
    covered = False
    for annotation in annotations:
        seeds = _draw(annotation, size)
        _check_classes(seeds, num_classes, annotation.form)
        part = Supervision(seeds, np.ones(num_classes, dtype=np.bool_))
        result = merge(result, part, sources=(" + ".join(drawn), annotation.form))
        drawn.append(annotation.form)
        covered |= annotation.form in _COVERING and bool((seeds != IGNORE_INDEX).any())
    if not (complete and covered):
        return result
    present = np.bincount(result.seeds.ravel(), minlength=256)[:num_classes] > 0
    return Supervision(result.seeds, present)


def _draw(annotation: Annotation, size: tuple[int, int]) -> MaskArray:
    if isinstance(annotation, Points):
        return _draw_points(annotation, size)
    if annotation.mask.shape != size:
        raise DataError(
            f"{annotation.form}: the mask has {annotation.mask.shape} pixels (rows, columns), but"
            f" the picture has {size}. Give a mask of the picture's size."
        )
    return annotation.mask


def _draw_points(points: Points, size: tuple[int, int]) -> MaskArray:
    H, W = size
    pixels = np.floor(points.xy)
    inside = (pixels >= 0).all(axis=1) & (pixels < (W, H)).all(axis=1)
    outside = np.flatnonzero(~inside)
    if outside.size:
        x, y = points.xy[outside[0]].tolist()
        raise DataError(
            f"points: {outside.size} of {len(inside)} clicks lie outside of the picture of"
            f" {W}x{H} pixels (width x height), the first at x={x}, y={y}. Correct or drop them."
        )
    columns, rows = pixels.astype(np.int64).T
    seeds = np.full(size, IGNORE_INDEX, dtype=np.uint8)
    seeds[rows, columns] = points.classes
    # Of two clicks on one pixel the later one was written; the earlier one must be the same.
    clash = np.flatnonzero(seeds[rows, columns] != points.classes)
    if clash.size:
        x, y = int(columns[clash[0]]), int(rows[clash[0]])
        raise ContradictionError(
            f"points: the pixel x={x}, y={y} is clicked as class {points.classes[clash[0]]} and as"
            f" class {seeds[y, x]}. Drop one of the clicks."
        )
    return seeds


def _check_classes(seeds: MaskArray, num_classes: int, form: str) -> None:
    wrong = (seeds >= num_classes) & (seeds != IGNORE_INDEX)
    if wrong.any():
        y, x = np.argwhere(wrong)[0].tolist()
        raise DataError(
            f"{form}: class {seeds[y, x]} at x={x}, y={y} ({wrong.sum()} such pixels), but there"
            f" are {num_classes} classes (0..{num_classes - 1}; {IGNORE_INDEX} = unlabelled)."
            " Correct the label, or add the class."
        )
