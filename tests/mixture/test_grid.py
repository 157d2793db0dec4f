"""The way from pixels to cells, against loops over the definition."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from agmm.mixture.grid import class_shares, reduce_to_grid
from agmm.mixture.pooling import area_average

SIZES = [((6, 8), (3, 4)), ((5, 7), (2, 3)), ((3, 4), (3, 4)), ((2, 3), (4, 7)), ((5, 3), (3, 5))]


@pytest.mark.parametrize(("pixels", "cells"), SIZES)
def test_area_average_is_adaptive_pooling(pixels: tuple[int, int], cells: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, *pixels, generator=torch.Generator().manual_seed(0))
    expected = functional.adaptive_avg_pool2d(maps, cells)
    torch.testing.assert_close(area_average(maps, cells), expected)


def test_area_average_of_benchmark_crops() -> None:
    maps = torch.randn(1, 2, 321, 321, generator=torch.Generator().manual_seed(0))
    expected = functional.adaptive_avg_pool2d(maps, (81, 81))
    torch.testing.assert_close(area_average(maps, (81, 81)), expected)


@pytest.mark.parametrize(("pixels", "cells"), SIZES)
def test_class_shares_equal_a_loop(pixels: tuple[int, int], cells: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    seeds = torch.randint(3, (2, *pixels), generator=generator)
    seeds[torch.rand(2, *pixels, generator=generator) < 0.5] = 255
    (height, width), (rows, columns) = pixels, cells
    counts = np.zeros((2, 3, rows, columns))
    fine = (max(height, rows), max(width, columns))  # a coarse pixel is several cells
    for b, i, j in itertools.product(range(2), range(fine[0]), range(fine[1])):
        label = int(seeds[b, i * height // fine[0], j * width // fine[1]])
        if label != 255:
            counts[b, label, i * rows // fine[0], j * columns // fine[1]] += 1
    expected = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(class_shares(seeds, 3, cells).numpy(), expected.reshape(2, 3, -1))


@settings(deadline=None)
@given(
    pixels=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    cells=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    data=st.data(),
)
def test_a_single_click_is_never_lost(
    pixels: tuple[int, int], cells: tuple[int, int], data: st.DataObject
) -> None:
    seeds = torch.full((1, *pixels), 255)
    row = data.draw(st.integers(0, pixels[0] - 1))
    column = data.draw(st.integers(0, pixels[1] - 1))
    seeds[0, row, column] = 1
    valid = torch.zeros(1, *pixels, dtype=torch.bool)
    valid[0, row, column] = True
    grid = reduce_to_grid(torch.zeros(1, 2, *pixels), torch.zeros(1, 1, *cells), seeds, None, valid)
    assert grid.labelled.any()
    assert grid.shares[0, 0].sum() == 0
    assert (grid.valid | ~grid.labelled).all()


def test_logits_of_a_cell_are_those_of_its_valid_pixels() -> None:
    logits = torch.tensor([[[[1.0, 3.0], [5.0, 100.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    valid = torch.tensor([[[True, True], [True, False]]])
    seeds = torch.full((1, 2, 2), 255)
    grid = reduce_to_grid(logits, torch.zeros(1, 1, 1, 1), seeds, None, valid)
    assert grid.logits.flatten().tolist() == [3.0, 0.0]


def test_candidates_of_a_cell_are_those_of_its_valid_pixels_and_seeds() -> None:
    candidates = torch.zeros(1, 3, 2, 4, dtype=torch.bool)
    candidates[0, 0, 0, 0] = True
    candidates[0, 1, 1, 1] = True  # on padding
    candidates[0, 1, 0, 2] = True
    valid = torch.ones(1, 2, 4, dtype=torch.bool)
    valid[0, 1, 1] = False
    seeds = torch.full((1, 2, 4), 255)
    seeds[0, 1, 3] = 2
    grid = reduce_to_grid(
        torch.zeros(1, 3, 2, 4), torch.zeros(1, 1, 1, 2), seeds, candidates, valid
    )
    assert grid.candidates[0].T.tolist() == [[True, False, False], [False, True, True]]


def test_candidates_of_the_image_hold_everywhere() -> None:
    seeds = torch.full((1, 1, 2), 255)
    seeds[0, 0, 0] = 2
    candidates = torch.tensor([[True, False, False]])
    grid = reduce_to_grid(torch.zeros(1, 3, 1, 2), torch.zeros(1, 1, 1, 2), seeds, candidates)
    assert grid.candidates[0].T.tolist() == [[True, False, True], [True, False, False]]


def test_cell_outside_the_picture_has_all_candidates() -> None:
    candidates = torch.zeros(1, 2, 1, 2, dtype=torch.bool)
    candidates[0, 0, 0, 0] = True
    valid = torch.tensor([[[True, False]]])
    seeds = torch.full((1, 1, 2), 255)
    grid = reduce_to_grid(
        torch.zeros(1, 2, 1, 2), torch.zeros(1, 1, 1, 2), seeds, candidates, valid
    )
    assert grid.candidates[0].T.tolist() == [[True, False], [True, True]]


def test_seed_on_padding_does_not_count() -> None:
    seeds = torch.zeros(1, 2, 2, dtype=torch.int64)
    valid = torch.zeros(1, 2, 2, dtype=torch.bool)
    grid = reduce_to_grid(torch.zeros(1, 2, 2, 2), torch.zeros(1, 1, 1, 1), seeds, None, valid)
    assert not grid.labelled.any()
    assert not grid.valid.any()
