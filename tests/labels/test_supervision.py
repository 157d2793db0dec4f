"""Seeds and candidates never contradict each other, and a click is never lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agmm.errors import ContradictionError, InputError
from agmm.labels.supervision import Supervision, crop, hflip, merge, resize

K = 4


def supervision(seeds: list[list[int]], candidates: list[int] | np.ndarray) -> Supervision:
    if isinstance(candidates, list):
        candidates = np.array([k in candidates for k in range(K)])
    return Supervision(np.array(seeds, dtype=np.uint8), candidates)


def planes(*allowed: list[int]) -> np.ndarray:
    """Candidates (K, 1, W) of a picture of one row, by pixel."""
    return np.array([[[k in pixel for pixel in allowed]] for k in range(K)])


@st.composite
def supervisions(
    draw: st.DrawFn, size: tuple[int, int] | None = None, max_side: int = 64
) -> Supervision:
    """Any valid supervision: random candidates, with the seeds allowed."""
    sides = st.integers(1, max_side)
    size = draw(st.tuples(sides, sides)) if size is None else size
    elements = st.integers(0, K - 1)
    seeds = draw(hnp.arrays(np.uint8, size, elements=elements, fill=st.just(255)))
    shape = (K, *size) if draw(st.booleans()) else (K,)
    candidates = draw(hnp.arrays(np.bool_, shape))
    candidates[0] |= ~candidates.any(axis=0)
    y, x = np.nonzero(seeds != 255)
    candidates[(seeds[y, x], y, x)[: candidates.ndim]] = True
    return Supervision(seeds, candidates)


def same(a: Supervision, b: Supervision) -> bool:
    size = (K, *a.seeds.shape)
    left, right = (
        np.broadcast_to(s.candidates.reshape(K, *s.candidates.shape[1:] or (1, 1)), size)
        for s in (a, b)
    )
    return np.array_equal(a.seeds, b.seeds) and np.array_equal(left, right)


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("seeds", "candidates", "message"),
    [
        (np.zeros((1, 1)), np.ones(1, bool), "seeds must be uint8"),
        (np.zeros(1, np.uint8), np.ones(1, bool), "seeds must be uint8"),
        (np.zeros((0, 1), np.uint8), np.ones(1, bool), "at least one pixel"),
        (np.zeros((1, 1), np.uint8), np.ones(1), "candidates must be bool"),
        (np.zeros((1, 1), np.uint8), np.ones((1, 1, 2), bool), "candidates must be bool"),
        (np.zeros((1, 1), np.uint8), np.ones((1, 1), bool), "candidates must be bool"),
        (np.zeros((1, 1), np.uint8), np.ones(0, bool), r"K in 1\.\.255"),
        (np.zeros((1, 1), np.uint8), np.ones(256, bool), r"K in 1\.\.255"),
        (np.full((1, 1), 2, np.uint8), np.ones(2, bool), "has class 2, but there are 2"),
    ],
)
def test_bad_arrays_are_refused(seeds: np.ndarray, candidates: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Supervision(seeds, candidates)


def test_a_seed_outside_of_its_candidates_is_named() -> None:
    with pytest.raises(ContradictionError, match="pixel x=2, y=0 is labelled as class 3"):
        supervision([[255, 0, 3]], [0, 1])
    with pytest.raises(ContradictionError, match="pixel x=1, y=0 is labelled as class 2"):
        supervision([[255, 2]], planes([0], [1]))


def test_a_pixel_without_any_candidate_is_named() -> None:
    with pytest.raises(ContradictionError, match="candidate in the picture"):
        supervision([[255]], [])
    with pytest.raises(ContradictionError, match="at the pixel x=1, y=0"):
        supervision([[255, 255]], planes([0], []))


def test_unlabelled_is_no_class_even_with_255_classes() -> None:
    s = Supervision(np.array([[255, 254]], dtype=np.uint8), np.ones(255, dtype=np.bool_))
    assert s.num_classes == 255


def test_merge_unites_seeds_and_intersects_candidates() -> None:
    a = supervision([[0, 255, 255]], [0, 1, 2])
    b = supervision([[255, 2, 255]], planes([0, 3], [1, 2], [1, 3]))
    merged = merge(a, b)
    assert merged.seeds.tolist() == [[0, 2, 255]]
    assert np.array_equal(merged.candidates, planes([0], [1, 2], [1]))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (
            supervision([[255, 1]], [1]),
            supervision([[255, 2]], [2]),
            "pixel x=1, y=0 is class 1 in clicks and class 2 in strokes",
        ),
        (
            supervision([[1, 255]], [1, 2]),
            supervision([[255, 2]], [2, 3]),
            r"pixel x=0, y=0 is class 1 in clicks, which strokes excludes: it allows \[2, 3\]",
        ),
        (
            supervision([[255, 255]], planes([0], [1])),
            supervision([[255, 3]], [0, 3]),
            r"pixel x=1, y=0 is class 3 in strokes, which clicks excludes: it allows \[1\]",
        ),
        (supervision([[255]], [1]), supervision([[255]], [2]), "clicks and strokes: no class"),
        (
            supervision([[255, 255]], planes([0], [1])),
            supervision([[255, 255]], [0]),
            "clicks and strokes: no class is left as a candidate at the pixel x=1, y=0",
        ),
    ],
)
def test_contradictions_are_reported(a: Supervision, b: Supervision, message: str) -> None:
    with pytest.raises(ContradictionError, match=message):
        merge(a, b, sources=("clicks", "strokes"))


def test_only_labels_of_one_picture_are_merged() -> None:
    with pytest.raises(InputError, match="two supervisions of one picture"):
        merge(supervision([[255]], [0]), supervision([[255, 255]], [0]))
    other = Supervision(np.array([[255]], dtype=np.uint8), np.array([True]))
    with pytest.raises(InputError, match="4 classes"):
        merge(supervision([[255]], [0]), other)


@given(supervisions(size=(3, 4)), supervisions(size=(3, 4)))
def test_the_order_of_a_merge_does_not_matter(a: Supervision, b: Supervision) -> None:
    try:
        merged = merge(a, b)
    except ContradictionError:
        with pytest.raises(ContradictionError):
            merge(b, a)
        return
    assert same(merged, merge(b, a))
    assert same(merge(merged, a), merged)


@given(supervisions(), st.data())
def test_a_crop_is_its_window(s: Supervision, data: st.DataObject) -> None:
    H, W = s.seeds.shape
    top, left = data.draw(st.integers(0, H - 1)), data.draw(st.integers(0, W - 1))
    height, width = data.draw(st.integers(1, H - top)), data.draw(st.integers(1, W - left))
    part = crop(s, top, left, height, width)
    assert np.array_equal(part.seeds, s.seeds[top : top + height, left : left + width])
    window = np.s_[..., top : top + height, left : left + width]
    assert np.array_equal(
        part.candidates, s.candidates if s.candidates.ndim == 1 else s.candidates[window]
    )
    assert not np.shares_memory(part.seeds, s.seeds)


@pytest.mark.parametrize("window", [(-1, 0, 1, 1), (0, 0, 3, 1), (0, 1, 1, 2), (0, 0, 0, 1)])
def test_a_window_outside_is_refused(window: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="does not lie inside"):
        crop(supervision([[255, 0], [255, 0]], [0]), *window)


@given(supervisions())
def test_two_flips_change_nothing(s: Supervision) -> None:
    flipped = hflip(s)
    assert np.array_equal(flipped.seeds, np.fliplr(s.seeds))
    assert flipped.seeds.flags["C_CONTIGUOUS"]
    assert flipped.candidates.flags["C_CONTIGUOUS"]
    assert same(hflip(flipped), s)


@given(supervisions(max_side=24), st.integers(1, 40), st.integers(1, 40))
def test_resizing_keeps_seeds_among_their_candidates(
    s: Supervision, height: int, width: int
) -> None:
    resized = resize(s, height, width)  # raises if a candidate excluded a seed
    assert resized.seeds.shape == (height, width)
    assert resized.candidates.ndim == s.candidates.ndim
    assert bool((resized.seeds != 255).any()) == bool((s.seeds != 255).any())


@given(st.data())
def test_a_click_survives_whatever_is_done_to_the_picture(data: st.DataObject) -> None:
    H, W = data.draw(st.integers(1, 64)), data.draw(st.integers(1, 64))
    seeds = np.full((H, W), 255, dtype=np.uint8)
    seeds[data.draw(st.integers(0, H - 1)), data.draw(st.integers(0, W - 1))] = 2
    s = Supervision(seeds, np.ones((K, H, W) if data.draw(st.booleans()) else K, dtype=np.bool_))
    for step in data.draw(st.lists(st.sampled_from(["resize", "flip", "crop"]), max_size=5)):
        H, W = s.seeds.shape
        if step == "resize":
            s = resize(s, data.draw(st.integers(1, 64)), data.draw(st.integers(1, 64)))
        elif step == "flip":
            s = hflip(s)
        else:  # a window that contains one of the pixels that the click has become
            y, x = data.draw(st.sampled_from(np.argwhere(s.seeds == 2).tolist()))
            top, left = data.draw(st.integers(0, y)), data.draw(st.integers(0, x))
            bottom, right = data.draw(st.integers(y + 1, H)), data.draw(st.integers(x + 1, W))
            s = crop(s, top, left, bottom - top, right - left)
    assert set(s.seeds[s.seeds != 255].tolist()) == {2}
