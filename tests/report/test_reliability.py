"""The reliability diagram, measured at its bars."""

import numpy as np
import pytest

from agmm.evaluation.calibration import calibration
from agmm.report import reliability
from agmm.report.reliability import draw_reliability


def column(picture: np.ndarray, confidence: float, color: tuple[int, int, int]) -> np.ndarray:
    """The rows of a colour in the column of a confidence, beside the dashed line."""
    x = 100 + round(600 * confidence)
    return np.flatnonzero((picture[:, x] == color).all(-1))


@pytest.mark.parametrize(("right", "confidence"), [(25, 0.83), (75, 0.83), (75, 0.3)])
def test_a_bar_is_as_high_as_its_labels_are_right(right: int, confidence: float) -> None:
    truth = np.array([[0] * right + [1] * (100 - right)], np.uint8)
    found = calibration(np.zeros((1, 100), np.uint8), np.full((1, 100), confidence), truth)

    picture = draw_reliability(found)

    # The middle of the bin, away from the line; the floor of the diagram is at row 664.
    middle = (np.floor(confidence * 15) + 0.5) / 15
    for beside in (-0.02, 0.02):
        bar = column(picture, middle + beside, reliability._BAR)
        assert bar.min() == pytest.approx(664 - 6 * right, abs=3)
        mark = column(picture, middle + beside, reliability._EXPECTED)
        assert mark.mean() == pytest.approx(664 - 600 * confidence, abs=3)


def test_nothing_to_draw() -> None:
    mask = np.full((1, 1), 255, np.uint8)

    picture = draw_reliability(calibration(mask, np.zeros((1, 1)), mask))

    assert not (picture == reliability._BAR).all(-1).any()
