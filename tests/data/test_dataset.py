from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from agmm.data.datamodule import StepBatches
from agmm.data.dataset import (
    Sample,
    TrainingViews,
    WholePictures,
    dense_mask,
    read_supervision,
    view_seed,
)
from agmm.data.transforms import training_view
from agmm.datasets.images import read_image
from agmm.datasets.masks import read_index_mask
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Record
from agmm.labels.annotations import Annotation, Boxes, DenseMask, Scribbles, Tags
from agmm.labels.forms import Form

FORMS: tuple[Form, ...] = ("scribbles",)


def views_of(records: Sequence[Record], *, seed: int = 0, **changes: Any) -> TrainingViews:
    options: dict[str, Any] = {
        "view": training_view(scale=(0.5, 2.0), crop=(24, 24), color_jitter=0.3),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "complete": True,
        "background": None,
        "forms": FORMS,
    }
    options |= changes
    return TrainingViews(records, options.pop("forms"), 3, seed=seed, **options)


def assert_same(a: Sample, b: Sample) -> None:
    assert a.keys() == b.keys() == {"image", "seeds", "candidates", "valid"}
    assert torch.equal(a["image"], b["image"])
    assert torch.equal(a["seeds"], b["seeds"])
    assert torch.equal(a["candidates"], b["candidates"])
    assert torch.equal(a["valid"], b["valid"])


def annotation(size: tuple[int, int], label: int) -> Annotation:
    return Scribbles(np.full(size, label, np.uint8))


@pytest.fixture
def records(tiny_data: Path) -> tuple[Record, ...]:
    return read_dataset(tiny_data).split("train")


@pytest.fixture
def grey_records(tmp_path: Path) -> list[Record]:
    """Seven pictures that can be told apart by their grey."""
    result = []
    for index in range(7):
        path = tmp_path / f"{index}.png"
        Image.fromarray(np.full((10, 12, 3), 10 * index, np.uint8)).save(path)
        labels = {"scribbles": partial(annotation, (10, 12), 0)}
        result.append(Record(str(index), path, labels))  # type: ignore[arg-type]
    return result


def grey_views(records: Sequence[Record], seed: int = 0) -> TrainingViews:
    view = training_view(scale=(1.0, 1.0), crop=(10, 12), color_jitter=0.0)
    return views_of(records, seed=seed, view=view, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def shown(views: TrainingViews, position: int) -> int:
    """Which of the grey pictures lies at a position."""
    return round(views[position]["image"].mean().item() * 255 / 10)


def test_types_and_shapes_of_a_sample(records: tuple[Record, ...]) -> None:
    sample = views_of(records)[5]

    assert sample["image"].shape == (3, 24, 24)
    assert sample["image"].dtype == torch.float32
    assert sample["seeds"].shape == sample["valid"].shape == (24, 24)
    assert sample["seeds"].dtype == torch.int64
    assert sample["valid"].dtype == torch.bool
    assert sample["candidates"].shape == (3,)
    assert sample["candidates"].dtype == torch.bool
    assert set(sample["seeds"].flatten().tolist()) <= {0, 1, 2, 255}


def test_a_position_is_the_same_sample_whatever_the_global_generators_are(
    records: tuple[Record, ...],
) -> None:
    positions = [0, 3, 17, 4, 1000]
    first = {position: views_of(records)[position] for position in positions}
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002 - the global generator is the point

    second = views_of(records)

    for position in reversed(positions):
        assert_same(first[position], second[position])


def test_global_generators_stay_untouched(records: tuple[Record, ...]) -> None:
    views = views_of(records)
    before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002

    for position in range(3):
        views[position]

    after = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    np.testing.assert_equal(before[1], after[1])


def test_other_positions_and_other_seeds_differ(records: tuple[Record, ...]) -> None:
    views, others = views_of(records, seed=1), views_of(records, seed=2)

    images = [views[p]["image"] for p in range(12)] + [others[p]["image"] for p in range(12)]

    for index, image in enumerate(images):
        assert not any(torch.equal(image, other) for other in images[:index])


# How many processors the machine has, and that Python 3.12 warns of every fork, is not the matter.
@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:.*multi-threaded")
def test_workers_do_not_matter(records: tuple[Record, ...]) -> None:
    views = views_of(records)
    batches = StepBatches(2, 5, batch_size=2, accumulate=1, rank=0, world_size=1)

    alone = list(DataLoader(views, batch_sampler=batches, num_workers=0))
    shared = list(DataLoader(views, batch_sampler=batches, num_workers=2))

    assert len(alone) == len(shared) == 3
    for a, b in zip(alone, shared, strict=True):
        assert_same(a, b)


def test_every_pass_shows_each_picture_once_in_an_order_of_its_own(
    grey_records: list[Record],
) -> None:
    views = grey_views(grey_records)

    passes = [tuple(shown(views, 7 * n + index) for index in range(7)) for n in range(5)]

    assert all(sorted(order) == list(range(7)) for order in passes)
    assert len(set(passes)) == 5


def test_the_order_follows_from_the_seed(grey_records: list[Record]) -> None:
    orders = [tuple(shown(grey_views(grey_records, seed), p) for p in range(7)) for seed in (0, 1)]

    again = tuple(shown(grey_views(grey_records, 0), p) for p in range(7))

    assert orders[0] == again
    assert orders[0] != orders[1]


def test_candidates_are_the_labelled_classes_where_the_labels_are_complete(
    records: tuple[Record, ...],
) -> None:
    seeds = np.full((48, 64), 255, np.uint8)
    seeds[4, 5], seeds[40, 50] = 2, 0
    record = Record("a", records[0].image, {"scribbles": lambda: Scribbles(seeds)})

    complete = views_of([record], complete=True)[0]["candidates"]
    incomplete = views_of([record], complete=False)[0]["candidates"]

    # Also those of a class whose pixels lie outside of the crop.
    assert complete.tolist() == [True, False, True]
    assert incomplete.tolist() == [True, True, True]


def test_picture_and_seeds_stay_aligned(tiny_data: Path, records: tuple[Record, ...]) -> None:
    colors = torch.tensor(read_dataset(tiny_data).classes.colors)
    view = training_view(scale=(0.6, 2.0), crop=(40, 40), color_jitter=0.0)
    views = views_of(records, view=view, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    found = set()

    for position in range(24):
        sample = views[position]
        labelled = sample["seeds"] != 255
        found |= set(sample["seeds"][labelled].tolist())
        pixels = 255 * sample["image"][:, labelled].T
        assert ((pixels - colors[sample["seeds"][labelled]]).abs() < 1.01).all()
        assert sample["valid"][labelled].all()
        assert (sample["seeds"][~sample["valid"]] == 255).all()

    assert found == {0, 1, 2}


def test_read_supervision_unites_the_forms_that_a_record_has(tiny_data: Path) -> None:
    dataset = read_dataset(tiny_data)
    record = dataset.split("train")[0]
    forms: tuple[Form, ...] = ("blocks", "points", "scribbles")

    given = read_supervision(record, forms, (48, 64), 3, complete=True, background=None)

    points = read_index_mask(tiny_data / "points/a.png", dataset.classes)
    strokes = read_index_mask(tiny_data / "scribbles/a.png", dataset.classes)
    assert np.array_equal(given.seeds, np.where(points != 255, points, strokes))
    assert given.candidates.all()


def test_guesses_yield_to_labels_and_stay_out_of_dense_masks(records: tuple[Record, ...]) -> None:
    strokes, border = np.full((48, 64), 255, np.uint8), np.zeros((48, 64), np.uint8)
    strokes[0], border[1] = 2, 255
    labels: dict[Form, Any] = {
        "scribbles": partial(Scribbles, strokes),
        "dense": partial(DenseMask, border),
    }
    guess = partial(np.ones, (48, 64), np.uint8)
    record = Record("a", records[0].image, labels, (guess,))

    def seeds(*forms: Form) -> np.ndarray:
        return read_supervision(record, forms, (48, 64), 3, complete=False, background=None).seeds

    assert np.array_equal(seeds("scribbles"), np.where(strokes == 2, 2, 1))
    assert np.array_equal(seeds("dense"), border)
    assert (seeds() == 1).all()


def box_records(records: Sequence[Record]) -> list[Record]:
    """One picture with a box, one with a tag alone, one with neither."""
    box = partial(Boxes, np.array([[8, 4, 30, 20]]), np.array([2], np.uint8))
    tag = partial(Tags, np.array([1], np.uint8))
    labels: list[Any] = [{"boxes": box}, {"tags": tag}, {}]
    return [Record(str(i), records[0].image, given) for i, given in enumerate(labels)]


def test_with_boxes_every_sample_has_candidates_by_pixel(records: tuple[Record, ...]) -> None:
    view = training_view(scale=(1.0, 1.0), crop=(60, 64), color_jitter=0.0)
    options: dict[str, Any] = {"view": view, "forms": ("boxes", "tags"), "background": 0}
    boxed, tagged, bare = (views_of([record], **options)[5] for record in box_records(records))

    assert {s["candidates"].shape for s in (boxed, tagged, bare)} == {(3, 60, 64)}
    assert {s["candidates"].dtype for s in (boxed, tagged, bare)} == {torch.bool}
    valid, inside = boxed["valid"], boxed["seeds"] == 255
    assert boxed["candidates"][0].all()
    assert not boxed["candidates"][1].any()
    assert torch.equal(boxed["candidates"][2][valid], inside[valid])
    assert (inside & valid).sum() == 22 * 16
    assert tagged["candidates"][:2].all()
    assert not tagged["candidates"][2].any()
    assert bare["candidates"].all()
    batch = next(
        iter(DataLoader(views_of(box_records(records), **options), batch_sampler=[[0, 1, 2]]))
    )
    assert batch["candidates"].shape == (3, 3, 60, 64)


def test_without_boxes_or_background_candidates_hold_for_the_picture(
    records: tuple[Record, ...],
) -> None:
    for options in ({"forms": ("tags",), "background": 0}, {"forms": ("boxes", "tags")}):
        views = views_of(box_records(records), **options)
        assert {views[position]["candidates"].shape for position in range(3)} == {(3,)}


def test_boxes_do_not_change_what_is_drawn(records: tuple[Record, ...]) -> None:
    boxed, tagged, _ = (
        views_of([record], forms=("boxes", "tags"), background=0)[7]
        for record in box_records(records)
    )

    assert torch.equal(boxed["image"], tagged["image"])
    assert torch.equal(boxed["valid"], tagged["valid"])


def test_whole_pictures_come_in_the_order_of_the_records(tiny_data: Path) -> None:
    dataset = read_dataset(tiny_data)
    pictures = WholePictures(dataset.split("val"))

    assert len(pictures) == 2
    for index, name in enumerate(("e", "f")):
        image, mask = pictures[index]
        expected = read_index_mask(tiny_data / f"masks/val/{name}.png", dataset.classes)
        assert np.array_equal(image, read_image(tiny_data / f"images/val/{name}.png"))
        assert np.array_equal(mask, expected)
        assert np.array_equal(dense_mask(dataset.split("val")[index]), expected)


@given(seed=st.integers(0, 2**32 - 1), position=st.integers(0, 2**40))
def test_view_seed_fits_torch_and_differs_between_neighbours(seed: int, position: int) -> None:
    here = view_seed(seed, position)

    assert 0 <= here < 2**63
    assert here == view_seed(seed, position)
    assert here not in {view_seed(seed, position + 1), view_seed(seed + 1, position)}
    torch.Generator().manual_seed(here)
