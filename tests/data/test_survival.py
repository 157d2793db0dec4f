"""Whatever the labels and the view: no labelled pixel is lost, and no candidate excludes it."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from torch import Tensor
from torchvision.transforms import v2

from agmm.data import dataset
from agmm.data.dataset import Sample, TrainingViews, read_supervision, view_seed
from agmm.data.transforms import Valid, training_view
from agmm.datasets.records import Record
from agmm.labels.annotations import (
    Annotation,
    Blocks,
    Boxes,
    DenseMask,
    Points,
    Scribbles,
    Tags,
)
from agmm.labels.forms import FORMS, Form
from agmm.mixture.grid import reduce_to_grid

SIZES = st.tuples(st.integers(1, 24), st.integers(1, 24))
CROPS = st.tuples(st.integers(1, 24), st.integers(1, 24))
SCALES = st.tuples(st.floats(0.2, 1.2), st.floats(0.0, 1.8)).map(lambda s: (s[0], s[0] + s[1]))
SOME_FORMS = st.lists(st.sampled_from(FORMS), min_size=1, max_size=6, unique=True)


@pytest.fixture(autouse=True, scope="module")
def _without_type_checks() -> Iterator[None]:
    """They would take most of the time of 10,000 examples, and other tests have them on."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def annotation(
    form: Form, truth: np.ndarray, k: int, background: int | None, rng: np.random.Generator
) -> Annotation:
    """What an annotator could say in this form of a picture whose classes are known."""
    if form == "tags":
        extra = rng.integers(0, k, rng.integers(0, 2))
        return Tags(np.concatenate([np.unique(truth), extra]).astype(np.uint8))
    if form == "boxes":
        labels = [label for label in np.unique(truth).tolist() if label != background]
        return Boxes(
            np.array([box_round(truth == label, rng) for label in labels]).reshape(-1, 4),
            np.array(labels, dtype=np.uint8),
        )
    if form == "points":
        number = rng.integers(0, 5)
        rows, columns = (rng.integers(0, side, number) for side in truth.shape)
        xy = np.stack([columns, rows], axis=1) + 0.999 * rng.random((number, 2))
        return Points(xy, truth[rows, columns])
    share = {"scribbles": 0.1, "blocks": 0.4, "dense": 0.9}[form]
    shown = np.where(rng.random(truth.shape) < share, truth, np.uint8(255))
    if form == "scribbles":
        return Scribbles(shown)
    return Blocks(shown) if form == "blocks" else DenseMask(shown)


def box_round(piece: np.ndarray, rng: np.random.Generator) -> list[float]:
    """A box round all pixels of a class, not quite as tight as it could be."""
    rows, columns = np.nonzero(piece)
    ymin, xmin, ymax, xmax = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    slack = rng.random(4) * rng.integers(0, 3)
    low = np.maximum(np.array([xmin, ymin]) - slack[:2], 0.0)
    high = np.minimum(np.array([xmax, ymax]) + slack[2:], piece.shape[::-1])
    return [*low.tolist(), *high.tolist()]


def labelled_record(
    forms: list[Form], size: tuple[int, int], k: int, background: int | None, seed: int
) -> Record:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, k, (-(-size[0] // 3), -(-size[1] // 3)), dtype=np.uint8)
    truth = np.kron(coarse, np.ones((3, 3), np.uint8))[: size[0], : size[1]]
    labels = {form: annotation(form, truth, k, background, rng) for form in forms}
    values = np.array([*range(k), 255, 255, 255], np.uint8)
    guesses = [rng.choice(values, size) for _ in range(rng.integers(0, 3))]
    return Record(
        "a",
        Path("a.png"),
        {form: partial(_identity, label) for form, label in labels.items()},
        tuple(partial(_identity, guess) for guess in guesses),
    )


def _identity(value: Any) -> Any:
    return value


def carried(planes: np.ndarray, new: int, axis: int) -> np.ndarray:
    """Bool planes along one axis at another size, by the words of `resize_seeds`, slowly."""
    planes = np.moveaxis(planes, axis, 0)
    old = len(planes)
    result = np.zeros((new, *planes.shape[1:]), bool)
    if new >= old:
        for target in range(new):
            result[target] = planes[(2 * target + 1) * old // (2 * new)]
    else:
        for source in range(old):
            result[(2 * source + 1) * new // (2 * old)] |= planes[source]
    return np.moveaxis(result, 0, axis)


def way_of_the_pixels(view: v2.Compose, size: tuple[int, int], seed: int) -> tuple[Any, np.ndarray]:
    """Size after the scaling, and the number of the scaled pixel in each of the crop; -1 = none."""
    scale, *others = view.transforms
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        height, width = scale.make_params([Valid(torch.zeros(1, *size))])["size"]
        numbers = Valid(torch.arange(1, height * width + 1).view(1, height, width))
        placed = v2.Compose(others)(numbers)
    return (height, width), placed.as_subclass(Tensor)[0].numpy() - 1


def viewed(
    record: Record, view: v2.Compose, size: tuple[int, int], k: int, **options: Any
) -> Sample:
    views = TrainingViews(
        [record], FORMS, k, view, mean=(0.5,) * 3, std=(0.5,) * 3, seed=options["seed"],
        complete=options["complete"], background=options["background"],
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "read_image", lambda _: np.zeros((*size, 3), np.uint8))
        return views[3]


@pytest.mark.parametrize("examples", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_every_labelled_pixel_in_the_crop_is_a_seed_of_its_class(examples: int) -> None:
    @given(
        forms=SOME_FORMS,
        size=SIZES,
        k=st.integers(2, 6),
        has_background=st.booleans(),
        complete=st.booleans(),
        scale=SCALES,
        crop=CROPS,
        seed=st.integers(0, 2**32 - 1),
    )
    @settings(max_examples=examples)
    def survives(
        forms: list[Form],
        size: tuple[int, int],
        k: int,
        has_background: bool,
        complete: bool,
        scale: tuple[float, float],
        crop: tuple[int, int],
        seed: int,
    ) -> None:
        background = seed % k if has_background else None
        options = {"complete": complete, "background": background}
        record = labelled_record(forms, size, k, background, seed)
        labels = read_supervision(record, FORMS, size, k, **options)  # type: ignore[arg-type]
        view: Any = training_view(scale=scale, crop=crop, color_jitter=0.0)

        sample = viewed(record, view, size, k, seed=seed, **options)

        scaled, way = way_of_the_pixels(view, size, view_seed(seed, 3))
        inside = way >= 0
        marks = np.arange(k)[:, None, None] == labels.seeds  # (K, H, W)
        marks = carried(carried(marks, scaled[0], 1), scaled[1], 2).reshape(k, -1)
        here = marks[:, way.clip(min=0)] & inside  # (K, h, w): classes of the source pixels
        seeds = sample["seeds"].numpy()
        assert np.array_equal(sample["valid"].numpy(), inside)
        # Where a source pixel is labelled there is a seed, and its class is that of such a pixel.
        assert np.array_equal(seeds != 255, here.any(0))
        rows, columns = np.nonzero(seeds != 255)
        assert here[seeds[rows, columns], rows, columns].all()
        if inside.sum() == marks.shape[1]:  # nothing was cut off
            kept = np.unique(seeds[seeds != 255]).size
            assert kept == (maximum_bipartite_matching(csr_array(marks)) >= 0).sum()
        candidates_hold(sample, labels.candidates, scaled, way)

    survives()


def candidates_hold(
    sample: Sample, source: np.ndarray, scaled: tuple[int, int], way: np.ndarray
) -> None:
    candidates, seeds = sample["candidates"], sample["seeds"]
    k, inside = len(source), way >= 0
    planes = candidates if candidates.ndim == 3 else candidates[:, None, None]
    planes = planes.expand(k, *seeds.shape)
    everywhere = source if source.ndim == 3 else source[:, None, None]
    allowed = carried(carried(everywhere, scaled[0], 1), scaled[1], 2).reshape(k, -1)
    expected = allowed[:, way.clip(min=0)]
    assert np.array_equal(planes.numpy()[:, inside], expected[:, inside])
    rows, columns = torch.nonzero(seeds != 255, as_tuple=True)
    assert planes[seeds[rows, columns], rows, columns].all()
    # Down on the feature grid, at a quarter of the size.
    cells = (-(-seeds.shape[0] // 4), -(-seeds.shape[1] // 4))
    grid = reduce_to_grid(
        torch.zeros(1, k, *seeds.shape),
        torch.zeros(1, 1, *cells),
        seeds[None],
        candidates[None],
        sample["valid"][None],
    )
    assert (grid.candidates | (grid.shares == 0)).all()
    assert set(torch.nonzero(grid.shares[0].sum(1)).flatten().tolist()) == set(
        seeds[seeds != 255].tolist()
    )
