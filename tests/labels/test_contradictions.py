"""Labels that cannot all be true are found between every two forms."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agmm.errors import ContradictionError, DataError
from agmm.labels.annotations import Annotation, Blocks, DenseMask, Scribbles
from agmm.labels.contradictions import Contradiction, contradictions
from agmm.labels.rasterize import rasterize
from tests.labels.annotated import boxes, clicks, tags

SIZE, K = (2, 4), 4


def mask(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.uint8)


STROKE = Scribbles(mask([255, 255, 2, 2], [255, 255, 255, 2]))
BLOCK = Blocks(mask([1, 1, 1, 255], [255, 255, 255, 1]))


def found(
    *annotations: Annotation, background: int | None = 0, order: int = 1
) -> tuple[Contradiction, ...]:
    return contradictions(annotations[::order], SIZE, K, background=background)


def test_two_classes_on_one_pixel() -> None:
    (one,) = found(BLOCK, STROKE)
    assert (one.x, one.y, one.sources, one.pixels) == (2, 0, ("blocks", "scribbles"), 2)
    assert one.message == (
        "the pixel x=2, y=0 is class 1 in blocks and class 2 in scribbles (2 pixels disagree)."
        " Correct one of them."
    )


def test_two_clicks_on_one_pixel() -> None:
    (one,) = found(clicks((1, 0, 2), (3, 1, 1), (3.5, 1, 1), (3, 1, 2), (1, 0, 3), (1, 0, 2)))
    assert (one.x, one.y, one.sources, one.pixels) == (1, 0, ("points", "points"), 2)
    assert "x=1, y=0 is clicked as class 3 and as class 2 in points" in one.message


@pytest.mark.parametrize("order", [1, -1])
def test_a_class_that_the_tags_do_not_name(order: int) -> None:
    (one,) = found(STROKE, tags(1, 3), order=order)
    assert (one.x, one.y, one.sources, one.pixels) == (2, 0, ("scribbles", "tags"), 3)
    assert "is class 2 in scribbles, which the tags do not name (3 pixels" in one.message
    assert found(DenseMask(mask([0, 0, 0, 1], [0] * 4)), tags(1)) == ()  # background is implied
    assert len(found(clicks((0, 0, 0)), tags(1), background=None)) == 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_class_outside_of_its_boxes(order: int) -> None:
    drawn = boxes((2, 0, 3, 1, 2), (3, 0, 4, 2, 1))
    (one,) = found(STROKE, drawn, order=order)
    assert (one.x, one.y, one.sources, one.pixels) == (3, 0, ("scribbles", "boxes"), 2)
    assert "is class 2 in scribbles, but no box of this class covers it" in one.message
    assert found(STROKE, drawn, background=None) == ()
    assert found(STROKE, boxes((2, 0, 4, 2, 2))) == ()
    assert found(clicks((2, 0, 0)), boxes((1, 0, 4, 2, 2))) == ()  # background in the box
    other = boxes((2, 0, 3, 1, 1))
    assert len(found(STROKE, other, tags(1), order=order)) == 2  # outside, and not tagged
    assert found(STROKE, other, tags(1, 2), order=order) == ()  # tagged, and without a box


@pytest.mark.parametrize("order", [1, -1])
def test_a_box_that_the_tags_do_not_name(order: int) -> None:
    drawn = boxes((0, 0, 1, 1, 1), (1, 0, 4, 2, 2), (3, 0, 4, 2, 2))
    (one,) = found(drawn, tags(1), order=order)
    assert (one.x, one.y, one.sources, one.pixels) == (2, 0, ("boxes", "tags"), 6)
    assert "the box round the pixel x=2, y=0 is class 2 in boxes, which the tags" in one.message
    assert found(boxes((0, 0, 1, 1, 1)), tags(1, 3)) == ()
    assert len(found(boxes((0, 0, 1, 1, 2)), tags(1), background=None)) == 1


def test_all_are_listed() -> None:
    given: list[Annotation] = [tags(1), STROKE, BLOCK, boxes((0, 0, 3, 1, 1))]
    pairs = {frozenset(one.sources) for one in found(*given)}
    assert pairs == {
        frozenset({"scribbles", "tags"}),
        frozenset({"scribbles", "blocks"}),
        frozenset({"scribbles", "boxes"}),
        frozenset({"blocks", "boxes"}),
    }
    assert found() == found(clicks((1, 1, 2)), Scribbles(np.full(SIZE, 255, np.uint8))) == ()


def test_a_single_pixel_is_told_in_the_singular() -> None:
    (one,) = found(BLOCK, clicks((3, 1, 2)))
    assert one.message.endswith("in points (1 pixel disagrees). Correct one of them.")


def test_labels_that_do_not_fit_are_no_contradiction() -> None:
    with pytest.raises(DataError, match="clicks lie outside") as caught:
        found(clicks((9, 9, 1)))
    assert not isinstance(caught.value, ContradictionError)


BOX = st.tuples(st.integers(0, 2), st.integers(0, 0), st.integers(3, 4), st.integers(1, 2))
CLICK = st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, K - 1))


@settings(max_examples=300)
@given(
    clicked=st.lists(CLICK, max_size=2),
    stroked=st.lists(CLICK, max_size=2),
    boxed=st.none() | st.lists(st.tuples(BOX, st.integers(1, K - 1)), max_size=2),
    tagged=st.none() | st.lists(st.integers(1, K - 1), min_size=1, max_size=3),
    background=st.sampled_from([0, None]),
)
def test_labels_contradict_each_other_where_no_class_is_left(
    clicked: list[tuple[int, int, int]],
    stroked: list[tuple[int, int, int]],
    boxed: list[tuple[tuple[int, int, int, int], int]] | None,
    tagged: list[int] | None,
    background: int | None,
) -> None:
    strokes = np.full(SIZE, 255, np.uint8)
    for x, y, label in stroked:
        strokes[y, x] = label
    annotations: list[Annotation] = [clicks(*clicked), Scribbles(strokes)]
    # What each label leaves of a set of classes, pixel by pixel: the method, word for word.
    left = np.ones((K, *SIZE), bool)
    stroke_marks = [(int(x), int(y), int(strokes[y, x])) for y, x in np.argwhere(strokes != 255)]
    for x, y, label in [*clicked, *stroke_marks]:
        left[np.arange(K) != label, y, x] = False
    if boxed is not None:
        annotations.append(boxes(*((*box, label) for box, label in boxed)))
        if background is not None:
            inside = np.zeros((K, *SIZE), bool)
            inside[background] = True
            inside[list({*(tagged or [])} - {label for _, label in boxed})] = True
            for (xmin, ymin, xmax, ymax), label in boxed:
                inside[label, ymin:ymax, xmin:xmax] = True
            left &= inside
    named = set(range(K)) if tagged is None else {*tagged, background}
    if tagged is not None:
        annotations.append(tags(*tagged))
        left[[label not in named for label in range(K)]] = False
    untagged_box = any(label not in named for _, label in boxed or [])

    result = found(*annotations, background=background)

    assert bool(result) == (not left.any(0).all() or untagged_box)
    if result:
        with pytest.raises(ContradictionError, match=re.escape(result[0].message)):
            rasterize(annotations, SIZE, K, complete=True, background=background)
    else:
        s = rasterize(annotations, SIZE, K, complete=False, background=background)
        np.testing.assert_array_equal(
            np.broadcast_to(s.candidates.reshape(K, *s.candidates.shape[1:] or (1, 1)), left.shape)
            & ((s.seeds == 255) | (np.arange(K)[:, None, None] == s.seeds)),
            left,
        )
