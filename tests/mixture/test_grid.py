"""The way from pixels to cells, against loops over the definition."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from agmm.mixture.grid import class_counts, class_shares, reduce_to_grid
from agmm.mixture.pooling import any_pixel, area_average, enlarge, spread_average

SIZES = [((6, 8), (3, 4)), ((5, 7), (2, 3)), ((3, 4), (3, 4)), ((2, 3), (4, 7)), ((5, 3), (3, 5))]


def side_of(pixels: int, cells: int) -> int | None:
    """The smallest stride that makes so many cells of the pixels."""
    return min((s for s in range(1, pixels + 1) if -(-pixels // s) == cells), default=None)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("pixels", "cells"), [*SIZES, ((321, 33), (81, 9)), ((45, 40), (12, 10))])
def test_area_average_is_that_of_the_cells_of_a_stride_or_adaptive_pooling(
    pixels: tuple[int, int], cells: tuple[int, int], layout: torch.memory_format
) -> None:
    maps = torch.randn(2, 3, *pixels, generator=torch.Generator().manual_seed(0))
    expected = maps
    for axis in (2, 3):
        side = side_of(maps.shape[axis], cells[axis - 2])
        if side:
            parts = [part.mean(axis, keepdim=True) for part in torch.split(expected, side, axis)]
            expected = torch.cat(parts, axis)
        else:
            size = (cells[0], expected.shape[3]) if axis == 2 else (expected.shape[2], cells[1])
            expected = functional.adaptive_avg_pool2d(expected, size)
    maps = maps.contiguous(memory_format=layout)
    torch.testing.assert_close(area_average(maps, cells), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("pixels", "cells"), [*SIZES, ((45, 40), (12, 10))])
def test_spread_average_is_the_gradient_of_area_average(
    pixels: tuple[int, int], cells: tuple[int, int], layout: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, *pixels, generator=generator, requires_grad=True)
    weights = torch.randn(2, 3, *cells, generator=generator)
    (expected,) = torch.autograd.grad((area_average(maps, cells) * weights).sum(), maps)
    out = torch.empty_like(maps, memory_format=layout)
    spread_average(weights, out)
    torch.testing.assert_close(out, expected)


def test_cells_of_a_network_lie_where_it_puts_them() -> None:
    """A picture of 321 pixels at stride 4: the padding is beyond the last cell."""
    network = torch.nn.Conv2d(1, 1, 4, 4, bias=False)
    torch.nn.init.constant_(network.weight, 1 / 16)
    picture = torch.zeros(1, 1, 321, 321)
    row, column = 238, 317  # where cells that divide the picture evenly are one too far
    picture[0, 0, row, column] = 1
    padded = functional.pad(picture, (0, 3, 0, 3))
    answer = (network(padded) > 0)[0, 0].nonzero().tolist()
    assert answer == [[row // 4, column // 4]]
    seeds = torch.where(picture[:, 0] > 0, 0, 255)
    shares = class_shares(class_counts(seeds, 1, (81, 81))).view(81, 81)
    assert shares.nonzero().tolist() == answer
    assert area_average(picture, (81, 81))[0, 0].nonzero().tolist() == answer
    assert any_pixel(picture > 0, (81, 81))[0, 0].nonzero().tolist() == answer


@pytest.mark.parametrize("side", [1, 3, 4])
def test_enlarged_maps_lie_where_the_cells_are(side: int) -> None:
    maps = torch.randn(1, 2, 6, 7, generator=torch.Generator().manual_seed(0))
    whole = functional.interpolate(maps, (6 * side, 7 * side), mode="bilinear")
    for beyond in range(side):
        size = (6 * side - beyond, 7 * side)
        torch.testing.assert_close(enlarge(maps, size), whole[:, :, : size[0]])
    uneven = functional.interpolate(maps, (7, 9), mode="bilinear")
    torch.testing.assert_close(enlarge(maps, (7, 9)), uneven)


def owner(pixel: int, pixels: int, cells: int) -> int:
    side = side_of(pixels, cells)
    return pixel // side if side else pixel * cells // pixels


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
            counts[b, label, owner(i, fine[0], rows), owner(j, fine[1], columns)] += 1
    expected = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    found = class_counts(seeds, 3, cells)
    np.testing.assert_array_equal(found, counts.reshape(2, 3, -1))
    np.testing.assert_allclose(class_shares(found), expected.reshape(2, 3, -1))


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
