"""Connected pieces of a mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label

from agmm.errors import ConfigError
from agmm.labels.pieces import depth_of, pieces, without_crumbs
from agmm.shapes import IGNORE_INDEX, MaskArray

MASKS = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    elements=st.sampled_from([0, 4, IGNORE_INDEX]),
)


@settings(max_examples=60)
@given(mask=MASKS)
def test_pieces_cover_every_class_once(mask: MaskArray) -> None:
    drawn = np.full_like(mask, IGNORE_INDEX)
    found = list(pieces(mask))
    for piece in found:
        assert (drawn[piece.window][piece.pixels] == IGNORE_INDEX).all()
        drawn[piece.window][piece.pixels] = piece.label
        # The window is tight.
        assert piece.pixels[[0, -1]].any(axis=1).all()
        assert piece.pixels[:, [0, -1]].any(axis=0).all()
    assert (drawn == mask).all()
    for value in (0, 4):
        count = label(mask == value, connectivity=2, return_num=True)[1]  # type: ignore[no-untyped-call]
        assert sum(piece.label == value for piece in found) == count


def test_crumbs_are_left_out_unless_their_class_has_nothing_larger() -> None:
    mask = np.full((10, 30), IGNORE_INDEX, dtype=np.uint8)
    mask[1:4, 1:4] = 1  # 9 pixels
    mask[1:9, 8:16] = 1  # 64 pixels
    mask[1:3, 20:22] = 2  # 4 pixels
    mask[5:8, 20:22] = 2  # 6 pixels, its largest
    before = mask.copy()

    seen = without_crumbs(mask, 10)

    expected = mask.copy()
    expected[1:4, 1:4] = expected[1:3, 20:22] = IGNORE_INDEX
    np.testing.assert_array_equal(seen, expected)
    np.testing.assert_array_equal(mask, before)
    expected[1:4, 1:4] = 1  # 9 pixels are not fewer than 9
    np.testing.assert_array_equal(without_crumbs(mask, 9), expected)


@settings(max_examples=40)
@given(mask=MASKS, min_pixels=st.integers(1, 20))
def test_no_class_is_lost(mask: MaskArray, min_pixels: int) -> None:
    seen = without_crumbs(mask, min_pixels)
    assert set(seen[seen != IGNORE_INDEX]) == set(mask[mask != IGNORE_INDEX])
    assert (seen[seen != IGNORE_INDEX] == mask[seen != IGNORE_INDEX]).all()
    assert min_pixels > 1 or (seen == mask).all()


def test_depth_is_the_distance_to_the_border_and_to_the_edge() -> None:
    pixels = np.ones((5, 4), dtype=bool)
    pixels[0, 0] = False
    assert depth_of(pixels)[2].tolist() == [1, 2, 2, 1]
    assert depth_of(pixels)[1, 1] == pytest.approx(np.sqrt(2))
    assert depth_of(pixels)[0, 0] == 0


def test_a_least_size_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="min_pixels must be at least 1"):
        without_crumbs(np.zeros((2, 2), np.uint8), 0)
