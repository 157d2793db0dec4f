"""Blocks that leave one by one are the map that is blended as a whole."""

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from agmm.inference.blending import Side, blended, tiled_side

lengths = st.integers(1, 40)
overlaps = st.floats(0, 0.9)


def joined(tiles: list[Tensor], rows: Side, columns: Side) -> Tensor:
    """The map of all blocks, NaN where none came."""
    k = tiles[0].shape[0]
    result = torch.full((k, rows.length, columns.length), torch.nan)
    for block in blended((tile.clone() for tile in tiles), rows, columns, k):
        height, width = block.probs.shape[1:]
        place = result[:, block.top : block.top + height, block.left : block.left + width]
        assert place.isnan().all()  # no pixel leaves twice
        place[:] = block.probs
    return result


def test_two_tiles_by_hand() -> None:
    # A window of two pixels has the weights 1/2 and 1/2: what both tiles see is their average.
    rows, columns = tiled_side(1, 1, 2, 0.5), tiled_side(3, 3, 2, 0.5)
    tiles = [torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[7.0, 9.0]]])]

    assert joined(tiles, rows, columns).tolist() == [[[1.0, 5.0, 9.0]]]


def test_four_tiles_by_hand() -> None:
    rows, columns = tiled_side(3, 3, 2, 0.5), tiled_side(3, 3, 2, 0.5)
    tiles = [torch.full((1, 2, 2), value) for value in (0.0, 4.0, 8.0, 20.0)]

    assert joined(tiles, rows, columns).tolist() == [[[0, 2, 4], [4, 8, 12], [8, 14, 20]]]


def test_a_side_by_hand() -> None:
    steps = tiled_side(10, 10, 4, 0.25).steps

    assert [step[:6] for step in steps] == [
        (0, 4, 0, 3, 0, 3),
        (3, 7, 3, 6, 3, 6),
        (6, 10, 6, 10, 6, 10),
    ]


def test_an_enlarged_side_by_hand() -> None:
    # Two pixels to four: with one pixel to spare, even the first of the four asks for both.
    steps = tiled_side(4, 2, 1, 0.0).steps

    assert [(step.out_first, step.out_stop) for step in steps] == [(0, 0), (0, 4)]
    assert [(step.keep, step.drop) for step in steps] == [(0, 0), (0, 2)]


@given(length=lengths, resized=lengths, tile=st.integers(1, 45), overlap=overlaps)
def test_what_leaves_a_side_is_complete_and_the_weights_sum_to_one(
    length: int, resized: int, tile: int, overlap: float
) -> None:
    steps = tiled_side(length, resized, tile, overlap).steps

    assert steps[0].out_first == steps[0].keep == 0
    assert (steps[-1].out_stop, steps[-1].drop, steps[-1].stop) == (length, resized, resized)
    for one, two in itertools.pairwise(steps):
        assert one.out_stop == two.out_first <= two.out_stop
        assert one.keep <= one.drop == two.keep <= two.first < one.stop + 1
    gaps = [two.first - one.first for one, two in itertools.pairwise(steps)] or [1]
    assert max(gaps) - min(gaps) <= 1
    assert max(gaps) <= max(1, int(min(tile, resized) * (1 - overlap)))
    weight = torch.zeros(resized)
    for step in steps:
        weight[step.first : step.stop] += step.share
    torch.testing.assert_close(weight, torch.ones(resized))


@given(
    size=st.tuples(lengths, lengths),
    resized=st.tuples(lengths, lengths),
    same=st.booleans(),
    tile=st.integers(1, 45),
    overlap=overlaps,
)
@settings(max_examples=80)
def test_blocks_are_the_blend_of_the_whole(
    size: tuple[int, int], resized: tuple[int, int], same: bool, tile: int, overlap: float
) -> None:
    resized = size if same else resized
    rows, columns = (
        tiled_side(a, b, max(tile, b // 6), overlap) for a, b in zip(size, resized, strict=True)
    )
    generator = torch.Generator().manual_seed(0)
    total, weight, tiles = np.zeros((2, *resized)), np.zeros(resized), []
    for row, column in itertools.product(rows.steps, columns.steps):
        height, width = row.stop - row.first, column.stop - column.first
        tiles.append(torch.rand(2, height, width, generator=generator))
        window = np.outer(
            *(np.sin((np.arange(side) + 0.5) * np.pi / side) ** 2 for side in (height, width))
        )
        total[:, row.first : row.stop, column.first : column.stop] += window * tiles[-1].numpy()
        weight[row.first : row.stop, column.first : column.stop] += window
    expected = (total / weight).astype(np.float32)
    planes = [
        np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR))
        for plane in expected
    ]

    np.testing.assert_allclose(joined(tiles, rows, columns), np.stack(planes), atol=2e-5)
