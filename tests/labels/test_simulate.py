"""Labels of every form from dense masks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.ndimage import label

from agmm.errors import ConfigError
from agmm.labels.annotations import Points, Scribbles
from agmm.labels.simulate import (
    simulate_blocks,
    simulate_boxes,
    simulate_points,
    simulate_scribbles,
    simulate_tags,
)
from agmm.shapes import IGNORE_INDEX, MaskArray

TOUCHING = np.ones((3, 3), dtype=int)


def blobs(seed: int, size: tuple[int, int] = (48, 64)) -> MaskArray:
    """Overlapping discs of the classes 1..3 on 0, one of them void."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, dtype=np.uint8)
    rows, cols = np.indices(size)
    for value in (1, 2, 3, 1, 2, IGNORE_INDEX):
        center, radius = rng.uniform(0, size), rng.uniform(4, 12)
        mask[np.hypot(rows - center[0], cols - center[1]) < radius] = value
    return mask


def pieces(mask: MaskArray) -> list[tuple[int, np.ndarray]]:
    """Class and pixels of every connected piece, by a plain loop."""
    found = []
    for value in range(IGNORE_INDEX):
        numbered, count = label(mask == value, structure=TOUCHING)
        found += [(value, numbered == number) for number in range(1, count + 1)]
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("width", [1, 3, 5])
def test_strokes_stay_in_their_class_and_every_piece_has_one(seed: int, width: int) -> None:
    mask = blobs(seed)
    strokes = simulate_scribbles(mask, np.random.default_rng(seed), stroke_width=width).mask

    drawn = strokes != IGNORE_INDEX
    np.testing.assert_array_equal(strokes[drawn], mask[drawn])
    assert all((strokes[piece] == value).any() for value, piece in pieces(mask))


@settings(max_examples=40)
@given(
    mask=hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
        elements=st.sampled_from([0, 1, IGNORE_INDEX]),
    ),
    seed=st.integers(0, 99),
)
def test_even_single_pixels_get_a_stroke_and_a_click(mask: MaskArray, seed: int) -> None:
    strokes = simulate_scribbles(mask, np.random.default_rng(seed)).mask
    points = simulate_points(mask, np.random.default_rng(seed))

    drawn = strokes != IGNORE_INDEX
    assert (strokes[drawn] == mask[drawn]).all()
    expected = pieces(mask)
    assert all(drawn[piece].any() for _, piece in expected)
    cols, rows = points.xy.T
    assert mask[rows, cols].tolist() == points.classes.tolist()
    assert all(piece[rows, cols].sum() == 1 for _, piece in expected)


def test_a_stroke_is_connected_thick_and_shorter_than_the_object() -> None:
    mask = np.full((40, 120), IGNORE_INDEX, dtype=np.uint8)
    mask[5:35, 10:110] = 4  # a bar of 30 by 100

    lengths = []
    for seed in range(20):
        stroke = simulate_scribbles(mask, np.random.default_rng(seed), stroke_width=3).mask == 4
        assert label(stroke, structure=TOUCHING)[1] == 1
        extent = np.ptp(np.nonzero(stroke)[1]) + 1
        assert 2.5 * extent < stroke.sum() < 8 * extent
        lengths.append(extent)

    assert 30 <= min(lengths) < max(lengths) <= 95


def test_strokes_keep_away_from_the_border_of_a_wide_piece() -> None:
    mask = np.zeros((60, 60), dtype=np.uint8)
    strokes = simulate_scribbles(mask, np.random.default_rng(0), stroke_width=1).mask
    rows, cols = np.nonzero(strokes == 0)
    assert min(rows.min(), cols.min()) >= 3
    assert max(rows.max(), cols.max()) <= 56


def test_where_smoothing_would_cut_a_corner_the_stroke_stays_inside() -> None:
    mask = np.full((60, 60), IGNORE_INDEX, dtype=np.uint8)
    mask[:, :2] = mask[-2:, :] = 1  # a thin L
    for seed in range(10):
        strokes = simulate_scribbles(mask, np.random.default_rng(seed)).mask
        assert (strokes == 1).sum() >= 60
        assert (strokes[mask != 1] == IGNORE_INDEX).all()


def test_a_mask_without_a_class_gives_no_labels() -> None:
    mask = np.full((5, 6), IGNORE_INDEX, dtype=np.uint8)
    assert (simulate_scribbles(mask, np.random.default_rng(0)).mask == IGNORE_INDEX).all()
    assert simulate_points(mask, np.random.default_rng(0)).xy.shape == (0, 2)


def test_clicks_prefer_the_middle() -> None:
    mask = np.full((3, 5), IGNORE_INDEX, dtype=np.uint8)
    mask[:, :3] = 0  # depth 1 on the rim, 2 in the middle: weights 8 x 1 and 1 x 4
    rng = np.random.default_rng(0)
    clicks = np.concatenate([simulate_points(mask, rng).xy for _ in range(600)])
    middle = (clicks == 1).all(axis=1).mean()
    assert middle == pytest.approx(4 / 12, abs=0.06)


def test_the_same_seed_gives_the_same_labels() -> None:
    mask = blobs(1)

    def labels(seed: int) -> tuple[Scribbles, Points]:
        rng = np.random.default_rng(seed)
        return simulate_scribbles(mask, rng), simulate_points(mask, rng)

    (strokes, points), (strokes_again, points_again), (others, _) = labels(0), labels(0), labels(1)
    np.testing.assert_array_equal(strokes.mask, strokes_again.mask)
    np.testing.assert_array_equal(points.xy, points_again.xy)
    assert (strokes.mask != others.mask).any()


def test_a_pen_without_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="stroke_width must be at least 1"):
        simulate_scribbles(blobs(0), np.random.default_rng(0), stroke_width=0)


def test_strokes_cover_as_little_as_those_of_people(shared: Path) -> None:
    folder = shared / "data" / "camvid"
    ours, theirs = [], []
    for path in sorted((folder / "scribbles").glob("*.png"))[:3]:
        mask = np.asarray(Image.open(folder / "masks" / "train" / path.name))
        strokes = simulate_scribbles(mask, np.random.default_rng(0)).mask
        ours.append((strokes != IGNORE_INDEX).mean())
        theirs.append((np.asarray(Image.open(path)) != IGNORE_INDEX).mean())
    assert 0.4 < np.mean(ours) / np.mean(theirs) < 2.5


def test_so_many_clicks_on_every_class_are_spread_over_it() -> None:
    mask = np.zeros((40, 50), dtype=np.uint8)
    mask[:, 30:], mask[0, :3] = 2, 1
    points = simulate_points(mask, np.random.default_rng(0), clicks_per_class=20)

    cols, rows = points.xy.T
    assert np.bincount(points.classes).tolist() == [20, 3, 20]  # class 1 has 3 pixels
    assert mask[rows, cols].tolist() == points.classes.tolist()
    assert len({(x, y) for x, y in points.xy.tolist()}) == 43
    assert np.ptp(rows[points.classes == 2]) > 25


def test_clicks_come_row_by_row() -> None:
    points = simulate_points(blobs(2), np.random.default_rng(0))
    assert len(points.classes) > 3
    assert points.xy[:, ::-1].tolist() == sorted(points.xy[:, ::-1].tolist())


@settings(max_examples=60)
@given(
    mask=hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20),
        elements=st.sampled_from([0, 1, IGNORE_INDEX]),
    ),
    share=st.sampled_from([0.1, 0.2, 0.5, 1.0]),
    size=st.integers(1, 7),
    seed=st.integers(0, 99),
)
def test_blocks_are_whole_tiles_and_reach_the_share_with_none_too_many(
    mask: MaskArray, share: float, size: int, seed: int
) -> None:
    blocks = simulate_blocks(
        mask, np.random.default_rng(seed), block_share=share, block_size=size
    ).mask

    given = blocks != IGNORE_INDEX
    assert (blocks[given] == mask[given]).all()
    labelled = mask != IGNORE_INDEX
    for top in range(0, mask.shape[0], size):
        for left in range(0, mask.shape[1], size):
            tile = (slice(top, top + size), slice(left, left + size))
            assert not given[tile].any() or (given[tile] == labelled[tile]).all()
    wanted = round(share * int(labelled.sum()))
    assert given.sum() >= wanted
    assert not given.any() or given.sum() - size**2 < max(wanted, 1)
    if share == 1.0:
        assert (blocks == mask).all()


def test_every_tile_is_as_likely_as_the_others() -> None:
    mask = np.zeros((6, 6), dtype=np.uint8)
    count = np.zeros((6, 6))
    for seed in range(300):
        rng = np.random.default_rng(seed)
        count += simulate_blocks(mask, rng, block_share=0.25, block_size=2).mask == 0
    # 9 tiles of 4 pixels; a quarter of 36 pixels are 9, which takes 3 tiles.
    assert count.mean() / 300 == pytest.approx(3 / 9)
    assert count.min() / 300 == pytest.approx(3 / 9, abs=0.09)


def test_boxes_are_tight_round_every_piece_of_an_object() -> None:
    mask = np.zeros((10, 12), dtype=np.uint8)
    mask[1:4, 2:7] = 2
    mask[4, 7] = 2  # touches by its corner
    mask[6:9, 0] = 1
    mask[9, 10:] = 2
    mask[0, 0] = IGNORE_INDEX
    boxes = simulate_boxes(mask, background=0)
    assert boxes.xyxy.tolist() == [[0, 6, 1, 9], [2, 1, 8, 5], [10, 9, 12, 10]]
    assert boxes.classes.tolist() == [1, 2, 2]
    # Without a background the ground is a class like any other.
    assert simulate_boxes(mask).classes.tolist() == [0, 1, 2, 2]
    assert simulate_boxes(np.zeros((2, 2), np.uint8), background=0).xyxy.shape == (0, 4)


def test_tags_name_every_class_once() -> None:
    mask = np.array([[3, 0, 0], [IGNORE_INDEX, 7, 3]], dtype=np.uint8)
    assert simulate_tags(mask).classes.tolist() == [0, 3, 7]
    assert simulate_tags(mask, background=0).classes.tolist() == [3, 7]


@pytest.mark.parametrize(
    ("simulate", "named"),
    [
        (lambda mask, rng: simulate_points(mask, rng, clicks_per_class=0), "clicks_per_class"),
        (lambda mask, rng: simulate_blocks(mask, rng, block_share=0.0), "block_share"),
        (lambda mask, rng: simulate_blocks(mask, rng, block_share=1.1), "block_share"),
        (lambda mask, rng: simulate_blocks(mask, rng, block_share=float("nan")), "block_share"),
        (lambda mask, rng: simulate_blocks(mask, rng, block_size=0), "block_size"),
    ],
)
def test_options_out_of_range_are_refused(
    simulate: Callable[[MaskArray, np.random.Generator], object], named: str
) -> None:
    with pytest.raises(ConfigError, match=f"{named} must be"):
        simulate(blobs(0), np.random.default_rng(0))
