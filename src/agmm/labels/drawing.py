"""The pixels whose class an annotation says, form by form."""

from collections.abc import Sequence

import numpy as np

from agmm.errors import DataError
from agmm.labels.annotations import Annotation, Boxes, Points, Tags
from agmm.labels.boxes import covered, unboxed_classes
from agmm.shapes import IGNORE_INDEX, MaskArray


def draw_all(
    annotations: Sequence[Annotation],
    size: tuple[int, int],
    num_classes: int,
    background: int | None,
) -> list[tuple[Annotation, MaskArray]]:
    """Draw every annotation of one picture, each as `draw` does, but for boxes beside tags.

    Where the tags name a class that has no box, objects of it may lie anywhere: then the boxes draw
    nothing, no background either.

    Args:
        annotations: What was given for the picture; each form at most once.
        size: (H, W) of the picture in pixels.
        num_classes: K, 1..255.
        background: Index of the background; None if no class is one.

    Returns:
        The annotations, each with its pixels (H, W), uint8, 255 = unlabelled.

    Raises:
        DataError: As `draw`.

    Example:
        >>> box = Boxes(np.array([[1, 0, 2, 1]]), np.array([2], dtype=np.uint8))
        >>> tags = Tags(np.array([1, 2], dtype=np.uint8))
        >>> [marks.tolist() for _, marks in draw_all([box, tags], (1, 3), 3, 0)]
        [[[255, 255, 255]], [[255, 255, 255]]]
    """
    drawn = [(a, draw(a, size, num_classes, background)) for a in annotations]
    if unboxed_classes(annotations, background):
        return [(a, _unlabelled(size) if isinstance(a, Boxes) else marks) for a, marks in drawn]
    return drawn


def draw(
    annotation: Annotation, size: tuple[int, int], num_classes: int, background: int | None
) -> MaskArray:
    """Draw the pixels whose class one annotation says, and refuse what does not fit the picture.

    Args:
        annotation: What was given in one form.
        size: (H, W) of the picture in pixels.
        num_classes: K, 1..255.
        background: Index of the background; None if no class is one.

    Returns:
        (H, W), uint8, 255 = unlabelled. Tags draw nothing. Boxes draw the background outside of
        all of them, and nothing where there is no background. Of two clicks on one pixel the
        later one is drawn; that they agree is found in `agmm.labels.contradictions`.

    Raises:
        DataError: A click outside of the picture, a mask of another size, a faulty box, a box
            round the background, a class >= K, or tags that leave no class for the picture.

    Example:
        >>> box = Boxes(np.array([[1, 0, 2, 1]]), np.array([2], dtype=np.uint8))
        >>> draw(box, (1, 3), 3, 0).tolist()
        [[0, 255, 0]]
    """
    if isinstance(annotation, Tags):
        return _draw_tags(annotation, size, num_classes, background)
    if isinstance(annotation, Boxes):
        return _draw_boxes(annotation, size, num_classes, background)
    if isinstance(annotation, Points):
        seeds = _draw_points(annotation, size)
    elif annotation.mask.shape == size:
        seeds = annotation.mask
    else:
        raise DataError(
            f"{annotation.form}: the mask has {annotation.mask.shape} pixels (rows, columns), but"
            f" the picture has {size}. Give a mask of the picture's size."
        )
    wrong = (seeds >= num_classes) & (seeds != IGNORE_INDEX)
    if wrong.any():
        y, x = np.argwhere(wrong)[0].tolist()
        raise DataError(
            f"{annotation.form}: class {seeds[y, x]} at x={x}, y={y} ({wrong.sum()} such pixels),"
            f" but {_known(num_classes)}"
        )
    return seeds


def clicked_pixels(points: Points) -> np.ndarray:
    """Columns and rows (n, 2) of the clicked pixels, as whole numbers in floats.

    Args:
        points: The clicks.

    Returns:
        (n, 2), the floor of the coordinates.
    """
    pixels: np.ndarray = np.floor(points.xy)
    return pixels


def _draw_tags(
    tags: Tags, size: tuple[int, int], num_classes: int, background: int | None
) -> MaskArray:
    _refuse_unknown(tags, num_classes)
    if not tags.classes.size and background is None:
        raise DataError(
            "tags: no class is named, and none is called background, so that the picture could"
            " show nothing. Name its classes, or take the picture out of the tags."
        )
    return _unlabelled(size)


def _draw_boxes(
    boxes: Boxes, size: tuple[int, int], num_classes: int, background: int | None
) -> MaskArray:
    _refuse_unknown(boxes, num_classes)
    if background in boxes.classes.tolist():
        raise DataError(
            f"boxes: a box has class {background}, the background, which is what lies outside of"
            " all boxes. Name the object in the box, or drop it."
        )
    windows = covered(boxes, size)
    seeds = _unlabelled(size)
    if background is not None:
        seeds[:] = background
        for window in windows:
            seeds[window] = IGNORE_INDEX
    return seeds


def _draw_points(points: Points, size: tuple[int, int]) -> MaskArray:
    H, W = size
    pixels = clicked_pixels(points)
    inside = np.all((pixels >= 0) & (pixels < (W, H)), axis=1)
    outside = np.flatnonzero(~inside)
    if outside.size:
        x, y = points.xy[outside[0]].tolist()
        raise DataError(
            f"points: {outside.size} of {len(inside)} clicks lie outside of the picture of"
            f" {W}x{H} pixels (width x height), the first at x={x}, y={y}. Correct or drop them."
        )
    columns, rows = pixels.astype(np.int64).T
    seeds = _unlabelled(size)
    seeds[rows, columns] = points.classes
    return seeds


def _unlabelled(size: tuple[int, int]) -> MaskArray:
    return np.full(size, IGNORE_INDEX, dtype=np.uint8)


def _refuse_unknown(annotation: Tags | Boxes, num_classes: int) -> None:
    unknown = annotation.classes[annotation.classes >= num_classes]
    if unknown.size:
        raise DataError(f"{annotation.form}: class {unknown[0]}, but {_known(num_classes)}")


def _known(num_classes: int) -> str:
    return (
        f"there are {num_classes} classes (0..{num_classes - 1}; {IGNORE_INDEX} = unlabelled)."
        " Correct the label, or add the class."
    )
