"""Wrong clicks and loose boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agmm.errors import ConfigError
from agmm.labels.annotations import Boxes, Points
from agmm.labels.boxes import box_faults
from agmm.labels.noise import SLIP, loosen_boxes, misplace_clicks
from agmm.labels.simulate import simulate_points
from agmm.shapes import IGNORE_INDEX, MaskArray


def halves(size: tuple[int, int] = (60, 80)) -> MaskArray:
    """Class 0 on the left, class 1 on the right, a strip of 4 columns of void between them."""
    mask = np.zeros(size, dtype=np.uint8)
    mask[:, size[1] // 2 :] = 1
    mask[:, size[1] // 2 - 2 : size[1] // 2 + 2] = IGNORE_INDEX
    return mask


def test_a_wrong_click_lands_on_the_other_class_near_its_border() -> None:
    mask = halves()
    points = simulate_points(mask, np.random.default_rng(0), clicks_per_class=30)
    wrong = misplace_clicks(points, mask, np.random.default_rng(0), wrong_clicks=1.0)

    columns, rows = wrong.xy.T
    assert np.bincount(wrong.classes).tolist() == [30, 30]
    assert (mask[rows, columns] == 1 - wrong.classes).all()
    # The nearest pixel is straight across; from there it is 2 % of the diagonal of 100 pixels.
    assert columns[wrong.classes == 0].min() >= 42
    assert columns[wrong.classes == 1].max() <= 37
    assert columns[wrong.classes == 0].max() <= 42 + SLIP * 100 + 2
    assert len({(x, y) for x, y in wrong.xy.tolist()}) == 60


def test_as_many_clicks_are_wrong_as_asked_for() -> None:
    mask = halves()
    points = simulate_points(mask, np.random.default_rng(1), clicks_per_class=400)
    some = misplace_clicks(points, mask, np.random.default_rng(2), wrong_clicks=0.2)
    columns, rows = some.xy.T
    share = (mask[rows, columns] != some.classes).mean()
    assert share == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / 800))


def test_without_errors_the_clicks_stay() -> None:
    mask = halves()
    points = simulate_points(mask, np.random.default_rng(1))
    same = misplace_clicks(points, mask, np.random.default_rng(2), wrong_clicks=0.0)
    np.testing.assert_array_equal(same.xy, points.xy)
    np.testing.assert_array_equal(same.classes, points.classes)


def test_where_there_is_no_other_class_a_click_cannot_be_wrong() -> None:
    mask = np.zeros((4, 5), dtype=np.uint8)
    mask[0] = IGNORE_INDEX
    click = Points(np.array([[2, 3]]), np.array([0], np.uint8))
    same = misplace_clicks(click, mask, np.random.default_rng(0), wrong_clicks=1.0)
    assert same.xy.tolist() == [[2, 3]]
    none = Points(np.zeros((0, 2), np.int64), np.zeros(0, np.uint8))
    still = misplace_clicks(none, mask, np.random.default_rng(0), wrong_clicks=1.0)
    assert still.xy.shape == (0, 2)


@settings(max_examples=80)
@given(
    corners=st.lists(
        st.tuples(st.integers(0, 19), st.integers(0, 29), st.integers(1, 20), st.integers(1, 30)),
        max_size=6,
    ),
    jitter=st.floats(0, 0.49),
    seed=st.integers(0, 99),
)
def test_loose_boxes_are_boxes_and_no_side_moves_too_far(
    corners: list[tuple[int, int, int, int]], jitter: float, seed: int
) -> None:
    tight = np.array(
        [(x, y, min(x + w, 20), min(y + h, 30)) for x, y, w, h in corners], dtype=np.int64
    ).reshape(-1, 4)
    boxes = Boxes(tight, np.arange(len(tight), dtype=np.uint8))

    loose = loosen_boxes(boxes, (30, 20), np.random.default_rng(seed), box_jitter=jitter)

    assert box_faults(loose, (30, 20)) == ()
    assert loose.classes.tolist() == boxes.classes.tolist()
    assert loose.xyxy.dtype == np.int64
    sides = np.tile(tight[:, 2:] - tight[:, :2], 2)
    assert (np.abs(loose.xyxy - tight) <= np.maximum(jitter * sides + 0.5, 1)).all()
    if jitter == 0:
        np.testing.assert_array_equal(loose.xyxy, tight)


def test_sides_move_in_as_often_as_out() -> None:
    boxes = Boxes(np.tile([[100, 100, 200, 300]], (2000, 1)), np.zeros(2000, np.uint8))
    rng = np.random.default_rng(0)
    moves = loosen_boxes(boxes, (400, 300), rng, box_jitter=0.1).xyxy - boxes.xyxy
    assert np.abs(moves).max(axis=0).tolist() == [10, 20, 10, 20]
    assert np.abs(moves.mean(axis=0)).max() < 1


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_of_wrong_clicks_out_of_range_is_refused(share: float) -> None:
    click = Points(np.array([[2, 3]]), np.array([0], np.uint8))
    with pytest.raises(ConfigError, match=r"wrong_clicks must be 0\.\.1"):
        misplace_clicks(click, halves(), np.random.default_rng(0), wrong_clicks=share)


@pytest.mark.parametrize("jitter", [-0.1, 0.5, float("nan")])
def test_a_jitter_out_of_range_is_refused(jitter: float) -> None:
    boxes = Boxes(np.array([[0, 0, 1, 1]]), np.array([0], np.uint8))
    with pytest.raises(ConfigError, match="box_jitter must be at least 0 and below"):
        loosen_boxes(boxes, (2, 2), np.random.default_rng(0), box_jitter=jitter)
