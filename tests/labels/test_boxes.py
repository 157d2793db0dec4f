"""Boxes are fine, refused or repaired, and cover every pixel that they touch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agmm.errors import DataError
from agmm.labels.annotations import Boxes
from agmm.labels.boxes import box_faults, clip_boxes, covered, stray_boxes

SIZE = (6, 8)


def boxes(*xyxy: tuple[float, float, float, float], dtype: type = np.float64) -> Boxes:
    return Boxes(np.array(xyxy, dtype=dtype).reshape(-1, 4), np.full(len(xyxy), 3, np.uint8))


@pytest.mark.parametrize(
    "xyxy", [(0, 0, 8, 6), (3, 2, 4, 3), (7, 5, 8, 6), (0.25, 0.25, 0.5, 0.5), (0, 0, 7.9, 5.9)]
)
def test_boxes_within_the_picture_are_fine(xyxy: tuple[float, float, float, float]) -> None:
    assert box_faults(boxes(xyxy), SIZE) == ()
    same, notes = clip_boxes(boxes(xyxy), SIZE)
    assert same.xyxy.tolist() == [list(xyxy)]
    assert notes == ()


FAULTS = [
    ((4, 1, 2, 3), "has its corners in the wrong order", [2, 1, 4, 3]),
    ((2, 3, 4, 1), "has its corners in the wrong order", [2, 1, 4, 3]),
    ((2, 1, 2, 3), "has no pixel", None),
    ((2, 1, 4, 1), "has no pixel", None),
    ((4, 1, 2, 1), "has its corners in the wrong order", None),
    ((-1, 1, 4, 3), "reaches out of the picture of 8x6 pixels", [0, 1, 4, 3]),
    ((2, -0.5, 4, 3), "reaches out of the picture of 8x6 pixels", [2, 0, 4, 3]),
    ((2, 1, 8.5, 3), "reaches out of the picture of 8x6 pixels", [2, 1, 8, 3]),
    ((2, 1, 4, 7), "reaches out of the picture of 8x6 pixels", [2, 1, 4, 6]),
    ((9, 1, 9, 3), "has no pixel and reaches out of the picture of 8x6 pixels", None),
    ((9, 3, 2, 1), "has its corners in the wrong order and reaches out", [2, 1, 8, 3]),
]


@pytest.mark.parametrize(("xyxy", "fault", "repaired"), FAULTS)
def test_faulty_boxes_are_named_and_repaired(
    xyxy: tuple[float, float, float, float], fault: str, repaired: list[float] | None
) -> None:
    given = boxes((1, 1, 2, 2), xyxy, (0, 0, 3, 3))
    (told,) = box_faults(given, SIZE)
    where = ", ".join(f"{value:g}" for value in xyxy)
    assert told.startswith(f"box 2 of class 3 at ({where}) {fault}")
    with pytest.raises(
        DataError, match=r"1 of 3 are faulty: box 2 .* Correct them, .*--clip-boxes"
    ):
        covered(given, SIZE)

    result, (note,) = clip_boxes(given, SIZE)

    kept = [] if repaired is None else [repaired]
    assert result.xyxy.tolist() == [[1, 1, 2, 2], *kept, [0, 0, 3, 3]]
    assert len(result.classes) == len(result.xyxy)
    now = "dropped" if repaired is None else f"now ({', '.join(f'{v:g}' for v in repaired)})"
    assert note == f"{told}: {now}"


STRAY = [
    ((8, 1, 9, 3), "lies"),
    ((-5, -5, 0, 3), "lies"),
    ((2, 6, 4, 7), "lies"),
    ((9, 3, 8, 1), "has its corners in the wrong order and lies"),
]


@pytest.mark.parametrize(("xyxy", "fault"), STRAY)
def test_boxes_beside_the_picture_are_not_repaired(
    xyxy: tuple[float, float, float, float], fault: str
) -> None:
    """Not dropped either: the picture would then say that there is only background."""
    given = boxes((1, 1, 1, 2), xyxy, (0, 0, 3, 9))
    (told,) = stray_boxes(given, SIZE)
    assert told in box_faults(given, SIZE)
    where = ", ".join(f"{value:g}" for value in xyxy)
    assert told == f"box 2 of class 3 at ({where}) {fault} outside of the picture of 8x6 pixels"

    result, notes = clip_boxes(given, SIZE)

    assert result.xyxy.tolist() == [list(xyxy), [0, 0, 3, 6]]
    assert [note[:5] for note in notes] == ["box 1", "box 3"]


def test_the_last_kept_box_is_not_forgotten_and_order_and_classes_stay() -> None:
    given = Boxes(
        np.array([[9, 0, 9, 1], [2, 2, 1, 1], [0, 0, 1, 1]], np.int32),
        np.array([5, 6, 7], np.uint8),
    )
    result, notes = clip_boxes(given, SIZE)
    assert result.classes.tolist() == [6, 7]
    assert result.xyxy.tolist() == [[1, 1, 2, 2], [0, 0, 1, 1]]
    assert [note[:5] for note in notes] == ["box 1", "box 2"]


def test_no_box_is_fine() -> None:
    assert box_faults(boxes(), SIZE) == ()
    assert covered(boxes(), SIZE) == ()
    assert clip_boxes(boxes(), SIZE)[0].xyxy.shape == (0, 4)


COORDINATES = st.floats(-12, 12) | st.integers(-12, 12).map(float)


@given(st.lists(st.tuples(*[COORDINATES] * 4), max_size=4))
def test_repaired_boxes_are_in_the_picture_and_cover_what_they_touch(
    drawn: list[tuple[float, float, float, float]],
) -> None:
    given = boxes(*drawn)
    stray = stray_boxes(given, SIZE)
    result, notes = clip_boxes(given, SIZE)
    assert len(stray) == len(box_faults(result, SIZE)) == len(stray_boxes(result, SIZE))
    assert len(notes) == len(box_faults(given, SIZE)) - len(stray)
    result = boxes(*(box for box in result.xyxy.tolist() if not stray_boxes(boxes(box), SIZE)))
    for (xmin, ymin, xmax, ymax), window in zip(
        result.xyxy.tolist(), covered(result, SIZE), strict=True
    ):
        pixels = np.zeros(SIZE, bool)
        pixels[window] = True
        for y, x in np.ndindex(SIZE):
            touched = x < xmax and x + 1 > xmin and y < ymax and y + 1 > ymin
            assert pixels[y, x] == touched
