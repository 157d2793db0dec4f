"""Annotations refuse everything that they could not stand for."""

import numpy as np
import pytest

from agmm.errors import InputError
from agmm.labels.annotations import Blocks, DenseMask, Points, Scribbles
from agmm.labels.forms import FORMS


def test_the_forms_are_those_of_the_classes() -> None:
    assert tuple(kind.form for kind in (Points, Scribbles, Blocks, DenseMask)) == FORMS


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
        (np.array([[0, 0], [np.nan, 1]]), np.zeros(2, np.uint8), "click 1 is at"),
        (np.array([[0, np.inf]]), np.zeros(1, np.uint8), "finite"),
        (np.zeros((2, 2)), np.array([0, 255], np.uint8), "click 1 has class 255"),
    ],
)
def test_bad_points_are_refused(xy: np.ndarray, classes: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Points(xy, classes)


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
