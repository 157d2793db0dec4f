"""Activation maps at every threshold, against hand-worked values and one threshold at a time."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agmm.errors import InputError
from agmm.evaluation.confusion import confusion_matrix, scores
from agmm.evaluation.label_quality import label_quality
from agmm.evaluation.map_quality import THRESHOLDS, MapQuality


def test_hand_worked_figures() -> None:
    strongest = np.array([[0.9, 0.8, 0.3, 0.1, 0.02]])
    truth = np.array([[1, 2, 0, 1, 255]], np.uint8)
    quality = MapQuality(3, background=0)

    quality.add(strongest, np.array([[1, 1, 2, 2, 1]]), truth)

    row = quality.at(0.5)
    assert row.foreground_coverage == row.background_coverage == 2 / 4
    assert row.foreground_precision == 1 / 2
    assert row.background_precision == 1 / 2
    # Predicted 1, 1, 0, 0 where 1, 2, 0, 1 is right: IoU 1/2, 1/3, 0.
    assert row.miou == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)


@given(st.integers(0, 2**32 - 1), st.sampled_from(THRESHOLDS))
@settings(max_examples=25)
def test_the_same_as_one_threshold_by_itself(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    quality = MapQuality(4, background=2)
    confusion, total = torch.zeros(4, 4, dtype=torch.int64), None
    for _ in range(3):
        strongest, classes = rng.random((5, 6)), rng.choice([0, 1, 3], (5, 6))
        truth = rng.choice([0, 1, 2, 3, 255], (5, 6)).astype(np.uint8)
        quality.add(strongest, classes, truth)
        mask = np.where(strongest >= threshold, classes, 2)
        confusion += confusion_matrix(torch.from_numpy(mask), torch.from_numpy(truth).long(), 4)
        counts = label_quality(mask.astype(np.uint8), truth, 4)
        total = counts if total is None else total + counts

    row = quality.at(threshold)

    assert total is not None
    assert row.miou == pytest.approx(scores(confusion).miou, nan_ok=True)
    assert row.foreground_precision == pytest.approx(total.precision([0, 1, 3]), nan_ok=True)
    assert row.background_precision == pytest.approx(total.precision([2]), nan_ok=True)
    assert row.foreground_coverage + row.background_coverage == pytest.approx(1)


def test_without_dense_masks_only_the_coverage_is_known() -> None:
    quality = MapQuality(2, background=0)

    quality.add(np.array([[0.9, 0.1]]), np.array([[1, 1]]), None)

    row = quality.at(0.5)
    assert (row.foreground_coverage, row.background_coverage) == (0.5, 0.5)
    assert math.isnan(row.foreground_precision)
    assert math.isnan(row.miou)


def test_without_a_background_the_maps_decide_everywhere() -> None:
    quality = MapQuality(2, background=None)

    quality.add(np.array([[0.9, 0.1]]), np.array([[1, 0]]), np.array([[1, 0]], np.uint8))

    assert [quality.at(threshold).miou for threshold in (0.05, 0.95)] == [1, 1]
    assert quality.at(0.5).background_precision == 0


@pytest.mark.usefixtures("without_type_checks")
def test_maps_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"maps of \(1, 2\) .* truth of \(2, 2\) pixels"):
        MapQuality(2, None).add(
            np.zeros((1, 2)), np.zeros((1, 2), np.int64), np.zeros((2, 2), np.uint8)
        )
