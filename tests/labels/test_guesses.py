"""Guesses fill what the labels leave open, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agmm.errors import DataError
from agmm.labels.guesses import with_guesses
from agmm.labels.supervision import Supervision

K, SIZE = 3, (2, 3)


def row(*values: int) -> np.ndarray:
    return np.array([values], dtype=np.uint8)


def seeds_with(seeds: np.ndarray, candidates: np.ndarray, *guesses: np.ndarray) -> list[int]:
    result = with_guesses(Supervision(seeds, candidates), guesses)
    assert result.candidates is candidates
    flat: list[int] = result.seeds[0].tolist()
    return flat


def test_the_annotator_goes_first() -> None:
    everything = np.ones(K, bool)
    assert seeds_with(row(0, 255, 255), everything, row(1, 1, 255)) == [0, 1, 255]


def test_what_the_candidates_exclude_is_not_guessed() -> None:
    assert seeds_with(row(255, 255), np.array([True, False, True]), row(1, 2)) == [255, 2]
    planes = np.array([[[True, True]], [[True, False]], [[False, True]]])
    assert seeds_with(row(255, 255), planes, row(1, 1)) == [1, 255]


def test_guesses_that_disagree_cancel_out() -> None:
    unlabelled, everything = row(255, 255, 255, 255), np.ones(K, bool)
    first, second = row(0, 0, 2, 255), row(0, 1, 255, 255)
    assert seeds_with(unlabelled, everything, first, second) == [0, 255, 2, 255]
    # A third does not bring the majority back: two tools that disagree are both in doubt.
    assert seeds_with(unlabelled, everything, first, second, first) == [0, 255, 2, 255]


def test_a_guess_that_is_excluded_still_speaks_of_the_pixel() -> None:
    allowed = np.array([True, False, True])
    assert seeds_with(row(255), allowed, row(1), row(2)) == [255]


def test_without_guesses_nothing_changes() -> None:
    given_labels = Supervision(row(0, 255), np.ones(K, bool))
    assert with_guesses(given_labels, []) is given_labels


@pytest.mark.parametrize(
    ("guess", "message"),
    [
        (row(0, 0, 0), r"\(1, 3\) pixels \(rows, columns\), but the picture has \(1, 2\)"),
        (row(7, 255), r"class 7 on 1 pixels, but there are 3 classes"),
    ],
)
def test_guesses_that_do_not_fit_are_refused(guess: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        with_guesses(Supervision(row(255, 255), np.ones(K, bool)), [guess])


MASKS = hnp.arrays(np.uint8, SIZE, elements=st.sampled_from([0, 1, 2, 255]))


@given(MASKS, hnp.arrays(bool, (K, *SIZE)), st.lists(MASKS, max_size=4))
def test_against_a_slow_loop(
    seeds: np.ndarray, candidates: np.ndarray, guesses: list[np.ndarray]
) -> None:
    candidates[0] = True
    for y, x in np.argwhere(seeds != 255):
        candidates[seeds[y, x], y, x] = True

    result = with_guesses(Supervision(seeds, candidates), guesses)

    for y, x in np.ndindex(SIZE):
        said = {int(guess[y, x]) for guess in guesses} - {255}
        expected = int(seeds[y, x])
        if expected == 255 and len(said) == 1:
            (label,) = said
            expected = label if candidates[label, y, x] else 255
        assert result.seeds[y, x] == expected
