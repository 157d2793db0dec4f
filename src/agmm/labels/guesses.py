"""Seeds that no annotator gave, such as those from class activation maps or GrabCut."""

from collections.abc import Sequence

import numpy as np

from agmm.errors import DataError
from agmm.labels.supervision import Supervision
from agmm.shapes import IGNORE_INDEX, MaskArray


def with_guesses(given: Supervision, guesses: Sequence[MaskArray]) -> Supervision:
    """Add guessed seeds where they contradict neither the annotator nor each other.

    A guess is taken where the annotator labelled nothing, the candidates allow it, and all the
    guesses that speak of the pixel say the same. A guess that is not taken leaves no trace: the
    pixel stays unlabelled.

    Args:
        given: What the annotator said, (H, W).
        guesses: Any number of masks (H, W), uint8, 255 = unlabelled.

    Returns:
        ``given`` with more seeds; its own seeds and its candidates are unchanged.

    Raises:
        DataError: A guess has another size or an unknown class.

    Example:
        >>> given = Supervision(np.array([[0, 255, 255]], np.uint8), np.array([True, True, False]))
        >>> with_guesses(given, [np.array([[1, 1, 2]], np.uint8)]).seeds.tolist()
        [[0, 1, 255]]
    """
    if not guesses:
        return given
    # The lowest and the highest class said of a pixel; +1 wraps 255 round to below every class.
    lowest = np.full_like(given.seeds, IGNORE_INDEX)
    highest = np.zeros_like(given.seeds)
    for guess in guesses:
        _refuse_misfit(guess, given)
        np.minimum(lowest, guess, out=lowest)
        np.maximum(highest, guess + np.uint8(1), out=highest)
    agreed = np.where(lowest + np.uint8(1) == highest, lowest, np.uint8(IGNORE_INDEX))
    seeds = given.seeds.copy()
    for label in np.flatnonzero(np.bincount(agreed.ravel(), minlength=256)[:IGNORE_INDEX]):
        taken = (agreed == label) & given.candidates[label] & (given.seeds == IGNORE_INDEX)
        seeds[taken] = label
    return Supervision(seeds, given.candidates)


def _refuse_misfit(guess: MaskArray, given: Supervision) -> None:
    known = given.num_classes
    if guess.shape != given.seeds.shape:
        raise DataError(
            f"guessed seeds: {guess.shape} pixels (rows, columns), but the picture has"
            f" {given.seeds.shape}. Make them again for this picture."
        )
    wrong = guess[(guess >= known) & (guess != IGNORE_INDEX)]
    if wrong.size:
        raise DataError(
            f"guessed seeds: class {wrong[0]} on {wrong.size} pixels, but there are {known} classes"
            f" (0..{known - 1}; {IGNORE_INDEX} = unlabelled). Make them again for these classes."
        )
