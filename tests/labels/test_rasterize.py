"""Annotations to seeds and candidates, by the table of the method."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agmm.errors import ContradictionError, DataError, InputError
from agmm.labels.annotations import Annotation, Blocks, DenseMask, Points, Scribbles
from agmm.labels.rasterize import rasterize
from tests.labels.annotated import boxes, clicks, tags


def row(*values: int) -> np.ndarray:
    return np.array([values], dtype=np.uint8)


def candidates(
    annotations: list[Annotation], *, complete: bool = True, background: int | None = None
) -> list[int]:
    s = rasterize(annotations, (1, 4), 5, complete=complete, background=background)
    return np.flatnonzero(s.candidates).tolist()


def by_pixel(annotations: list[Annotation], *, complete: bool = True) -> list[list[int]]:
    """The candidates of the four pixels, with class 1 as background."""
    s = rasterize(annotations, (1, 4), 5, complete=complete, background=1)
    assert s.candidates.shape == (5, 1, 4)
    return [np.flatnonzero(s.candidates[:, 0, x]).tolist() for x in range(4)]


def test_a_click_lies_in_the_pixel_that_holds_it() -> None:
    s = rasterize([clicks((0.99, 1.0, 1), (2.0, 0.5, 0))], (2, 3), 2, complete=False)
    assert s.seeds.tolist() == [[255, 255, 0], [1, 255, 255]]
    assert s.candidates.tolist() == [True, True]


def test_whole_numbers_are_columns_and_rows() -> None:
    points = Points(np.array([[2, 1]], dtype=np.int32), np.array([1], dtype=np.uint8))
    assert rasterize([points], (2, 3), 2, complete=False).seeds[1, 2] == 1


@pytest.mark.parametrize("annotation", [clicks((0, 0, 1), (3, 0, 4)), Scribbles(row(1, 4, 4, 255))])
def test_complete_clicks_and_strokes_name_the_classes(annotation: Annotation) -> None:
    assert candidates([annotation]) == [1, 4]
    assert candidates([annotation], complete=False) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("annotation", [Blocks(row(1, 4, 4, 255)), DenseMask(row(1, 1, 1, 255))])
def test_blocks_and_dense_masks_exclude_nothing(annotation: Annotation) -> None:
    assert candidates([annotation]) == [0, 1, 2, 3, 4]


def test_complete_speaks_of_all_forms_together() -> None:
    mixed: list[Annotation] = [clicks((0, 0, 1)), Blocks(row(255, 255, 3, 3))]
    assert candidates(mixed) == [1, 3]
    assert candidates(mixed[::-1]) == [1, 3]


def test_a_picture_without_a_label_excludes_nothing() -> None:
    empty: list[Annotation] = [clicks(), Scribbles(row(255, 255, 255, 255))]
    assert candidates([]) == candidates(empty) == [0, 1, 2, 3, 4]
    # Nobody clicked here, so that nobody says that the classes of the block are all.
    assert candidates([*empty, Blocks(row(2, 255, 255, 255))]) == [0, 1, 2, 3, 4]


def test_tags_name_the_classes_beside_the_background() -> None:
    everything = [0, 1, 2, 3, 4]
    for complete in (True, False):
        assert candidates([tags(3, 2, 3)], complete=complete) == [2, 3]
        assert candidates([tags(3)], complete=complete, background=1) == [1, 3]
        assert candidates([tags()], complete=complete, background=1) == [1]
    assert (rasterize([tags(3)], (2, 3), 5, complete=True).seeds == 255).all()
    assert candidates([Blocks(row(2, 2, 255, 255))], background=1) == everything


def test_complete_labels_keep_what_is_tagged_boxed_or_implied() -> None:
    click = clicks((0, 0, 2))
    assert candidates([click], background=1) == [2]  # nothing implies a background
    assert candidates([click, tags(2, 3)]) == [2, 3]
    assert candidates([tags(2, 3), click], background=1) == [1, 2, 3]
    assert candidates([click, boxes((1, 0, 2, 1, 4))]) == [2, 4]
    assert candidates([click, boxes((1, 0, 2, 1, 4))], complete=False) == [0, 1, 2, 3, 4]
    assert candidates([clicks(), tags(2, 3)], background=1) == [1, 2, 3]


def test_outside_of_the_boxes_is_background_and_inside_it_or_their_classes() -> None:
    given = [boxes((1, 0, 3, 1, 4), (1.5, 0.25, 2.5, 0.75, 2), (2.2, 0.1, 2.9, 0.2, 0))]
    for complete in (True, False):
        assert by_pixel([*given], complete=complete) == [[1], [1, 2, 4], [0, 1, 2, 4], [1]]
    s = rasterize(given, (1, 4), 5, complete=True, background=1)
    assert s.seeds.tolist() == [[1, 255, 255, 1]]


def test_without_a_background_boxes_say_nothing_of_pixels() -> None:
    s = rasterize([boxes((1, 0, 3, 1, 4))], (1, 4), 5, complete=True)
    assert (s.seeds == 255).all()
    assert s.candidates.tolist() == [True] * 5


def test_no_box_means_background_everywhere() -> None:
    s = rasterize([boxes()], (1, 4), 5, complete=True, background=1)
    assert s.seeds.tolist() == [[1, 1, 1, 1]]
    assert by_pixel([boxes()]) == [[1]] * 4


@pytest.mark.parametrize("order", [1, -1])
def test_a_tag_without_a_box_can_be_anywhere(order: int) -> None:
    """A person is tagged who has no box: outside of the boxes is not all background."""
    given: list[Annotation] = [boxes((1, 0, 3, 1, 4)), tags(0, 4, 1)]
    for complete in (True, False):
        s = rasterize(given[::order], (1, 4), 5, complete=complete, background=1)
        assert (s.seeds == 255).all()
        assert by_pixel(given[::order], complete=complete) == [[0, 1], [0, 1, 4], [0, 1, 4], [0, 1]]
    s = rasterize([*given, clicks((1, 0, 0), (3, 0, 1))], (1, 4), 5, complete=True, background=1)
    assert s.seeds.tolist() == [[255, 0, 255, 1]]
    none = rasterize([boxes(), tags(3)], (1, 4), 5, complete=True, background=1)
    assert (none.seeds == 255).all()


def test_boxes_mix_with_all_other_forms() -> None:
    mixed: list[Annotation] = [
        tags(4),
        clicks((2, 0, 4)),
        boxes((1, 0, 3, 1, 4)),
        Blocks(row(255, 1, 255, 255)),
    ]
    for annotations in (mixed, mixed[::-1]):
        s = rasterize(annotations, (1, 4), 5, complete=True, background=1)
        assert s.seeds.tolist() == [[1, 1, 4, 1]]
        assert by_pixel(annotations) == [[1], [1, 4], [1, 4], [1]]


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(0, 3)),
        unique_by=lambda click: click[:2],
    ),
    st.booleans(),
)
def test_no_click_is_lost(drawn: list[tuple[int, int, int]], complete: bool) -> None:
    s = rasterize([clicks(*drawn)], (5, 7), 4, complete=complete)
    assert (s.seeds != 255).sum() == len(drawn)
    assert all(s.seeds[y, x] == label for x, y, label in drawn)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (clicks((1, 0, 1), (4, 0, 1)), r"1 of 2 clicks lie outside .* 4x1 .* x=4.0, y=0.0"),
        (clicks((-0.5, 0, 1)), "x=-0.5"),
        (clicks((0, 1.0, 1)), "y=1.0"),
        (clicks((1e300, 0, 1)), "outside"),
        (clicks((2, 0, 5)), "points: class 5 at x=2, y=0"),
        (Blocks(row(0, 9, 9, 255)), r"blocks: class 9 at x=1, y=0 \(2 such pixels\)"),
        (tags(1, 5), r"tags: class 5, but there are 5 classes"),
        (boxes((1, 0, 2, 1, 7)), r"boxes: class 7, but there are 5 classes"),
        (boxes((1, 0, 2, 1, 0)), r"box has class 0, the background, .* Name the object"),
        (
            boxes((1, 0, 2, 1, 3), (2, 0, 5, 1, 3)),
            r"1 of 2 are faulty: box 2 of class 3 at \(2, 0, 5, 1\) reaches out .*--clip-boxes",
        ),
        (DenseMask(row(0, 0)), r"dense: the mask has \(1, 2\) pixels .* \(1, 4\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(annotation: Annotation, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rasterize([annotation], (1, 4), 5, complete=True, background=0)


def test_no_tag_and_no_background_leave_nothing() -> None:
    with pytest.raises(DataError, match=r"no class is named, and none is called background"):
        candidates([tags()])


def test_two_clicks_on_one_pixel_must_agree() -> None:
    assert candidates([clicks((1, 0, 2), (1.5, 0.5, 2))]) == [2]
    with pytest.raises(ContradictionError, match="x=1, y=0 is clicked as class 2 and as class 3"):
        candidates([clicks((1, 0, 2), (1.5, 0.5, 3))])


def test_two_forms_must_agree() -> None:
    with pytest.raises(ContradictionError, match=r"x=1, y=0 is class 2 in points and class 0 in d"):
        candidates([clicks((1, 0, 2)), Blocks(row(0, 255, 0, 0)), DenseMask(row(0, 0, 0, 0))])


@pytest.mark.parametrize(("size", "num_classes"), [((1, 1), 0), ((1, 1), 256), ((0, 1), 1)])
def test_sizes_out_of_range_are_refused(size: tuple[int, int], num_classes: int) -> None:
    with pytest.raises(InputError, match="must be"):
        rasterize([], size, num_classes, complete=False)


@pytest.mark.parametrize("background", [-1, 5])
def test_the_background_must_be_a_class(background: int) -> None:
    with pytest.raises(InputError, match=f"a class 0..4 or None, but is {background}"):
        candidates([], background=background)


def test_a_form_may_come_once() -> None:
    with pytest.raises(InputError, match=r"tags come 2 times. Join them"):
        candidates([tags(1), clicks(), tags(2)])
