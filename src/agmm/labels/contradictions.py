"""Labels of one picture that cannot all be true, found between every two forms."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool

from agmm.labels.annotations import Annotation, Boxes, Points, Tags
from agmm.labels.boxes import covered, unboxed_classes
from agmm.labels.drawing import clicked_pixels, draw_all
from agmm.labels.forms import Form
from agmm.shapes import IGNORE_INDEX, MaskArray


@dataclass(frozen=True)
class Contradiction:
    """Where two forms of label of one picture disagree.

    Args:
        x: Column of the first pixel in reading order; of the centre, if it is a box.
        y: Its row.
        sources: The two forms; twice the same if one contradicts itself.
        pixels: How many pixels are concerned.
        message: The same in words, with the classes and the remedy.
    """

    x: int
    y: int
    sources: tuple[Form, Form]
    pixels: int
    message: str


def contradictions(
    annotations: Sequence[Annotation],
    size: tuple[int, int],
    num_classes: int,
    *,
    background: int | None,
) -> tuple[Contradiction, ...]:
    """Find every two forms of label of a picture that cannot both be true.

    These are two classes on one pixel, a class that the tags do not name, and a class outside of
    the boxes of this class where there is a background, since nothing else lies there; a class that
    is tagged and has no box can be anywhere.

    Args:
        annotations: What was given for the picture; each form at most once.
        size: (H, W) of the picture in pixels.
        num_classes: K, 1..255.
        background: Index of the background; None if no class is one.

    Returns:
        One for each two forms that disagree; none if all can be true.

    Raises:
        DataError: A label does not fit the picture; see `agmm.labels.drawing.draw`.

    Example:
        >>> click = Points(np.array([[2, 0]]), np.array([1], dtype=np.uint8))
        >>> (found,) = contradictions(
        ...     [click, Tags(np.array([2], dtype=np.uint8))], (1, 3), 3, background=0
        ... )
        >>> found.x, found.y, found.sources, found.pixels
        (2, 0, ('points', 'tags'), 1)
    """
    return tuple(find(draw_all(annotations, size, num_classes, background), background))


def find(
    drawn: Sequence[tuple[Annotation, MaskArray]], background: int | None
) -> Iterator[Contradiction]:
    """As `contradictions`, for annotations that are drawn already, one after the other.

    Args:
        drawn: The annotations, as `agmm.labels.drawing.draw_all` gives them.
        background: Index of the background; None if no class is one.

    Yields:
        The contradictions.
    """
    for annotation, seeds in drawn:
        if isinstance(annotation, Points):
            yield from _within(annotation, seeds)
    unboxed = unboxed_classes([annotation for annotation, _ in drawn], background)
    for pair in combinations(drawn, 2):
        # The form that only restricts the others comes last: marks, then boxes, then tags.
        (a, marks), (b, others) = sorted(pair, key=lambda item: _rank(item[0]))
        if isinstance(b, Tags):
            allowed = _named(b, background)
            if isinstance(a, Boxes):
                yield from _untagged_boxes(a, marks.shape, allowed)
            else:
                yield from _excluded(a, b, marks, ~allowed[marks], "which the tags do not name")
        elif isinstance(b, Boxes):
            why = "but no box of this class covers it, and background is outside of the boxes"
            yield from _excluded(a, b, marks, _outside(marks, b, background, unboxed), why)
        else:
            yield from _clash(a, b, marks, others)


def _rank(annotation: Annotation) -> int:
    return 2 if isinstance(annotation, Tags) else int(isinstance(annotation, Boxes))


def _within(points: Points, seeds: MaskArray) -> Iterator[Contradiction]:
    """Clicks with another class than the last one on their pixel, which was drawn."""
    columns, rows = clicked_pixels(points).astype(np.int64).T
    clash = np.zeros(seeds.shape, dtype=np.bool_)
    differs = seeds[rows, columns] != points.classes
    clash[rows[differs], columns[differs]] = True
    for x, y, pixels in _first(clash):
        classes = points.classes[(columns == x) & (rows == y) & differs]
        text = f"is clicked as class {classes[0]} and as class {seeds[y, x]} in points"
        yield _contradiction(x, y, ("points", "points"), pixels, f"the pixel x={x}, y={y} {text}")


def _clash(
    a: Annotation, b: Annotation, marks: MaskArray, others: MaskArray
) -> Iterator[Contradiction]:
    both = (marks != IGNORE_INDEX) & (others != IGNORE_INDEX)
    for x, y, pixels in _first(both & (marks != others)):
        text = f"is class {marks[y, x]} in {a.form} and class {others[y, x]} in {b.form}"
        yield _contradiction(x, y, (a.form, b.form), pixels, f"the pixel x={x}, y={y} {text}")


def _excluded(
    a: Annotation, b: Annotation, marks: MaskArray, excluded: Bool[np.ndarray, "H W"], why: str
) -> Iterator[Contradiction]:
    for x, y, pixels in _first(excluded):
        text = f"is class {marks[y, x]} in {a.form}, {why}"
        yield _contradiction(x, y, (a.form, b.form), pixels, f"the pixel x={x}, y={y} {text}")


def _untagged_boxes(
    boxes: Boxes, size: tuple[int, ...], allowed: Bool[np.ndarray, " 256"]
) -> Iterator[Contradiction]:
    H, W = size
    untagged = np.zeros((H, W), dtype=np.bool_)
    centres = []
    for label, (rows, columns) in zip(boxes.classes, covered(boxes, (H, W)), strict=True):
        if not allowed[label]:
            untagged[rows, columns] = True
            x, y = (columns.start + columns.stop - 1) // 2, (rows.start + rows.stop - 1) // 2
            centres.append((x, y, label))
    if centres:
        x, y, label = centres[0]
        what = f"the box round the pixel x={x}, y={y} is class {label} in boxes"
        what += ", which the tags do not name"
        yield _contradiction(x, y, ("boxes", "tags"), int(untagged.sum()), what)


def _named(tags: Tags, background: int | None) -> Bool[np.ndarray, " 256"]:
    """For each value of a mask whether it can be in a picture with these tags."""
    allowed = np.zeros(256, dtype=np.bool_)
    allowed[[IGNORE_INDEX, *tags.classes, *([] if background is None else [background])]] = True
    return allowed


def _outside(
    marks: MaskArray, boxes: Boxes, background: int | None, unboxed: Sequence[int]
) -> Bool[np.ndarray, "H W"]:
    """Labelled pixels neither of what needs no box nor covered by a box of their class."""
    if background is None:
        return np.zeros(marks.shape, dtype=np.bool_)
    height, width = marks.shape
    outside: np.ndarray = ~np.isin(marks, [IGNORE_INDEX, background, *unboxed])
    for label, window in zip(boxes.classes, covered(boxes, (height, width)), strict=True):
        outside[window] &= marks[window] != label
    return outside


def _first(wrong: Bool[np.ndarray, "H W"]) -> Iterator[tuple[int, int, int]]:
    """Give x and y of the first true pixel in reading order and their number, if there is any."""
    y, x = divmod(int(wrong.argmax()), wrong.shape[1])
    if wrong[y, x]:
        yield x, y, int(np.count_nonzero(wrong))


def _contradiction(
    x: int, y: int, sources: tuple[Form, Form], pixels: int, what: str
) -> Contradiction:
    count = "1 pixel disagrees" if pixels == 1 else f"{pixels} pixels disagree"
    return Contradiction(x, y, sources, pixels, f"{what} ({count}). Correct one of them.")
