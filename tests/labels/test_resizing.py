"""A single clicked pixel survives every resize."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.optimize import linear_sum_assignment

from agmm.errors import InputError
from agmm.labels.resizing import resize_candidates, resize_seeds

SIDES = st.integers(1, 64)
SIZES = st.tuples(SIDES, SIDES)


def sparse_maps(max_side: int = 64, max_label: int = 4) -> st.SearchStrategy[np.ndarray]:
    """Index maps that are mostly unlabelled."""
    sides = st.integers(1, max_side)
    labels = st.integers(0, max_label)
    return hnp.arrays(np.uint8, st.tuples(sides, sides), elements=labels, fill=st.just(255))


def dense_maps(max_side: int = 12, max_label: int = 4) -> st.SearchStrategy[np.ndarray]:
    """Index maps where every other pixel is labelled."""
    sides = st.integers(1, max_side)
    labels = st.integers(0, max_label) | st.just(255)
    return hnp.arrays(np.uint8, st.tuples(sides, sides), elements=labels, fill=st.nothing())


def classes_of(seeds: np.ndarray) -> set[int]:
    return set(np.unique(seeds).tolist()) - {255}


def cell_of(index: int, old: int, new: int) -> int:
    """The target of a source index that shrinks; exact, as Python's whole numbers are."""
    return (2 * index + 1) * new // (2 * old)


def ballots(seeds: np.ndarray, rows: int, columns: int) -> dict[tuple[int, int], Counter[int]]:
    """Slow reference: the labelled source pixels of each target pixel, counted by class."""
    H, W = seeds.shape
    found = {cell: Counter[int]() for cell in itertools.product(range(rows), range(columns))}
    for y, x in itertools.product(range(H), range(W)):
        if seeds[y, x] != 255:
            found[cell_of(y, H, rows), cell_of(x, W, columns)][int(seeds[y, x])] += 1
    return found


def voted(seeds: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Slow reference: majority, then rarer in the source, then lower index."""
    pixels = Counter(seeds.ravel().tolist())
    result = np.full((rows, columns), 255, dtype=np.uint8)
    for cell, votes in ballots(seeds, rows, columns).items():
        if votes:
            result[cell] = min(votes, key=lambda c: (-votes[c], pixels[c], c))
    return result


def test_the_majority_wins_and_unlabelled_has_no_vote() -> None:
    seeds = np.array([[3, 3, 255, 255], [1, 255, 255, 1]], dtype=np.uint8)
    assert resize_seeds(seeds, 1, 2).tolist() == [[3, 1]]


def test_a_tie_goes_to_the_rarer_class() -> None:
    # Left: one pixel each; class 0 has three pixels in the picture and class 1 two.
    seeds = np.array([[0, 1, 0, 0], [255, 255, 1, 255]], dtype=np.uint8)
    assert resize_seeds(seeds, 1, 2).tolist() == [[1, 0]]


def test_a_tie_of_equally_frequent_classes_goes_to_the_lower_index() -> None:
    seeds = np.array([[7, 2, 7, 7, 2, 2]], dtype=np.uint8)
    assert resize_seeds(seeds, 1, 3).tolist() == [[2, 7, 2]]


def test_unlabelled_pixels_are_not_kept_as_if_they_were_a_class() -> None:
    seeds = np.array([[1, 0, 0], [0, 255, 255]], dtype=np.uint8)
    assert resize_seeds(seeds, 1, 3).tolist() == [[1, 0, 0]]


def test_a_class_without_a_majority_anywhere_is_kept() -> None:
    # Class 1 loses left by 1 to 3, but class 0 has another pixel, so it can give one.
    seeds = np.array([[0, 0, 0, 0], [0, 1, 0, 0]], dtype=np.uint8)
    assert resize_seeds(seeds, 1, 2).tolist() == [[1, 0]]


def test_a_class_gives_way_where_it_can_move() -> None:
    # Class 1 lies on the left only, where 0 wins; 0 can move right, from where 2 can move on.
    seeds = np.array([[0, 0, 0, 2, 2, 0, 2, 255], [1, 0, 0, 0, 2, 2, 2, 2]], dtype=np.uint8)
    assert voted(seeds, 1, 2).tolist() == [[0, 2]]
    row = np.array([[0, 0, 1, 2, 2, 0, 2, 2, 255]], dtype=np.uint8)
    assert voted(row, 1, 3).tolist() == [[0, 2, 2]]
    assert resize_seeds(row, 1, 3).tolist() == [[1, 0, 2]]


def test_with_too_few_pixels_the_majority_stays() -> None:
    seeds = np.array([[4, 4, 1, 0]], dtype=np.uint8)
    assert resize_seeds(seeds, 1, 1).tolist() == [[4]]
    # Classes 0 and 1 could only swap, so that class 2 finds no pixel.
    seeds = np.array([[0, 0, 0, 2, 1, 1, 1, 1, 0, 255]], dtype=np.uint8)
    assert resize_seeds(seeds, 1, 2).tolist() == [[0, 1]]


def test_one_axis_may_grow_while_the_other_shrinks() -> None:
    seeds = np.array([[255, 1], [255, 255], [0, 255], [255, 255]], dtype=np.uint8)
    assert resize_seeds(seeds, 2, 4).tolist() == [[255, 255, 1, 1], [0, 0, 255, 255]]


def test_class_254_is_a_class_like_any_other() -> None:
    seeds = np.array([[254, 255, 0, 254]], dtype=np.uint8)
    assert resize_seeds(seeds, 1, 2).tolist() == [[254, 0]]


@given(SIZES, SIZES, st.data())
def test_a_single_click_survives(
    old: tuple[int, int], new: tuple[int, int], data: st.DataObject
) -> None:
    seeds = np.full(old, 255, dtype=np.uint8)
    y, x = data.draw(st.integers(0, old[0] - 1)), data.draw(st.integers(0, old[1] - 1))
    seeds[y, x] = data.draw(st.integers(0, 254))
    resized = resize_seeds(seeds, *new)
    hit = np.argwhere(resized != 255)
    assert set(resized[resized != 255]) == {seeds[y, x]}
    # It stays where it was, to a pixel of the coarser of the two grids.
    centre = (np.array([y, x]) + 0.5) / old
    assert (np.abs((hit + 0.5) / new - centre) <= 1 / np.minimum(old, new)).all()


@given(sparse_maps() | dense_maps(), SIZES)
def test_every_class_survives_if_there_is_room_for_all(
    seeds: np.ndarray, new: tuple[int, int]
) -> None:
    rows, columns = min(seeds.shape[0], new[0]), min(seeds.shape[1], new[1])
    labels = sorted(classes_of(seeds))
    found = ballots(seeds, rows, columns)
    # Independent reference: the largest number of classes that can have a cell of their own.
    allowed = np.array([[votes[label] > 0 for votes in found.values()] for label in labels])
    room = 0
    if labels:
        room = int(allowed[linear_sum_assignment(allowed, maximize=True)].sum())
    assert len(classes_of(resize_seeds(seeds, *new))) == room


@settings(max_examples=60)
@given(sparse_maps(16) | dense_maps(), st.tuples(st.integers(1, 24), st.integers(1, 24)))
def test_the_result_is_that_of_the_slow_loop(seeds: np.ndarray, new: tuple[int, int]) -> None:
    H, W = seeds.shape
    rows, columns = min(H, new[0]), min(W, new[1])
    reference = voted(seeds, rows, columns)
    grown = np.empty(new, dtype=np.uint8)
    found = np.empty(new, dtype=object)
    votes = ballots(seeds, rows, columns)
    for y, x in itertools.product(range(new[0]), range(new[1])):
        cell = (2 * y + 1) * rows // (2 * new[0]), (2 * x + 1) * columns // (2 * new[1])
        grown[y, x], found[y, x] = reference[cell], votes[cell]
    resized = resize_seeds(seeds, *new)
    # A class is in a pixel only if one of its own source pixels is; every labelled one has one.
    for label, counts in zip(resized.ravel().tolist(), found.ravel().tolist(), strict=True):
        assert counts[label] > 0 if counts else label == 255
    if classes_of(grown) == classes_of(seeds):  # nobody had to be rescued
        assert np.array_equal(resized, grown)


@given(sparse_maps() | dense_maps())
def test_the_same_size_changes_nothing(seeds: np.ndarray) -> None:
    resized = resize_seeds(seeds, *seeds.shape)
    assert np.array_equal(resized, seeds)
    assert not np.shares_memory(resized, seeds)


@given(
    hnp.arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))), SIZES
)
def test_candidates_are_united_where_they_shrink(
    candidates: np.ndarray, new: tuple[int, int]
) -> None:
    K, H, W = candidates.shape
    rows, columns = min(H, new[0]), min(W, new[1])
    expected = np.zeros((K, rows, columns), dtype=np.bool_)
    for y, x in itertools.product(range(H), range(W)):
        expected[:, cell_of(y, H, rows), cell_of(x, W, columns)] |= candidates[:, y, x]
    resized = resize_candidates(candidates, *new)
    for y, x in itertools.product(range(new[0]), range(new[1])):
        cell = (2 * y + 1) * rows // (2 * new[0]), (2 * x + 1) * columns // (2 * new[1])
        assert np.array_equal(resized[:, y, x], expected[:, cell[0], cell[1]])


@pytest.mark.parametrize(("height", "width"), [(0, 1), (1, 0), (-1, 2)])
def test_a_target_without_pixels_is_refused(height: int, width: int) -> None:
    with pytest.raises(InputError, match="at least one pixel"):
        resize_seeds(np.zeros((2, 2), dtype=np.uint8), height, width)
    with pytest.raises(InputError, match="at least one pixel"):
        resize_candidates(np.ones((1, 2, 2), dtype=np.bool_), height, width)


def test_real_clicks_survive_a_quarter_of_the_pixels(shared: Path) -> None:
    files = sorted((shared / "data" / "camvid" / "points").glob("*.png"))
    assert len(files) == 367
    for file in files[::4]:
        clicks = np.asarray(Image.open(file))
        half = resize_seeds(clicks, 180, 240)
        for y, x in np.argwhere(clicks != 255).tolist():
            others = clicks[y // 2 * 2 : y // 2 * 2 + 2, x // 2 * 2 : x // 2 * 2 + 2]
            assert half[y // 2, x // 2] in classes_of(others)
        assert classes_of(half) == classes_of(clicks)
