"""Boxes against the size of their picture: what is wrong with them, repairs, covered pixels."""

import math
from collections.abc import Sequence

import numpy as np

from agmm.errors import DataError
from agmm.labels.annotations import Annotation, Boxes, Tags

Window = tuple[slice, slice]
"""Rows and columns of a box."""


def box_faults(boxes: Boxes, size: tuple[int, int]) -> tuple[str, ...]:
    """Tell which boxes cannot be used as they are.

    Args:
        boxes: The boxes of one picture.
        size: (H, W) of the picture in pixels.

    Returns:
        One sentence for each box that has its corners in the wrong order, has no pixel, or
        reaches out of the picture or lies outside of it, with the box's number (from 1), class and
        coordinates; none if all boxes are fine.

    Example:
        >>> boxes = Boxes(np.array([[3, 1, 4, 2], [4, 1, 3, 2]]), np.array([7, 7], np.uint8))
        >>> box_faults(boxes, (5, 5))
        ('box 2 of class 7 at (4, 1, 3, 2) has its corners in the wrong order',)
    """
    return tuple(fault for fault in _faults(boxes, size) if fault)


def stray_boxes(boxes: Boxes, size: tuple[int, int]) -> tuple[str, ...]:
    """Tell which boxes have an area, but no pixel of their picture.

    Such a box is most likely of another picture, or in the pixels of another scale. Without it
    the picture would say that there is nothing, so that no repair is right.

    Args:
        boxes: The boxes of one picture.
        size: (H, W) of the picture in pixels.

    Returns:
        Those sentences of `box_faults` that `clip_boxes` does not deal with.

    Example:
        >>> boxes = Boxes(np.array([[8, 1, 9, 2], [4, 1, 9, 2]]), np.array([7, 7], np.uint8))
        >>> stray_boxes(boxes, (5, 5))
        ('box 1 of class 7 at (8, 1, 9, 2) lies outside of the picture of 5x5 pixels',)
    """
    stray = _stray(boxes, size)
    return tuple(f for f, is_stray in zip(_faults(boxes, size), stray, strict=True) if is_stray)


def clip_boxes(boxes: Boxes, size: tuple[int, int]) -> tuple[Boxes, tuple[str, ...]]:
    """Repair faulty boxes: put corners in order, cut off what is outside, drop what has no area.

    Args:
        boxes: The boxes of one picture.
        size: (H, W) of the picture in pixels.

    Returns:
        Boxes without a fault other than those of `stray_boxes`, and one sentence for each that
        was changed or dropped. All others come back as they are, in the same order.

    Example:
        >>> boxes = Boxes(np.array([[4, 1, 3, 9], [3, 3, 3, 4]]), np.array([7, 7], np.uint8))
        >>> repaired, notes = clip_boxes(boxes, (5, 5))
        >>> repaired.xyxy.tolist()
        [[3, 1, 4, 5]]
        >>> notes[1]
        'box 2 of class 7 at (3, 3, 3, 4) has no pixel: dropped'
    """
    stray, result = _stray(boxes, size), _clipped(boxes, size)
    result[stray] = boxes.xyxy[stray]
    kept = stray | (result[:, :2] < result[:, 2:]).all(axis=1)
    notes = tuple(
        f"{fault}: {f'now {_coordinates(box)}' if keep else 'dropped'}"
        for fault, box, keep, left in zip(_faults(boxes, size), result, kept, stray, strict=True)
        if fault and not left
    )
    return Boxes(result[kept], boxes.classes[kept]), notes


def covered(boxes: Boxes, size: tuple[int, int]) -> tuple[Window, ...]:
    """Give the pixels of each box: all that it touches.

    Args:
        boxes: The boxes of one picture.
        size: (H, W) of the picture in pixels.

    Returns:
        For each box its rows ⌊ymin⌋ to ⌈ymax⌉ − 1 and its columns ⌊xmin⌋ to ⌈xmax⌉ − 1, as slices;
        each has at least one pixel.

    Raises:
        DataError: A box is faulty; see `box_faults`.

    Example:
        >>> boxes = Boxes(np.array([[2.5, 1.0, 3.5, 2.0]]), np.array([7], np.uint8))
        >>> covered(boxes, (5, 5))
        ((slice(1, 2, None), slice(2, 4, None)),)
    """
    faults = box_faults(boxes, size)
    if faults:
        raise DataError(
            f"boxes: {len(faults)} of {len(boxes.classes)} are faulty: {faults[0]}. Correct them,"
            " or have them repaired with --clip-boxes."
        )
    return tuple(
        (slice(math.floor(ymin), math.ceil(ymax)), slice(math.floor(xmin), math.ceil(xmax)))
        for xmin, ymin, xmax, ymax in boxes.xyxy.tolist()
    )


def unboxed_classes(annotations: Sequence[Annotation], background: int | None) -> tuple[int, ...]:
    """Give the classes that the tags of a picture name and none of its boxes is of.

    Objects of these may lie anywhere, so that outside of the boxes is not all background.

    Args:
        annotations: What was given for the picture.
        background: Index of the background, which has no boxes; None if no class is one.

    Returns:
        The classes, rising; none if the picture lacks tags or boxes.

    Example:
        >>> box = Boxes(np.array([[1, 1, 4, 2]]), np.array([7], np.uint8))
        >>> unboxed_classes([box, Tags(np.array([0, 3, 7], np.uint8))], background=0)
        (3,)
    """
    boxed = [a.classes for a in annotations if isinstance(a, Boxes)]
    tagged = [a.classes for a in annotations if isinstance(a, Tags)]
    if not boxed or not tagged:
        return ()
    left = np.setdiff1d(np.concatenate(tagged), np.concatenate(boxed))
    return tuple(label for label in left.tolist() if label != background)


def _clipped(boxes: Boxes, size: tuple[int, int]) -> np.ndarray:
    """What of each box lies in the picture, its corners in order."""
    H, W = size
    low = np.minimum(boxes.xyxy[:, :2], boxes.xyxy[:, 2:])
    high = np.maximum(boxes.xyxy[:, :2], boxes.xyxy[:, 2:])
    clipped: np.ndarray = np.clip(np.concatenate([low, high], axis=1), 0, (W, H, W, H))
    return clipped


def _stray(boxes: Boxes, size: tuple[int, int]) -> np.ndarray:
    """Which boxes have an area, but none in the picture."""
    clipped = _clipped(boxes, size)
    area = (boxes.xyxy[:, :2] != boxes.xyxy[:, 2:]).all(axis=1)
    stray: np.ndarray = area & (clipped[:, :2] >= clipped[:, 2:]).any(axis=1)
    return stray


def _faults(boxes: Boxes, size: tuple[int, int]) -> list[str]:
    """For each box what is wrong with it; empty where nothing is."""
    (H, W), (xmin, ymin, xmax, ymax) = size, boxes.xyxy.T
    reversed_ = (xmax < xmin) | (ymax < ymin)
    empty = ~reversed_ & ((xmax == xmin) | (ymax == ymin))
    outside = np.any((boxes.xyxy < 0) | (boxes.xyxy > (W, H, W, H)), axis=1)
    stray = _stray(boxes, size)
    kinds = (
        (reversed_, "has its corners in the wrong order"),
        (empty, "has no pixel"),
        (outside & ~stray, f"reaches out of the picture of {W}x{H} pixels"),
        (stray, f"lies outside of the picture of {W}x{H} pixels"),
    )
    faults = []
    for index, (box, label) in enumerate(zip(boxes.xyxy, boxes.classes, strict=True)):
        wrong = " and ".join(text for found, text in kinds if found[index])
        head = f"box {index + 1} of class {label} at {_coordinates(box)} "
        faults.append(head + wrong if wrong else "")
    return faults


def _coordinates(box: np.ndarray) -> str:
    return f"({', '.join(f'{value:g}' for value in box.tolist())})"
