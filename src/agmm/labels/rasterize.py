"""Annotations of one picture to seeds and candidates."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from agmm.errors import ContradictionError, InputError
from agmm.labels.annotations import Annotation, Boxes, Tags
from agmm.labels.boxes import covered, unboxed_classes
from agmm.labels.contradictions import find
from agmm.labels.drawing import draw_all
from agmm.labels.supervision import Supervision
from agmm.shapes import IGNORE_INDEX, MaskArray

_COVERING = ("points", "scribbles")
"""Forms that can say which classes a picture has; blocks show a part of it only."""


def rasterize(
    annotations: Sequence[Annotation],
    size: tuple[int, int],
    num_classes: int,
    *,
    complete: bool,
    background: int | None = None,
) -> Supervision:
    """Draw all annotations of one picture into seeds and candidates.

    Seeds are all the labelled pixels of all forms; outside of the boxes these are background,
    unless the tags name a class that has no box.

    Candidates are all the classes but those that a form excludes. Tags exclude what they do not
    name, except the background. Boxes exclude, where there is a background, everything but the
    background from the pixels outside of them, and from those inside everything but it and the
    classes of the boxes that cover the pixel; a tagged class that has no box stays possible
    everywhere. Where there is no background they exclude nothing, as an object may then be
    anything that has no box. A ``complete`` annotation with a click or a
    stroke leaves only the classes that are labelled in this picture in any form, as ``complete``
    speaks of the annotator's whole work on it; the background stays where tags or boxes imply it.
    Blocks or a dense mask alone exclude nothing, and neither does a picture without any label.

    Args:
        annotations: What was given for the picture, in any mixture of forms, each at most once;
            may be empty.
        size: (H, W) of the picture in pixels.
        num_classes: K, 1..255.
        complete: Whether the annotator clicked or stroked every class that the picture has.
        background: Index of the background, 0..K-1; None if no class is one.

    Returns:
        Seeds (H, W) and candidates: (K, H, W) with boxes and a background, else (K,).

    Raises:
        InputError: ``size``, ``num_classes`` or ``background`` out of range, or a form that comes
            twice.
        DataError: A label that does not fit the picture, as a faulty box, a click outside of it,
            a mask of another size, or a class >= K; see `agmm.labels.drawing.draw`.
        ContradictionError: Two labels that cannot both be true; see `agmm.labels.contradictions`.

    Example:
        >>> from agmm.labels.annotations import Points
        >>> clicks = Points(np.array([[2, 0]]), np.array([1], dtype=np.uint8))
        >>> s = rasterize([clicks], (1, 3), 3, complete=True)
        >>> s.seeds.tolist(), s.candidates.tolist()
        ([[255, 255, 1]], [False, True, False])
        >>> box = Boxes(np.array([[1, 0, 3, 1]]), np.array([2], dtype=np.uint8))
        >>> s = rasterize([box], (1, 3), 3, complete=True, background=0)
        >>> s.seeds.tolist(), s.candidates[:, 0].T.tolist()
        ([[0, 255, 255]], [[True, False, False], [True, False, True], [True, False, True]])
    """
    _validate(annotations, size, num_classes, background)
    drawn = draw_all(annotations, size, num_classes, background)
    for contradiction in find(drawn, background):
        raise ContradictionError(contradiction.message)
    seeds = np.full(size, IGNORE_INDEX, dtype=np.uint8)
    for _, marks in drawn:
        np.minimum(seeds, marks, out=seeds)  # no two classes meet, and 255 is above them all
    boxes = [a for a in annotations if isinstance(a, Boxes)]
    if boxes and background is not None:
        # Whatever the other forms exclude is excluded here too: the rest would contradict them.
        anywhere = (background, *unboxed_classes(annotations, background))
        return Supervision(seeds, _box_candidates(boxes[0], size, num_classes, anywhere))
    candidates = np.ones(num_classes, dtype=np.bool_)
    for tags in (a for a in annotations if isinstance(a, Tags)):
        candidates &= _named([tags], num_classes, background)
    if complete and _covers(drawn):
        drawn_classes = np.bincount(seeds.ravel(), minlength=num_classes)[:num_classes] > 0
        candidates &= drawn_classes | _named(annotations, num_classes, background)
    return Supervision(seeds, candidates)


def _validate(
    annotations: Sequence[Annotation],
    size: tuple[int, int],
    num_classes: int,
    background: int | None,
) -> None:
    if not 1 <= num_classes <= IGNORE_INDEX:
        raise InputError(f"num_classes must be in 1..{IGNORE_INDEX}, but is {num_classes}.")
    if background is not None and not 0 <= background < num_classes:
        raise InputError(
            f"background must be a class 0..{num_classes - 1} or None, but is {background}."
        )
    if min(size) < 1:
        raise InputError(f"size must be (H, W) with at least one pixel, but is {size}.")
    forms = [annotation.form for annotation in annotations]
    for form in forms:
        if forms.count(form) > 1:
            raise InputError(
                f"annotations must have each form at most once, but {form} come"
                f" {forms.count(form)} times. Join them into one."
            )


def _covers(drawn: Sequence[tuple[Annotation, MaskArray]]) -> bool:
    """Whether there is a click or a stroke."""
    return any(a.form in _COVERING and (marks != IGNORE_INDEX).any() for a, marks in drawn)


def _named(
    annotations: Sequence[Annotation], num_classes: int, background: int | None
) -> Bool[np.ndarray, " k"]:
    """Classes that are tagged or in a box, and the background that tags imply."""
    named = np.zeros(num_classes, dtype=np.bool_)
    for annotation in annotations:
        if isinstance(annotation, Tags | Boxes):
            named[annotation.classes] = True
        if isinstance(annotation, Tags) and background is not None:
            named[background] = True
    return named


def _box_candidates(
    boxes: Boxes, size: tuple[int, int], num_classes: int, anywhere: Sequence[int]
) -> Bool[np.ndarray, "k H W"]:
    # Zeros that nobody wrote to take no memory: K planes of a large picture would take much.
    candidates = np.zeros((num_classes, *size), dtype=np.bool_)
    candidates[list(anywhere)] = True
    for label, window in zip(boxes.classes, covered(boxes, size), strict=True):
        candidates[label][window] = True
    return candidates
