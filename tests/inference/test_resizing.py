"""Windows of a resized picture are those of the picture resized as a whole."""

from collections.abc import Iterator

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from agmm.datasets.windows import PictureRows
from agmm.inference.resizing import RowBuffer, needed, resized_rows, resized_window

BILINEAR = Image.Resampling.BILINEAR


def in_chunks(image: np.ndarray, rows: int) -> PictureRows:
    pieces = (image[first : first + rows] for first in range(0, len(image), rows))
    return PictureRows(image.shape[0], image.shape[1], pieces)


@given(source=st.integers(1, 60), target=st.integers(1, 60), data=st.data())
def test_pixels_that_are_not_needed_change_nothing(
    source: int, target: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, target - 1))
    stop = data.draw(st.integers(first + 1, target))
    low, high = needed(first, stop, source, target)
    values = np.random.default_rng(0).random((1, source)).astype(np.float32)
    other = values.copy()
    other[:, :low] += 1
    other[:, high:] += 1

    one, two = (
        np.asarray(Image.fromarray(array).resize((target, 1), BILINEAR))[0, first:stop]
        for array in (values, other)
    )

    assert 0 <= low < high <= source
    assert np.array_equal(one, two)


def test_needed_is_hand_worked() -> None:
    # Halved: pixel 5 lies at 11, reaches 2 to each side, and one pixel is to spare.
    assert needed(5, 6, 100, 50) == (8, 14)
    # Doubled: pixel 5 lies at 2.75, reaches 1 to each side, and one pixel is to spare.
    assert needed(5, 6, 50, 100) == (0, 5)
    assert needed(5, 6, 50, 50) == (5, 6)


def test_a_row_buffer_takes_every_row_once() -> None:
    image = np.arange(30, dtype=np.uint8).reshape(10, 1, 3)
    taken = []

    def chunks() -> Iterator[np.ndarray]:
        for first in range(0, 10, 3):
            taken.append(first)
            yield image[first : first + 3]

    buffer = RowBuffer(chunks())

    assert np.array_equal(buffer.rows(0, 2), image[:2])
    assert taken == [0]
    assert np.array_equal(buffer.rows(1, 5), image[1:5])
    assert np.array_equal(buffer.rows(5, 5), image[5:5])
    assert np.array_equal(buffer.rows(5, 10), image[5:])
    assert taken == [0, 3, 6, 9]


@given(
    size=st.tuples(st.integers(1, 700), st.integers(1, 40)),
    scale=st.floats(0.02, 2.5),
    rows=st.integers(1, 300),
)
@settings(max_examples=60)
def test_a_picture_resized_in_rows_is_the_picture_resized(
    size: tuple[int, int], scale: float, rows: int
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    height, width = (max(1, round(side * scale)) for side in size)

    resized = resized_rows(in_chunks(image, rows), height, width)

    expected = np.asarray(Image.fromarray(image).resize((width, height), BILINEAR))
    found = np.concatenate(list(resized.chunks))
    assert (resized.height, resized.width) == (height, width)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1  # a rounding of the weights


@given(
    source=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    target=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    data=st.data(),
)
@settings(max_examples=60)
def test_a_window_is_the_part_of_the_whole(
    source: tuple[int, int], target: tuple[int, int], data: st.DataObject
) -> None:
    maps = torch.rand(2, *source, generator=torch.Generator().manual_seed(0))
    whole = np.stack(
        [
            np.asarray(Image.fromarray(plane).resize(target[::-1], BILINEAR))
            for plane in maps.numpy()
        ]
    )
    spans = []
    for side in target:
        first = data.draw(st.integers(0, side - 1))
        spans.append((first, data.draw(st.integers(first + 1, side))))
    (top, bottom), (left, right) = spans
    y, x = (a / b for a, b in zip(source, target, strict=True))

    found = resized_window(
        maps, (top * y, left * x, bottom * y, right * x), (bottom - top, right - left)
    )

    np.testing.assert_allclose(found, whole[:, top:bottom, left:right], atol=1e-5)
