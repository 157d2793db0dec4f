"""The confidence of labels, against hand-worked values and torchmetrics."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from agmm.errors import InputError
from agmm.evaluation.calibration import (
    BINS,
    THRESHOLDS,
    Calibration,
    CalibrationMap,
    calibration,
)


def of(labels: list[int], confidence: list[float], truth: list[int]) -> Calibration:
    return calibration(
        np.array([labels], np.uint8), np.array([confidence]), np.array([truth], np.uint8)
    )


def test_hand_worked_bins() -> None:
    # 0.9 and 0.92 are in the 14th of 15 bins, which ends at 0.9333; 1 in the last; 0 in the first.
    found = of([0, 1, 1, 2, 255, 0], [0.9, 0.92, 1.0, 0.0, 0.5, 0.4], [0, 0, 1, 1, 0, 255])

    bars = found.bins()
    assert [bar.pixels for bar in bars] == [1, *[0] * 12, 2, 1]
    assert bars[13].confidence == pytest.approx(0.91)
    assert bars[13].accuracy == 0.5
    assert (bars[14].confidence, bars[14].accuracy) == (1, 1)
    assert math.isnan(bars[5].accuracy)
    assert (bars[0].low, bars[14].high) == (0, 1)
    # 2 of 4 pixels are off by 0.41, the others are told rightly.
    assert found.expected_calibration_error() == pytest.approx(0.41 * 2 / 4)
    assert found.total == 5
    assert found.coverage(0.9) == 3 / 5
    assert found.precision(0.9) == 2 / 3
    assert found.coverage(0.0) == 4 / 5


def test_a_confidence_on_an_edge_belongs_to_the_bin_below_it() -> None:
    # As in Guo et al.: the bin m is ((m - 1) / M, m / M].
    found = of([0, 0], [3 / 15, 3 / 15 + 1e-9], [0, 0])

    assert np.flatnonzero(found.pixels).tolist() == [2, 3]


@pytest.mark.parametrize("power", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_error_is_that_of_torchmetrics(power: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(4, power), (30, 40)).astype(np.float32)
    truth = np.where(
        rng.random((30, 40)) < 0.6, probs.argmax(-1), rng.integers(0, 4, (30, 40))
    ).astype(np.uint8)
    truth[rng.random((30, 40)) < 0.1] = 255

    found = calibration(probs.argmax(-1).astype(np.uint8), probs.max(-1), truth)

    known = torch.from_numpy(truth != 255)
    expected = multiclass_calibration_error(
        torch.from_numpy(probs)[known],
        torch.from_numpy(truth).long()[known],
        num_classes=4,
        n_bins=BINS,
        norm="l1",
    )
    assert found.expected_calibration_error() == pytest.approx(float(expected), abs=1e-5)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_sums_and_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, truth = rng.choice(np.array([0, 1, 255], np.uint8), (2, 5, 9))
    confidence = rng.choice(np.array([*THRESHOLDS, 1.0, rng.random()], np.float32), (5, 9))
    where = rng.random((5, 9)) < 0.7
    whole = calibration(labels, confidence, truth, where=where)

    total = calibration(labels[:2], confidence[:2], truth[:2], where=where[:2]) + calibration(
        labels[2:], confidence[2:], truth[2:], where=where[2:]
    )

    assert total.pixels.tolist() == whole.pixels.tolist()
    counted = where & (truth != 255)
    assert total.pixels.sum() == (counted & (labels != 255)).sum()
    assert total.total == counted.sum()
    error = total.expected_calibration_error()
    overall = abs(total.correct.sum() - total.confidence.sum()) / max(1, total.pixels.sum())
    assert math.isnan(error) or overall - 1e-9 <= error <= 1
    for place, threshold in enumerate(THRESHOLDS):
        sure = counted & (labels != 255) & (confidence >= np.float32(threshold))
        assert total.sure[place] == sure.sum()
        assert total.sure_correct[place] == (sure & (labels == truth)).sum()
    assert (np.diff(total.sure) <= 0).all()


def test_a_label_that_is_as_sure_as_it_is_right_has_no_error() -> None:
    labels = np.zeros((1, 100), np.uint8)
    truth = np.array([[0] * 70 + [1] * 30], np.uint8)

    found = calibration(labels, np.full((1, 100), 0.7), truth)

    assert found.expected_calibration_error() == pytest.approx(0)


def test_without_any_label_there_is_no_error() -> None:
    found = of([255], [0.0], [1])

    assert math.isnan(found.expected_calibration_error())
    assert found.coverage(0.5) == 0
    assert math.isnan(found.precision(0.5))


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_a_confidence_that_is_no_share_is_refused(wrong: float) -> None:
    with pytest.raises(InputError, match="confidence: expected 0 to 1, got"):
        of([0], [wrong], [0])


@pytest.mark.usefixtures("without_type_checks")
def test_other_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=r"labels of \(1, 1\), confidence of \(1, 2\)"):
        of([0], [0.5, 0.5], [0])


def test_hand_worked_map() -> None:
    # The bins around 0.3, 0.5 and 0.9 are right for 1 of 2, 1 of 4 and 2 of 2: the first two fall,
    # and are pooled to 2 of 6.
    found = of(
        [0] * 8, [0.3, 0.3, 0.5, 0.5, 0.5, 0.5, 0.9, 0.9], [0, 1, 0, 1, 1, 1, 0, 0]
    ).isotonic_map()

    assert found.confidence == pytest.approx((0.3, 0.5, 0.9))
    assert found.accuracy == pytest.approx((1 / 3, 1 / 3, 1))
    asked = np.array([[0.0, 0.4], [0.7, 1.0]], np.float32)
    assert found(asked).dtype == np.float32
    np.testing.assert_allclose(found(asked), [[1 / 3, 1 / 3], [2 / 3, 1]], rtol=1e-6)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60))
def test_a_map_keeps_the_order_and_is_right_on_average(pairs: list[tuple[float, bool]]) -> None:
    confidence = [value for value, _ in pairs]
    counts = of([0] * len(pairs), confidence, [0 if right else 1 for _, right in pairs])

    found = counts.isotonic_map()

    mapped = found(np.sort(np.array(confidence)))
    assert ((mapped >= 0) & (mapped <= 1)).all()
    assert (np.diff(mapped) >= 0).all()
    # At its points the map is right on average over what was pooled.
    pixels = counts.pixels[counts.pixels > 0]
    assert (pixels * found.accuracy).sum() == pytest.approx(counts.correct.sum())


def test_no_map_of_nothing() -> None:
    with pytest.raises(InputError, match="no pixel is labelled"):
        of([255], [0.5], [0]).isotonic_map()


@pytest.mark.parametrize(
    ("confidence", "accuracy"),
    [
        ((), ()), ((0.5,), ()), ((0.5, 0.5), (0.1, 0.2)), ((0.2, 0.5), (0.2, 0.1)),
        ((-0.1,), (0.5,)), ((0.5,), (1.1,)), ((float("nan"),), (0.5,)),
    ],
)  # fmt: skip
def test_a_map_that_is_none(confidence: tuple[float, ...], accuracy: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="calibration map: expected"):
        CalibrationMap(confidence, accuracy)
