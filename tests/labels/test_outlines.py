"""Polygons and strokes to pixels."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from skimage.measure import points_in_poly

from agmm.errors import DataError
from agmm.labels.outlines import Patch, ellipse_outline, polygon_patch, stroke_patch, turned

SIZE = (12, 15)
CENTERS = np.stack(np.meshgrid(np.arange(15) + 0.5, np.arange(12) + 0.5), axis=-1).reshape(-1, 2)
coordinate = st.floats(-20, 30, allow_subnormal=False)
outline = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=8)


def drawn(patch: Patch, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, dtype=np.int64)
    window, inside = patch
    assert mask[window].shape == inside.shape
    mask[window] = inside
    return mask


def rows(*lines: str) -> list[list[int]]:
    return [[int(character == "x") for character in line] for line in lines]


def distances(xy: np.ndarray) -> np.ndarray:
    """Distance of every pixel's centre to a line, one segment after the other."""
    found = np.full(len(CENTERS), np.inf)
    for start, end in itertools.pairwise(xy):
        step = end - start
        length = float(step @ step)
        share = (CENTERS - start) @ step / length if length else np.zeros(len(CENTERS))
        nearest = start + share.clip(0, 1)[:, None] * step
        found = np.minimum(found, np.linalg.norm(CENTERS - nearest, axis=1))
    return found.reshape(SIZE)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_rectangle_has_the_pixels_between_its_corners(reverse: bool) -> None:
    corners = np.array([[1.0, 1], [4, 1], [4, 3], [1, 3]])[:: -1 if reverse else 1]
    assert drawn(polygon_patch(corners, (4, 6)), (4, 6)).tolist() == rows(
        "......", ".xxx..", ".xxx..", "......"
    )


def test_a_triangle_has_the_pixels_whose_centre_is_inside() -> None:
    # The edge from (0, 0) to (4, 4) runs through centres: of a pixel pair it takes the right one.
    triangle = np.array([[0.0, 0], [4, 0], [4, 4]])
    assert drawn(polygon_patch(triangle, (4, 4)), (4, 4)).tolist() == rows(
        "xxxx", ".xxx", "..xx", "...x"
    )


def test_where_an_outline_crosses_itself_even_is_outside() -> None:
    outer, inner = (
        [[0.0, 0], [4, 0], [4, 2], [0, 2], [0, 0]],
        [[1, 0], [3, 0], [3, 2], [1, 2], [1, 0]],
    )
    twice = np.array([*outer, *inner])
    assert drawn(polygon_patch(twice, (2, 4)), (2, 4)).tolist() == rows("x..x", "x..x")


@given(outline)
def test_polygons_agree_with_another_implementation(corners: list[tuple[float, float]]) -> None:
    # A hair off the grid, as they may differ on what lies exactly on an edge.
    xy = np.array(corners) + np.array([1e-4, 3e-4])
    mask = drawn(polygon_patch(xy, SIZE))
    expected = points_in_poly(CENTERS, xy)  # type: ignore[no-untyped-call]
    expected = expected.reshape(SIZE)
    edges = distances(np.concatenate([xy, xy[:1]]))
    assert ((mask == expected) | (edges < 1e-6)).all()


@given(outline, coordinate)
@example([(0.0, -2.220446049250313e-16), (0.0, 0.0), (1.0, 3.0)], 0.0)  # met by chance
def test_a_cut_polygon_loses_and_doubles_no_pixel(
    corners: list[tuple[float, float]], x: float
) -> None:
    """Two triangles on the two sides of a common edge are the quadrilateral."""
    a, b, c = np.array(corners[:3])
    d = np.array([x, 4.25])
    halves = drawn(polygon_patch(np.array([a, b, c]), SIZE)) + drawn(
        polygon_patch(np.array([a, c, d]), SIZE)
    )
    assert (halves % 2 == drawn(polygon_patch(np.array([a, b, c, d]), SIZE))).all()


def test_a_stroke_through_centres_is_as_wide_as_it_says() -> None:
    line = np.array([[2.5, 2.5], [4.5, 2.5]])
    assert drawn(stroke_patch(line, 3.0, (5, 8)), (5, 8)).tolist() == rows(
        "........", ".xxxxx..", ".xxxxx..", ".xxxxx..", "........"
    )
    assert drawn(stroke_patch(line, 1.0, (5, 8)), (5, 8)).sum() == 3


def test_a_single_point_is_a_dot() -> None:
    dot = drawn(stroke_patch(np.array([[1.5, 1.5]]), 3.0, (4, 4)), (4, 4))
    assert dot.tolist() == rows("xxx.", "xxx.", "xxx.", "....")


@given(st.lists(st.tuples(coordinate, coordinate), min_size=2, max_size=6), st.floats(1, 6))
def test_strokes_have_the_pixels_near_the_line(
    points: list[tuple[float, float]], width: float
) -> None:
    xy = np.array(points)
    mask, distance = drawn(stroke_patch(xy, width, SIZE)), distances(xy)
    assert (mask[distance < 0.98 * width / 2] == 1).all()  # the round ends have corners
    assert (mask[distance > width / 2 + 1e-9] == 0).all()


@pytest.mark.parametrize("far", [1e9, -1e9, 1e15])
def test_what_is_outside_is_cut_off(far: float) -> None:
    everything = np.array([[-far, -far], [far, -far], [far, far], [-far, far]])
    assert drawn(polygon_patch(everything, SIZE)).sum() == 180
    assert drawn(polygon_patch(everything + 4 * abs(far), SIZE)).sum() == 0
    assert drawn(stroke_patch(np.array([[far, far], [far, 2 * far]]), 3.0, SIZE)).sum() == 0


def test_an_endless_outline_is_refused() -> None:
    zigzag = np.zeros((40_000, 2))
    zigzag[::2] = 1000
    with pytest.raises(DataError, match="fewer points"):
        polygon_patch(zigzag, (1000, 1000))


def test_an_ellipse_has_its_area_and_turn() -> None:
    size = (60, 80)
    flat = drawn(polygon_patch(ellipse_outline((40.0, 30.0), (20.0, 10.0)), size), size)
    assert abs(flat.sum() - np.pi * 200) < 10
    steep = drawn(polygon_patch(ellipse_outline((40.0, 30.0), (20.0, 10.0), 90.0), size), size)
    # Columns 30..49 and rows 10..49 touch it.
    assert [np.flatnonzero(steep.any(axis=axis))[[0, -1]].tolist() for axis in (0, 1)] == [
        [30, 49],
        [10, 49],
    ]


def test_points_turn_clockwise_on_the_picture() -> None:
    corners = np.array([[0.0, 0], [2, 0], [2, 1]])
    np.testing.assert_allclose(
        turned(corners, (0.0, 0.0), 90.0), [[0, 0], [0, 2], [-1, 2]], atol=1e-12
    )
