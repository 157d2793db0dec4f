"""Strokes and clicks from dense masks."""

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
from agmm.labels.simulate import simulate_points, simulate_scribbles
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


def pieces(mask: MaskArray, min_pixels: int) -> list[tuple[int, np.ndarray]]:
    """Class and pixels of every connected piece, by a plain loop."""
    found = []
    for value in range(IGNORE_INDEX):
        numbered, count = label(mask == value, structure=TOUCHING)
        found += [(value, numbered == number) for number in range(1, count + 1)]
    return [(value, piece) for value, piece in found if piece.sum() >= min_pixels]


def area(found: tuple[int, np.ndarray]) -> int:
    """Number of pixels of one of the ``pieces``."""
    return int(found[1].sum())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("width", [1, 3, 5])
def test_strokes_stay_in_their_class_and_every_large_piece_has_one(seed: int, width: int) -> None:
    mask = blobs(seed)
    strokes = simulate_scribbles(mask, np.random.default_rng(seed), width=width).mask

    drawn = strokes != IGNORE_INDEX
    np.testing.assert_array_equal(strokes[drawn], mask[drawn])
    largest = dict(sorted(pieces(mask, 1), key=area))
    large = pieces(mask, 32) + list(largest.items())
    assert all((strokes[piece] == value).any() for value, piece in large)
    in_large = np.any([piece for _, piece in large], axis=0)
    assert not drawn[~in_large].any()


@settings(deadline=None, max_examples=40)
@given(
    mask=hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
        elements=st.sampled_from([0, 1, IGNORE_INDEX]),
    ),
    seed=st.integers(0, 99),
)
def test_even_single_pixels_get_a_stroke_and_a_click(mask: MaskArray, seed: int) -> None:
    strokes = simulate_scribbles(mask, np.random.default_rng(seed), min_pixels=1).mask
    points = simulate_points(mask, np.random.default_rng(seed), min_pixels=1)

    drawn = strokes != IGNORE_INDEX
    assert (strokes[drawn] == mask[drawn]).all()
    expected = pieces(mask, 1)
    assert all(drawn[piece].any() for _, piece in expected)
    cols, rows = points.xy.T
    assert mask[rows, cols].tolist() == points.classes.tolist()
    assert all(piece[rows, cols].sum() == 1 for _, piece in expected)


def test_a_stroke_is_connected_thick_and_shorter_than_the_object() -> None:
    mask = np.full((40, 120), IGNORE_INDEX, dtype=np.uint8)
    mask[5:35, 10:110] = 4  # a bar of 30 by 100

    lengths = []
    for seed in range(20):
        stroke = simulate_scribbles(mask, np.random.default_rng(seed), width=3).mask == 4
        assert label(stroke, structure=TOUCHING)[1] == 1
        extent = np.ptp(np.nonzero(stroke)[1]) + 1
        assert 2.5 * extent < stroke.sum() < 8 * extent
        lengths.append(extent)

    assert 30 <= min(lengths) < max(lengths) <= 95


def test_strokes_keep_away_from_the_border_of_a_wide_piece() -> None:
    mask = np.zeros((60, 60), dtype=np.uint8)
    strokes = simulate_scribbles(mask, np.random.default_rng(0), width=1).mask
    rows, cols = np.nonzero(strokes == 0)
    assert min(rows.min(), cols.min()) >= 4
    assert max(rows.max(), cols.max()) <= 55


def test_where_smoothing_would_cut_a_corner_the_stroke_stays_inside() -> None:
    mask = np.full((60, 60), IGNORE_INDEX, dtype=np.uint8)
    mask[:, :2] = mask[-2:, :] = 1  # a thin L
    for seed in range(10):
        strokes = simulate_scribbles(mask, np.random.default_rng(seed)).mask
        assert (strokes == 1).sum() >= 60
        assert (strokes[mask != 1] == IGNORE_INDEX).all()


def test_small_pieces_stay_unlabelled_unless_the_class_has_no_larger_one() -> None:
    mask = np.full((10, 30), IGNORE_INDEX, dtype=np.uint8)
    mask[1:4, 1:4] = 1  # 9 pixels
    mask[1:9, 8:16] = 1  # 64 pixels
    mask[1:3, 20:22] = 2  # 4 pixels
    mask[5:8, 20:22] = 2  # 6 pixels, its largest
    rng = np.random.default_rng(0)
    drawn = simulate_scribbles(mask, rng, min_pixels=10).mask != IGNORE_INDEX
    assert drawn[1:9, 8:16].any()
    assert drawn[5:8, 20:22].any()
    assert not drawn[:, :8].any()
    assert not drawn[:4, 20:].any()
    assert simulate_points(mask, rng, min_pixels=10).classes.tolist() == [1, 2]
    assert simulate_points(mask, rng, min_pixels=9).classes.tolist() == [1, 1, 2]


def test_a_mask_without_a_class_gives_no_labels() -> None:
    mask = np.full((5, 6), IGNORE_INDEX, dtype=np.uint8)
    assert (simulate_scribbles(mask, np.random.default_rng(0)).mask == IGNORE_INDEX).all()
    assert simulate_points(mask, np.random.default_rng(0)).xy.shape == (0, 2)


def test_clicks_prefer_the_middle() -> None:
    mask = np.full((3, 5), IGNORE_INDEX, dtype=np.uint8)
    mask[:, :3] = 0  # depth 1 on the rim, 2 in the middle: weights 8 x 1 and 1 x 4
    rng = np.random.default_rng(0)
    clicks = np.concatenate([simulate_points(mask, rng, min_pixels=1).xy for _ in range(600)])
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
    with pytest.raises(ConfigError, match="width must be at least 1"):
        simulate_scribbles(blobs(0), np.random.default_rng(0), width=0)


def test_strokes_cover_as_little_as_those_of_people(shared: Path) -> None:
    folder = shared / "data" / "camvid"
    ours, theirs = [], []
    for path in sorted((folder / "scribbles").glob("*.png"))[:3]:
        mask = np.asarray(Image.open(folder / "masks" / "train" / path.name))
        strokes = simulate_scribbles(mask, np.random.default_rng(0)).mask
        ours.append((strokes != IGNORE_INDEX).mean())
        theirs.append((np.asarray(Image.open(path)) != IGNORE_INDEX).mean())
    assert 0.4 < np.mean(ours) / np.mean(theirs) < 2.5
