"""Boxes to confident foreground: GrabCut in each box."""

import numpy as np
from jaxtyping import Bool, UInt8

from agmm.config import GrabCutConfig
from agmm.labels.annotations import Boxes
from agmm.labels.boxes import Window, covered
from agmm.shapes import IGNORE_INDEX, ImageArray, MaskArray

_CONTEXT_PIXELS = 4
"""Least width of the strip round a small box, so that there is a background to learn from."""

_COMPONENTS = 5
"""Gaussians per colour model in OpenCV's GrabCut; it needs as many pixels of either kind."""


def grabcut_seeds(
    image: ImageArray,
    boxes: Boxes,
    *,
    iterations: int = GrabCutConfig.iterations,
    context: float = GrabCutConfig.context,
    side: int = GrabCutConfig.side,
    least: float = GrabCutConfig.least,
    core: float = GrabCutConfig.core,
) -> MaskArray:
    """Find the pixels of each box that are its object's and not the background's.

    Rother, Kolmogorov and Blake, "GrabCut", SIGGRAPH 2004, as OpenCV has it: two mixtures of
    colours, of the box and of a narrow strip round it, and a minimal cut between them. Every
    box is cut by itself. Where the foreground shrinks to less than ``least`` of the box, or where
    there is nothing round the box to compare with, as when it is the whole picture, the seeds are
    the ellipse in the middle of the box instead. A pixel found for two classes stays unlabelled;
    boxes of one class are united. Nothing is said outside of the boxes.

    Args:
        image: RGB picture, (H, W, 3), uint8.
        boxes: Its boxes, without fault; see `agmm.labels.boxes.box_faults`.
        iterations: Rounds of colour models and cut, at least 1.
        context: Width of the strip on each side of the box, as a share of the box's width or
            height, at least 0; 4 pixels at least. A narrow one tells apart object and what lies
            behind it; a wide one takes in other objects.
        side: Boxes that are larger than this with their strip, in pixels, are cut at this size.
        least: Share of the box, 0 to 1, below which a foreground is not believed.
        core: Axes of the ellipse that is used then, as a share of the box's, 0 to 1.

    Returns:
        (H, W), uint8: classes of the boxes inside of them, 255 everywhere else. The same for the
        same arguments, on any thread and for any order of the boxes.

    Raises:
        DataError: A faulty box.

    Example:
        >>> image = np.full((40, 40, 3), 200, np.uint8)
        >>> image[12:30, 12:30] = 30
        >>> boxes = Boxes(np.array([[8, 8, 34, 34]]), np.array([7], np.uint8))
        >>> seeds = grabcut_seeds(image, boxes)
        >>> bool((seeds[12:30, 12:30] == 7).all()), int((seeds == 7).sum()) == 18 * 18
        (True, True)
    """
    size = image.shape[:2]
    claims: dict[int, Bool[np.ndarray, "H W"]] = {}
    for window, label in zip(covered(boxes, size), boxes.classes.tolist(), strict=True):
        found = _cut(image, window, iterations, context, side)
        if found is None or found.mean() < least:
            found = _ellipse(window, core)
        claims.setdefault(label, np.zeros(size, np.bool_))[window] |= found
    seeds = np.full(size, IGNORE_INDEX, np.uint8)
    claimed = np.zeros(size, np.bool_)
    for label, claim in claims.items():
        seeds[claim] = np.where(claimed[claim], IGNORE_INDEX, label)
        claimed |= claim
    return seeds


def _cut(
    image: ImageArray, window: Window, iterations: int, context: float, side: int
) -> Bool[np.ndarray, "h w"] | None:
    """GrabCut's foreground of one box, or None where it has nothing to work on."""
    import cv2

    outer = tuple(
        slice(max(0, inner.start - width), min(length, inner.stop + width))
        for inner, length, width in zip(
            window, image.shape[:2], _strip_widths(window, context), strict=True
        )
    )
    crop = np.ascontiguousarray(image[outer])
    inside = tuple(
        slice(inner.start - around.start, inner.stop - around.start)
        for inner, around in zip(window, outer, strict=True)
    )
    height, width = crop.shape[:2]
    mask: MaskArray = np.full((height, width), cv2.GC_BGD, np.uint8)
    mask[inside] = cv2.GC_PR_FGD
    scale = side / max(height, width)
    if scale < 1:
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        crop = cv2.resize(crop, small, interpolation=cv2.INTER_AREA).astype(np.uint8)
        mask = cv2.resize(mask, small, interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    if np.bincount(mask.ravel(), minlength=4)[[cv2.GC_BGD, cv2.GC_PR_FGD]].min() < _COMPONENTS:
        return None
    # The start of the colour models is drawn from a generator that each thread has for itself.
    cv2.setRNGSeed(0)
    models = np.zeros((2, 1, 13 * _COMPONENTS))
    cv2.grabCut(crop, mask, (0, 0, 0, 0), models[0], models[1], iterations, cv2.GC_INIT_WITH_MASK)
    found: UInt8[np.ndarray, "h w"] = np.where(mask == cv2.GC_PR_FGD, 255, 0).astype(np.uint8)
    if scale < 1:
        found = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    return found[inside] > 127


def _strip_widths(window: Window, context: float) -> tuple[int, int]:
    rows, columns = (round(context * (part.stop - part.start)) for part in window)
    return max(_CONTEXT_PIXELS, rows), max(_CONTEXT_PIXELS, columns)


def _ellipse(window: Window, core: float) -> Bool[np.ndarray, "h w"]:
    """The pixels whose centre lies in the ellipse in the middle; at least the middle itself."""
    rows, columns = (_offsets(part.stop - part.start) for part in window)
    distances = rows[:, None] ** 2 + columns[None] ** 2
    inside: Bool[np.ndarray, "h w"] = distances <= max(core**2, distances.min())
    return inside


def _offsets(length: int) -> np.ndarray:
    """Centres of the pixels, from the middle of the box = 0 to its edge = 1."""
    return np.abs((2 * np.arange(length) + 1) / length - 1)
