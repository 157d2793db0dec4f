"""Counts of seeds against dense masks."""

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agmm.errors import InputError
from agmm.evaluation.calibration import THRESHOLDS
from agmm.evaluation.confusion import confusion_matrix, scores
from agmm.evaluation.label_quality import (
    LabelQuality,
    PseudoLabelQuality,
    label_quality,
    pseudo_label_quality,
)

MASKS = hnp.arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 1, 2, 255]))


def test_hand_worked_figures() -> None:
    # Of 7 pixels with truth 5 are seeds, 3 of them right; the last pixel does not count.
    seeds = np.array([[0, 1, 1, 2, 255, 0, 255, 2]], np.uint8)
    truth = np.array([[0, 1, 0, 1, 1, 0, 0, 255]], np.uint8)

    quality = label_quality(seeds, truth, 4)

    assert quality.counts[:2].tolist() == [[2, 1, 0, 0, 1], [0, 1, 1, 0, 1]]
    assert quality.counts.sum() == 7
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
def test_pictures_add_up_and_match_a_slow_count(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    total = LabelQuality(np.zeros((4, 4), np.int64))
    for seeds, truth in pairs:
        total = total + label_quality(seeds, truth, 3)

    pixels = [
        (int(seed), int(true))
        for seeds, truth in pairs
        for seed, true in zip(seeds.ravel(), truth.ravel(), strict=True)
        if true != 255
    ]
    for k in range(3):
        for label in range(3):
            assert total.counts[k, label] == sum((label, k) == pixel for pixel in pixels)
        assert total.counts[k, 3] == sum((255, k) == pixel for pixel in pixels)
    assert total.counts[3].sum() == 0


@pytest.mark.usefixtures("without_type_checks")
def test_wrong_arguments_are_named() -> None:
    mask = np.zeros((2, 2), np.uint8)
    with pytest.raises(InputError, match=r"labels: expected the shape of truth, \(2, 2\), got"):
        label_quality(mask[:1], mask, 2)
    with pytest.raises(InputError, match="truth: expected classes from 0 to 1 or 255, got 2"):
        label_quality(mask, mask + np.uint8(2), 2)


def test_pictures_without_a_dense_mask_count_for_the_coverage_only() -> None:
    seeds, truth = np.array([[0, 1, 255, 255]], np.uint8), np.array([[0, 0, 0, 0]], np.uint8)
    known = label_quality(seeds, truth, 2)

    both = known + label_quality(np.array([[1, 1, 1, 255]], np.uint8), None, 2)

    assert both.coverage() == 5 / 8
    assert both.coverage([0]) == known.coverage([0]) == 1 / 2
    assert both.precision() == known.precision() == 1 / 2
    assert both.recall() == known.recall() == 1 / 4


def test_an_unlabelled_pixel_is_left_out_or_wrong() -> None:
    # Class 0: one found, one unlabelled; class 1: two found; class 2 is nowhere.
    labels = np.array([[0, 255, 1, 1]], np.uint8)
    truth = np.array([[0, 0, 1, 1]], np.uint8)

    quality = label_quality(labels, truth, 3)

    assert quality.scores().iou[:2] == (1, 1)
    assert quality.scores().miou == quality.scores().pixel_accuracy == 1
    strict = quality.scores(unlabelled_is_wrong=True)
    assert strict.iou[:2] == (0.5, 1)
    assert math.isnan(strict.iou[2])
    assert (strict.miou, strict.pixel_accuracy, strict.mean_accuracy) == (0.75, 0.75, 0.75)


@given(MASKS, MASKS)
def test_scores_are_those_of_the_labelled_pixels(labels: np.ndarray, truth: np.ndarray) -> None:
    hidden = np.where(labels == 255, np.uint8(255), truth)
    shown = np.where(labels == 255, np.uint8(0), labels)
    confusion = confusion_matrix(torch.from_numpy(shown), torch.from_numpy(hidden).long(), 3)

    quality = label_quality(labels, truth, 3)

    assert quality.scores().iou == pytest.approx(scores(confusion).iou, nan_ok=True)
    strict = quality.scores(unlabelled_is_wrong=True)
    for loose, hard in zip(quality.scores().iou, strict.iou, strict=True):
        assert hard <= loose or math.isnan(loose)
    assert strict.pixel_accuracy == pytest.approx(quality.recall(), nan_ok=True)


def pseudo(
    labels: list[int], confidence: list[float], truth: list[int], annotated: list[int], at: float
) -> PseudoLabelQuality:
    rows = (np.array([row], np.uint8) for row in (labels, truth, annotated))
    shown, true, clicks = rows
    values = np.array([confidence], np.float32)
    return pseudo_label_quality(shown, values, true, 3, annotated=clicks, threshold=at)


def test_pseudo_labels_by_hand() -> None:
    # Annotated, right, right but unsure, wrong, truth unknown, no label at all.
    quality = pseudo(
        [2, 0, 1, 1, 0, 255],
        [1.0, 0.9, 0.5, 0.7, 0.9, 0.0],
        [2, 0, 1, 0, 255, 1],
        [2, 255, 255, 255, 255, 255],
        at=0.6,
    )

    # Written: 2 of 2, 0 of 0, 1 of 0; two pixels of class 1 are left unlabelled.
    assert quality.written.coverage() == 3 / 5
    assert quality.written.precision() == 2 / 3
    assert quality.written.scores().iou == (0.5, 0, 1)
    assert quality.guessed.coverage() == 2 / 4
    assert quality.guessed.precision() == 1 / 2
    assert math.isnan(quality.guessed.scores().iou[2])
    # Confidence 0.9 right, 0.5 right, 0.7 wrong, each in a bin of its own.
    error = quality.calibration.expected_calibration_error()
    assert error == pytest.approx((0.1 + 0.5 + 0.7) / 3)
    assert quality.calibration.coverage(0.6) == 2 / 4
    assert quality.calibration.precision(0.6) == 1 / 2


def test_annotated_pixels_change_nothing_of_the_calibration() -> None:
    without = pseudo([0, 1], [0.8, 0.6], [0, 0], [255, 255], at=0.0)

    flattered = pseudo([0, 1, 2, 2], [0.8, 0.6, 1.0, 1.0], [0, 0, 2, 2], [255, 255, 2, 2], at=0.0)

    assert flattered.written.precision() > without.written.precision()
    assert flattered.guessed.precision() == without.guessed.precision()
    for name in ("pixels", "confidence", "correct", "sure", "sure_correct", "total"):
        one, other = (getattr(q.calibration, name) for q in (without, flattered))
        assert np.array_equal(one, other)


@given(st.integers(0, 2**32 - 1), st.sampled_from(THRESHOLDS))
@settings(max_examples=40)
def test_pseudo_labels_of_several_pictures(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {"num_classes": 3, "threshold": threshold}
    labels, truth, clicks = rng.choice(np.array([0, 1, 2, 255], np.uint8), (3, 6, 7))
    confidence = rng.random((6, 7), np.float32)
    whole = pseudo_label_quality(labels, confidence, truth, annotated=clicks, **options)

    parts = [
        pseudo_label_quality(
            labels[a:b], confidence[a:b], truth[a:b], annotated=clicks[a:b], **options
        )
        for a, b in pairwise((0, 2, 3, 6))
    ]
    total = parts[0] + parts[1] + parts[2]

    assert total.pictures == 3
    assert (total.written.counts == whole.written.counts).all()
    assert (total.guessed.counts <= total.written.counts).all()
    # The sweep at the threshold of the writing is what was written.
    assert total.calibration.coverage(threshold) == pytest.approx(
        total.guessed.coverage(), nan_ok=True
    )
    assert total.calibration.precision(threshold) == pytest.approx(
        total.guessed.precision(), nan_ok=True
    )
    named = total.as_dict(["a", "b", "c"], background=0)
    assert json.loads(json.dumps(named, allow_nan=False)) == named
