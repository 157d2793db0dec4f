"""Counts of seeds against dense masks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agmm.errors import InputError
from agmm.evaluation.seed_quality import SeedQuality, seed_quality

MASKS = hnp.arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 1, 2, 255]))


def test_hand_worked_figures() -> None:
    # Of 7 pixels with truth 5 are seeds, 3 of them right; the last pixel does not count.
    seeds = np.array([[0, 1, 1, 2, 255, 0, 255, 2]], np.uint8)
    truth = np.array([[0, 1, 0, 1, 1, 0, 0, 255]], np.uint8)

    quality = seed_quality(seeds, truth, 4)

    assert quality.labelled.tolist() == [2, 2, 1, 0]
    assert quality.correct.tolist() == [2, 1, 0, 0]
    assert quality.covered.tolist() == [3, 2, 0, 0, 0]
    assert quality.truth.tolist() == [4, 3, 0, 0, 0]
    assert quality.precision() == 3 / 5
    assert quality.coverage() == 5 / 7
    assert quality.recall() == 3 / 7
    assert quality.precision([1, 2, 3]) == 1 / 3
    assert quality.coverage([1, 2, 3]) == 2 / 3
    assert quality.recall([1, 2, 3]) == 1 / 3
    assert quality.precision([2]) == 0
    assert math.isnan(quality.precision([3]))
    assert math.isnan(quality.coverage([3]))


@given(st.lists(st.tuples(MASKS, MASKS), min_size=1, max_size=4))
@settings(deadline=None)
def test_pictures_add_up_and_match_a_slow_count(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    total = SeedQuality(*(np.zeros(length, np.int64) for length in (3, 3, 4, 4)))
    for seeds, truth in pairs:
        total = total + seed_quality(seeds, truth, 3)

    pixels = [
        (int(seed), int(true))
        for seeds, truth in pairs
        for seed, true in zip(seeds.ravel(), truth.ravel(), strict=True)
        if true != 255
    ]
    for k in range(3):
        assert total.labelled[k] == sum(seed == k for seed, _ in pixels)
        assert total.correct[k] == sum(seed == true == k for seed, true in pixels)
        assert total.covered[k] == sum(true == k and seed != 255 for seed, true in pixels)
        assert total.truth[k] == sum(true == k for _, true in pixels)
    assert total.labelled.sum() == total.covered.sum()


@pytest.mark.usefixtures("without_type_checks")
def test_wrong_arguments_are_named() -> None:
    mask = np.zeros((2, 2), np.uint8)
    with pytest.raises(InputError, match=r"seeds: expected the shape of truth, \(2, 2\), got"):
        seed_quality(mask[:1], mask, 2)
    with pytest.raises(InputError, match="truth: expected classes from 0 to 1 or 255, got 2"):
        seed_quality(mask, mask + np.uint8(2), 2)


def test_pictures_without_a_dense_mask_count_for_the_coverage_only() -> None:
    seeds, truth = np.array([[0, 1, 255, 255]], np.uint8), np.array([[0, 0, 0, 0]], np.uint8)
    known = seed_quality(seeds, truth, 2)

    both = known + seed_quality(np.array([[1, 1, 1, 255]], np.uint8), None, 2)

    assert both.coverage() == 5 / 8
    assert both.coverage([0]) == known.coverage([0]) == 1 / 2
    assert both.precision() == known.precision() == 1 / 2
    assert both.recall() == known.recall() == 1 / 4
