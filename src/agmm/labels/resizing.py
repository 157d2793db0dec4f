"""Resizing labels so that a single clicked pixel is never lost.

Nearest-neighbour sampling would drop most clicks: at a quarter of the size it looks at one pixel
in sixteen. Here every labelled source pixel is carried to the target pixel that its centre falls
into, and the labelled pixels in one target pixel vote.
"""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int, UInt8

from agmm.errors import InputError
from agmm.shapes import IGNORE_INDEX, MaskArray


def resize_seeds(
    seeds: MaskArray, height: int, width: int
) -> UInt8[np.ndarray, "{height} {width}"]:
    """Resize an index map of sparse labels; every class that it has survives where possible.

    An axis that grows takes the nearest pixel. Along an axis that shrinks, source row i goes to
    target row floor((i + ½)·new/old), columns likewise. A target pixel takes the majority class
    of the labelled source pixels in it; a tie goes to the class that is rarer in the source, then
    to the lower index. A class that lost every vote then gets one of the target pixels of its own
    source pixels, where it has the most votes, from a class that has another one. Classes are
    lost only where there are too few target pixels for all of them.

    Unlabelled pixels have no vote. So for dense masks and blocks an unlabelled border grows
    thinner by up to one target pixel; it is never the other way, that a label is lost.

    Args:
        seeds: (H, W), uint8, class index or 255 = unlabelled.
        height: Rows of the result, >= 1.
        width: Columns of the result, >= 1.

    Returns:
        (height, width), uint8, class index or 255 = unlabelled. The same input gives the same
        result, and a class in a result pixel is a class of a source pixel that falls into it.

    Raises:
        InputError: A side below 1.

    Example:
        >>> click = np.full((4, 4), 255, dtype=np.uint8)
        >>> click[1, 2] = 9
        >>> resize_seeds(click, 2, 2).tolist()
        [[255, 9], [255, 255]]
    """
    H, W = seeds.shape
    _check_size(height, width)
    rows, columns = min(H, height), min(W, width)
    if (rows, columns) != (H, W):
        seeds = _shrink(seeds, rows, columns)
    resized: np.ndarray = seeds[_nearest(rows, height)[:, None], _nearest(columns, width)]
    return resized


def resize_candidates(
    candidates: Bool[np.ndarray, "k H W"], height: int, width: int
) -> Bool[np.ndarray, "k {height} {width}"]:
    """Resize candidates by pixel together with seeds that `resize_seeds` resizes.

    Args:
        candidates: (K, H, W), bool.
        height: Rows of the result, >= 1.
        width: Columns of the result, >= 1.

    Returns:
        (K, height, width), bool: the classes that any of the source pixels in a target pixel
        allows, so that no surviving seed is excluded; the nearest pixel's where an axis grows.

    Raises:
        InputError: A side below 1.

    Example:
        >>> resize_candidates(np.array([[[True, False]], [[False, False]]]), 1, 1).tolist()
        [[[True]], [[False]]]
    """
    _check_size(height, width)
    return _resize_axis(_resize_axis(candidates, height, 1), width, 2)


def _resize_axis(
    candidates: Bool[np.ndarray, "k H W"], new: int, axis: int
) -> Bool[np.ndarray, "k h w"]:
    old = candidates.shape[axis]
    if new >= old:
        return candidates.take(_nearest(old, new), axis)
    first = _starts(old, new)
    last = np.append(first[1:], old) - 1
    result = candidates.take(first, axis)
    # The n-th source index of every target index at once: logical_or.reduceat takes five times
    # as long, as most target indices have one or two.
    for step in range(1, int((last - first).max()) + 1):
        result |= candidates.take(np.minimum(first + step, last), axis)
    return result


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise InputError(
            f"resize: the target must have at least one pixel, but is {height}x{width}"
            " (rows x columns)."
        )


def _nearest(old: int, new: int) -> Int[np.ndarray, " new"]:
    """Source index of each target index when an axis grows; in whole numbers, so exact."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def _target(old: int, new: int) -> Int[np.ndarray, " old"]:
    """Target index of each source index when an axis shrinks: floor((i + ½)·new/old)."""
    return (2 * np.arange(old) + 1) * new // (2 * old)


def _starts(old: int, new: int) -> Int[np.ndarray, " new"]:
    """First source index of each target index; every target index has one as new <= old."""
    return np.searchsorted(_target(old, new), np.arange(new))


def _shrink(seeds: MaskArray, height: int, width: int) -> UInt8[np.ndarray, "{height} {width}"]:
    """Reduce (H, W) to (height, width), neither larger than before.

    Only labelled pixels are looked at one by one, which are few in most forms of label.
    """
    H, W = seeds.shape
    labelled = seeds != IGNORE_INDEX
    labels = seeds[labelled]
    cells = (_target(H, height)[:, None] * width + _target(W, width))[labelled]
    flat = np.full(height * width, IGNORE_INDEX, dtype=np.uint8)
    flat[cells] = labels
    contested = np.zeros(height * width, dtype=np.bool_)
    contested[cells[flat[cells] != labels]] = True
    voters = contested[cells]
    if voters.any():  # else no cell has two classes, so that none was lost
        pixels = np.bincount(labels, minlength=IGNORE_INDEX)
        _vote(flat, cells[voters], labels[voters], pixels)
        _rescue(flat, cells, labels, pixels)
    return flat.reshape(height, width)


def _vote(
    flat: UInt8[np.ndarray, " n"],
    cells: Int[np.ndarray, " voters"],
    labels: UInt8[np.ndarray, " voters"],
    pixels: Int[np.ndarray, " classes"],
) -> None:
    """Write the majority class into the cells of these labelled pixels; the rarer wins a tie."""
    ballots, votes = np.unique(cells * 256 + labels, return_counts=True)
    cells, classes = ballots // 256, ballots % 256
    order = np.lexsort((classes, pixels[classes], -votes, cells))
    cells, first = np.unique(cells[order], return_index=True)
    flat[cells] = classes[order[first]]


def _rescue(
    flat: UInt8[np.ndarray, " n"],
    cells: Int[np.ndarray, " labelled"],
    labels: UInt8[np.ndarray, " labelled"],
    pixels: Int[np.ndarray, " classes"],
) -> None:
    """Give every class that lost all votes a cell of its own pixels, if there are enough cells.

    The rarest class comes first. This is bipartite matching of classes to cells by augmenting
    paths (Kuhn 1955), so a class is left out only if no choice of cells could keep all.
    """

    @functools.cache
    def cells_of(label: int) -> Int[np.ndarray, " cells"]:
        own, votes = np.unique(cells[labels == label], return_counts=True)
        return own[np.argsort(-votes, kind="stable")]

    owned = np.bincount(flat, minlength=IGNORE_INDEX + 1)
    lost = np.flatnonzero((pixels > 0) & (owned[:IGNORE_INDEX] == 0))
    for label in lost[np.argsort(pixels[lost], kind="stable")].tolist():
        _claim(label, flat, owned, cells_of, set())


def _claim(
    label: int,
    flat: UInt8[np.ndarray, " n"],
    owned: Int[np.ndarray, " classes"],
    cells_of: Callable[[int], np.ndarray],
    visited: set[int],
) -> bool:
    """Take a cell for ``label`` whose owner keeps another one, or can claim another one."""
    cells = cells_of(label)
    cells = cells[flat[cells] != label]
    spare = owned[flat[cells]] > 1
    # A cell that its owner can spare comes first; the others number fewer than the classes.
    for index in np.concatenate([cells[spare][:1], cells[~spare]]).tolist():
        owner = int(flat[index])
        if index in visited:
            continue
        visited.add(index)
        if owned[owner] > 1 or _claim(owner, flat, owned, cells_of, visited):
            owned[owner] -= 1
            owned[label] += 1
            flat[index] = label
            return True
    return False
