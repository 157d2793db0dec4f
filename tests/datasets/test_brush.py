"""The packed run lengths of Label Studio's brush."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agmm.datasets.brush import decode_brush
from agmm.errors import DataError

# Written by label-studio-converter 0.0.59, brush.mask2rle and encode_rle, for the masks below.
SMALL = [0, 0, 0, 60, 57, 27, 254, 23, 0, 183, 255, 132, 192, 35, 255, 0]
LONG_HEAD = [0, 0, 31, 64, 57, 27, 255, 7, 227, 0]
LONG_ROW = [211, 255, 248, 156, 3, 79, 255, 226, 112, 13, 63, 255, 137, 192, 52, 255, 254, 39, 0]
LONG_TAIL = [211, 255, 248, 156, 3, 79, 255, 226, 112, 13, 63, 255, 137, 192, 52, 255, 255, 7]
LONG = LONG_HEAD + 4 * LONG_ROW + [*LONG_TAIL, 227, 0, 0]
COLOURS = [
    *(0, 0, 0, 16, 57, 27, 248, 0, 49, 0, 1, 144, 0, 80),
    *(3, 192, 64, 0, 18, 0, 64, 0, 224, 127, 128, 9, 16, 0),
]


def packed(mask: np.ndarray, lengths: tuple[int, ...] = (3, 4, 8, 16)) -> list[int]:
    """Write every pixel as one run of four equal words, bit by bit, after the format's text."""
    bits = f"{4 * mask.size:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in lengths)
    for value in mask.ravel().tolist():
        bits += "1" + "00" + format(3, f"0{lengths[0]}b") + f"{255 * int(value):08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def test_masks_of_another_implementation_are_decoded() -> None:
    assert decode_brush(SMALL, (3, 5)).astype(int).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 0, 0, 1],
    ]
    expected = np.zeros((40, 50), dtype=bool)
    expected[10:30, 5:45] = True
    assert (decode_brush(LONG, (40, 50)) == expected).all()


def test_only_the_opacity_counts() -> None:
    """Pixels of the colours (1, 0, 0, 0), (200, 10, 30, 128), (9, 8, 7, 255) and (4, 0, 0, 0)."""
    assert decode_brush(COLOURS, (2, 2)).tolist() == [[False, True], [True, False]]


@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
    st.sampled_from([(3, 4, 8, 16), (2, 2, 2, 2), (16, 1, 1, 1)]),
)
def test_any_mask_comes_back(
    height: int, width: int, random: Random, lengths: tuple[int, ...]
) -> None:
    mask = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    assert (decode_brush(packed(mask, lengths), (height, width)) == mask).all()


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ([], "ends too soon"),
        (SMALL[:3], "ends too soon"),
        (SMALL[:-3], "ends too soon"),
        ([256, *SMALL[1:]], "whole numbers 0..255"),
        ([-1, *SMALL[1:]], "whole numbers 0..255"),
        ([1.0, *SMALL[1:]], "whole numbers 0..255"),
        ([True, *SMALL[1:]], "whole numbers 0..255"),
        (["0", *SMALL[1:]], "whole numbers 0..255"),
        ([255, 255, 255, 255, *SMALL[4:]], "4294967295 words of 8 bits"),
        ([0, 0, 0, 60, 1, *SMALL[5:]], "60 words of 1 bits"),
        ([*SMALL[:6], 255, 255, 255, 255], "more words than its mask"),
    ],
)
def test_a_bad_stream_is_refused(rle: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_brush(rle, (3, 5))


@given(st.lists(st.integers(0, 255), max_size=80))
def test_no_stream_raises_anything_else(tail: list[int]) -> None:
    try:
        mask = decode_brush([0, 0, 0, 60, 57, 27, *tail], (3, 5))
    except DataError:
        return
    assert mask.shape == (3, 5)
