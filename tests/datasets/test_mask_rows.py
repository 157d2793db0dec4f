"""A mask written in rows is the mask written as a whole."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from agmm.datasets.classes import Classes
from agmm.datasets.mask_rows import written_in_rows
from agmm.datasets.masks import read_index_mask, read_palette, write_index_mask
from agmm.errors import InputError

TWO = Classes(("cat", "dog"), ((1, 2, 3), (9, 8, 7)))


@given(size=st.tuples(st.integers(1, 30), st.integers(1, 30)), rows=st.integers(1, 31))
def test_rows_make_the_mask(
    tmp_path_factory: pytest.TempPathFactory, size: tuple[int, int], rows: int
) -> None:
    folder = tmp_path_factory.mktemp("masks")
    mask = np.random.default_rng(0).choice(np.array([0, 1, 255], np.uint8), size)
    write_index_mask(folder / "whole.png", mask, TWO)

    with written_in_rows(folder / "rows.png", *size, TWO) as write:
        for first in range(0, len(mask), rows):
            write(mask[first : first + rows])

    assert np.array_equal(read_index_mask(folder / "rows.png", TWO), mask)
    assert read_palette(folder / "rows.png") == read_palette(folder / "whole.png")
    with Image.open(folder / "rows.png") as image:
        assert (image.mode, image.format) == ("P", "PNG")
        image.verify()  # the checksums of its chunks


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[[0, 1]]], r"1 rows were given for a mask of 2"),
        ([[[0, 1], [0, 1], [0, 1]]], r"3 in all, for a mask of 2x2"),
        ([[[0, 1]], [[0, 1]], [[0, 1]]], r"3 in all, for a mask of 2x2"),
        ([[[0, 1, 0]]], r"rows of 3 pixels.* for a mask of 2x2"),
        ([[[0, 2]]], r"the value 2, but there are 2 classes"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    tmp_path: Path, rows: list[list[list[int]]], message: str
) -> None:
    def write_all() -> None:
        with written_in_rows(tmp_path / "mask.png", 2, 2, TWO) as write:
            for part in rows:
                write(np.array(part, np.uint8))

    with pytest.raises(InputError, match=message):
        write_all()
    assert list(tmp_path.iterdir()) == []
