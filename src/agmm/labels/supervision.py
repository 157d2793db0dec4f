"""Seeds and candidates: the one representation that every form of label becomes.

Seeds are the pixels whose class is known, candidates the classes that may occur at a pixel.
Two invariants hold for every `Supervision`: a seed is among the candidates of its pixel, and
every pixel has at least one candidate.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from agmm.errors import ContradictionError, InputError
from agmm.labels.resizing import resize_candidates, resize_seeds
from agmm.shapes import IGNORE_INDEX, MaskArray

__all__ = ["Supervision", "crop", "hflip", "merge", "resize", "resize_seeds"]

Candidates = Bool[np.ndarray, " k"] | Bool[np.ndarray, "k H W"]


@dataclass(frozen=True, eq=False)
class Supervision:
    """What is known about one picture.

    Args:
        seeds: (H, W), uint8, the class where it is known, 255 = unlabelled.
        candidates: (K,) or (K, H, W), bool, the classes that may occur, in the whole picture or
            pixel by pixel.

    Raises:
        InputError: Arrays of a wrong shape or type, or a seed that is no class 0..K-1.
        ContradictionError: A seed that its candidates exclude, or a pixel without a candidate.

    Example:
        >>> seeds = np.array([[1, 255]], dtype=np.uint8)
        >>> Supervision(seeds, np.array([False, True])).num_classes
        2
    """

    seeds: MaskArray
    candidates: Candidates

    def __post_init__(self) -> None:
        _validate_arrays(self.seeds, self.candidates)
        excluded = _first_excluded(self.seeds, self.candidates)
        if excluded is not None:
            x, y = excluded
            raise ContradictionError(
                f"the pixel x={x}, y={y} is labelled as class {self.seeds[y, x]}, which the"
                " candidates exclude there. Correct the label, or allow the class."
            )
        _reject_pixel_without_candidate(self.candidates)

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.candidates)


def merge(
    a: Supervision, b: Supervision, *, sources: tuple[str, str] = ("the first", "the second")
) -> Supervision:
    """Unite the seeds of two supervisions of one picture and intersect their candidates.

    Args:
        a: One supervision.
        b: The other, of the same size and number of classes.
        sources: What to call ``a`` and ``b`` in messages: a form of label, or a file.

    Returns:
        Everything that both say. The order of ``a`` and ``b`` does not matter.

    Raises:
        InputError: Different sizes or numbers of classes.
        ContradictionError: Both cannot be true; nothing is resolved in silence.

    Example:
        >>> anything = np.array([True, True])
        >>> a = Supervision(np.array([[0, 255]], dtype=np.uint8), anything)
        >>> b = Supervision(np.array([[255, 1]], dtype=np.uint8), anything)
        >>> merge(a, b).seeds.tolist()
        [[0, 1]]
    """
    if a.seeds.shape != b.seeds.shape or a.num_classes != b.num_classes:
        raise InputError(
            f"merge needs two supervisions of one picture, but {sources[0]} has"
            f" {a.num_classes} classes on {a.seeds.shape} pixels and {sources[1]} has"
            f" {b.num_classes} on {b.seeds.shape}."
        )
    both = (a.seeds != IGNORE_INDEX) & (b.seeds != IGNORE_INDEX)
    clash = _first_true(both & (a.seeds != b.seeds))
    if clash is not None:
        x, y = clash
        raise ContradictionError(
            f"the pixel x={x}, y={y} is class {a.seeds[y, x]} in {sources[0]} and class"
            f" {b.seeds[y, x]} in {sources[1]}. Correct one of them."
        )
    _reject_exclusion(a, b, sources)
    _reject_exclusion(b, a, sources[::-1])
    candidates = _as_planes(a.candidates, b) & _as_planes(b.candidates, a)
    try:
        _reject_pixel_without_candidate(candidates)
    except ContradictionError as error:
        raise ContradictionError(f"{sources[0]} and {sources[1]}: {error}") from None
    return Supervision(np.where(a.seeds != IGNORE_INDEX, a.seeds, b.seeds), candidates)


def crop(s: Supervision, top: int, left: int, height: int, width: int) -> Supervision:
    """Cut a window out of a supervision.

    Args:
        s: The supervision of the whole picture.
        top: First row of the window, >= 0.
        left: First column, >= 0.
        height: Rows, >= 1.
        width: Columns, >= 1.

    Returns:
        A copy of the window.

    Raises:
        InputError: The window is empty or reaches outside of the picture.

    Example:
        >>> s = Supervision(np.array([[255, 0]], dtype=np.uint8), np.array([True]))
        >>> crop(s, 0, 1, 1, 1).seeds.tolist()
        [[0]]
    """
    H, W = s.seeds.shape
    inside = 0 <= top < top + height <= H and 0 <= left < left + width <= W
    if not inside:
        raise InputError(
            f"crop: the window of {height}x{width} at row {top}, column {left} does not lie inside"
            f" the picture of {H}x{W} pixels (rows x columns)."
        )
    window = np.s_[..., top : top + height, left : left + width]
    candidates = s.candidates if s.candidates.ndim == 1 else s.candidates[window]
    return Supervision(s.seeds[window].copy(), candidates.copy())


def hflip(s: Supervision) -> Supervision:
    """Mirror a supervision, left to right.

    Args:
        s: The supervision.

    Returns:
        A mirrored copy.

    Example:
        >>> s = Supervision(np.array([[255, 0]], dtype=np.uint8), np.array([True]))
        >>> hflip(s).seeds.tolist()
        [[0, 255]]
    """
    candidates = s.candidates if s.candidates.ndim == 1 else s.candidates[..., ::-1]
    # Copies: torch.from_numpy refuses the negative strides of a mirrored view.
    return Supervision(s.seeds[:, ::-1].copy(), candidates.copy())


def resize(s: Supervision, height: int, width: int) -> Supervision:
    """Resize a supervision so that no labelled class is lost; see `resize_seeds`.

    Args:
        s: The supervision.
        height: Rows of the result, >= 1.
        width: Columns of the result, >= 1.

    Returns:
        The resized supervision; where it shrinks, a target pixel may have the candidates of all
        the source pixels in it.

    Raises:
        InputError: A side below 1.

    Example:
        >>> s = Supervision(np.array([[255, 255, 255, 0]], dtype=np.uint8), np.array([True]))
        >>> resize(s, 1, 2).seeds.tolist()
        [[255, 0]]
    """
    seeds = resize_seeds(s.seeds, height, width)
    if s.candidates.ndim == 1:
        return Supervision(seeds, s.candidates.copy())
    return Supervision(seeds, resize_candidates(s.candidates, height, width))


def _validate_arrays(seeds: np.ndarray, candidates: np.ndarray) -> None:
    if seeds.ndim != 2 or seeds.dtype != np.uint8 or seeds.size == 0:
        raise InputError(
            "Supervision.seeds must be uint8 of shape (H, W) with at least one pixel, but is"
            f" {seeds.dtype} of shape {seeds.shape}."
        )
    fits = candidates.ndim == 1 or (candidates.ndim == 3 and candidates.shape[1:] == seeds.shape)
    if not fits or candidates.dtype != np.bool_ or not 1 <= len(candidates) <= IGNORE_INDEX:
        raise InputError(
            f"Supervision.candidates must be bool of shape (K,) or (K, {seeds.shape[0]},"
            f" {seeds.shape[1]}) with K in 1..{IGNORE_INDEX}, but is {candidates.dtype} of shape"
            f" {candidates.shape}."
        )
    present = np.flatnonzero(np.bincount(seeds.ravel(), minlength=256)[:IGNORE_INDEX])
    if present.size and present[-1] >= len(candidates):
        raise InputError(
            f"Supervision.seeds has class {present[-1]}, but there are {len(candidates)} classes"
            f" (0..{len(candidates) - 1}; {IGNORE_INDEX} = unlabelled)."
        )


def _first_true(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int] | None:
    """Find the first pixel (x, y) in reading order where ``mask`` is true."""
    index = int(mask.argmax())
    y, x = divmod(index, mask.shape[1])
    return (x, y) if mask[y, x] else None


def _first_excluded(seeds: MaskArray, candidates: Candidates) -> tuple[int, int] | None:
    """Find the first seed (x, y) that is not among its candidates."""
    if candidates.ndim == 1:
        allowed = np.ones(256, dtype=np.bool_)
        allowed[: len(candidates)] = candidates
        return _first_true(~allowed[seeds])
    excluded = np.zeros(seeds.shape, dtype=np.bool_)
    for label in np.flatnonzero(np.bincount(seeds.ravel(), minlength=256)[:IGNORE_INDEX]):
        excluded |= (seeds == label) & ~candidates[label]
    return _first_true(excluded)


def _reject_pixel_without_candidate(candidates: Candidates) -> None:
    if any(plane.all() for plane in candidates):
        return  # the usual case, such as a background that may be anywhere; ends at its plane
    possible = candidates.any(axis=0)
    if possible.all():
        return
    where = "in the picture"
    if possible.ndim:
        pixel = _first_true(np.asarray(~possible))
        where = "" if pixel is None else f"at the pixel x={pixel[0]}, y={pixel[1]}"
    raise ContradictionError(
        f"no class is left as a candidate {where}. Correct the labels that exclude each other."
    )


def _reject_exclusion(a: Supervision, b: Supervision, sources: tuple[str, str]) -> None:
    """Refuse a seed of ``a`` that the candidates of ``b`` exclude."""
    excluded = _first_excluded(a.seeds, b.candidates)
    if excluded is not None:
        x, y = excluded
        allowed = np.flatnonzero(b.candidates[(slice(None), y, x)[: b.candidates.ndim]])
        raise ContradictionError(
            f"the pixel x={x}, y={y} is class {a.seeds[y, x]} in {sources[0]}, which"
            f" {sources[1]} excludes: it allows {allowed.tolist()}. Correct one of them."
        )


def _as_planes(candidates: Candidates, other: Supervision) -> Candidates:
    """Give (K,) two more axes where the other's candidates have them."""
    if candidates.ndim == 1 and other.candidates.ndim == 3:
        return candidates[:, None, None]
    return candidates
