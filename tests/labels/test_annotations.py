"""Annotations refuse everything that they could not stand for."""

import numpy as np
import pytest

from agmm.errors import InputError
from agmm.labels.annotations import Blocks, Boxes, DenseMask, Points, Scribbles, Tags
from agmm.labels.forms import FORMS


def test_the_forms_are_those_of_the_classes() -> None:
    kinds = (Points, Scribbles, Blocks, Boxes, Tags, DenseMask)
    assert tuple(kind.form for kind in kinds) == FORMS


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16])
def test_points_take_any_number_type(dtype: type[np.number]) -> None:
    points = Points(np.array([[1, 2]], dtype=dtype), np.array([254], dtype=np.uint8))
    assert points.xy.tolist() == [[1, 2]]


def test_points_may_be_none() -> None:
    assert Points(np.empty((0, 2)), np.empty(0, dtype=np.uint8)).classes.size == 0


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("xy", "classes", "message"),
    [
        (np.zeros((2, 3)), np.zeros(2, np.uint8), r"shape \(n, 2\)"),
        (np.zeros(2), np.zeros(1, np.uint8), r"shape \(n, 2\)"),
        (np.zeros((1, 2), bool), np.zeros(1, np.uint8), "bool"),
        (np.zeros((1, 2)), np.zeros(2, np.uint8), r"shape \(1,\)"),
        (np.zeros((1, 2)), np.zeros(1, np.int64), "int64"),
        (np.array([[0, 0], [np.nan, 1]]), np.zeros(2, np.uint8), r"row 1 is \(nan, 1.0\)"),
        (np.array([[0, np.inf]]), np.zeros(1, np.uint8), "finite"),
        (np.zeros((2, 2)), np.array([0, 255], np.uint8), "Points.classes: number 1 is class 255"),
    ],
)
def test_bad_points_are_refused(xy: np.ndarray, classes: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Points(xy, classes)


def test_boxes_and_tags_take_what_a_file_may_hold() -> None:
    boxes = Boxes(np.array([[3, 2, 1, 9]], dtype=np.int16), np.array([254], dtype=np.uint8))
    assert boxes.xyxy.tolist() == [[3, 2, 1, 9]]  # reversed: judged with the picture's size
    assert Boxes(np.empty((0, 4)), np.empty(0, dtype=np.uint8)).classes.size == 0
    assert Tags(np.array([2, 2], dtype=np.uint8)).classes.tolist() == [2, 2]
    assert Tags(np.empty(0, dtype=np.uint8)).classes.size == 0


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("xyxy", "classes", "message"),
    [
        (np.zeros((2, 2)), np.zeros(2, np.uint8), r"Boxes.xyxy must be numbers of shape \(n, 4\)"),
        (np.zeros((1, 4)), np.zeros(2, np.uint8), r"Boxes.classes must be uint8 of shape \(1,\)"),
        (np.array([[0, 0, 1, np.nan]]), np.zeros(1, np.uint8), "Boxes.xyxy must be finite"),
        (np.zeros((1, 4)), np.array([255], np.uint8), "number 0 is class 255"),
    ],
)
def test_bad_boxes_are_refused(xyxy: np.ndarray, classes: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Boxes(xyxy, classes)


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (np.zeros((1, 1), np.uint8), r"Tags.classes must be uint8 of shape \(1,\)"),
        (np.zeros(2, np.float32), "float32"),
        (np.array([0, 255], np.uint8), "number 1 is class 255"),
    ],
)
def test_bad_tags_are_refused(classes: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tags(classes)


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize("kind", [Scribbles, Blocks, DenseMask])
@pytest.mark.parametrize(
    "mask", [np.zeros((2, 2)), np.zeros(2, np.uint8), np.zeros((0, 2), np.uint8)]
)
def test_bad_masks_are_refused(
    kind: type[Scribbles | Blocks | DenseMask], mask: np.ndarray
) -> None:
    with pytest.raises(InputError, match=f"{kind.__name__}.mask must be uint8"):
        kind(mask)
