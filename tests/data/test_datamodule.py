from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agmm.data.datamodule import SegmentationData, StepBatches
from agmm.data.dataset import TrainingViews, WholePictures
from agmm.data.transforms import training_view
from agmm.datasets.reader import read_dataset


@given(
    start=st.integers(0, 50),
    steps=st.integers(0, 6),
    batch_size=st.integers(1, 5),
    accumulate=st.integers(1, 4),
    world_size=st.integers(1, 4),
)
def test_ranks_and_accumulation_share_what_one_process_sees_with_a_larger_batch(
    start: int, steps: int, batch_size: int, accumulate: int, world_size: int
) -> None:
    ranks = [
        StepBatches(
            start,
            start + steps,
            batch_size=batch_size,
            accumulate=accumulate,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    whole = batch_size * accumulate * world_size

    batches = [list(rank) for rank in ranks]

    assert all(len(rank) == len(found) for rank, found in zip(ranks, batches, strict=True))
    assert all(len(batch) == batch_size for found in batches for batch in found)
    for step in range(steps):
        mine = slice(step * accumulate, (step + 1) * accumulate)
        seen = [p for found in batches for batch in found[mine] for p in batch]
        first = (start + step) * whole
        assert sorted(seen) == list(range(first, first + whole))


def test_a_continued_training_goes_on_where_it_was_stopped() -> None:
    options: dict[str, Any] = {"batch_size": 3, "accumulate": 2, "rank": 1, "world_size": 2}

    whole = list(StepBatches(0, 9, **options))
    parts = [*StepBatches(0, 4, **options), *StepBatches(4, 9, **options)]

    assert parts == whole


def data_module(
    root: Path, *, step: int = 0, rank: int = 0, world_size: int = 1
) -> SegmentationData:
    dataset = read_dataset(root)
    views = TrainingViews(
        dataset.split("train"),
        ("points",),
        3,
        training_view(scale=(1.0, 1.0), crop=(16, 20), color_jitter=0.0),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        seed=0,
        complete=False,
        background=None,
    )
    data = SegmentationData(
        views,
        WholePictures(dataset.split("val")),
        batch_size=2,
        accumulate=1,
        max_steps=8,
        val_every=3,
        workers=0,
    )
    trainer: Any = SimpleNamespace(global_step=step, global_rank=rank, world_size=world_size)
    data.trainer = trainer
    return data


@pytest.mark.parametrize(("step", "number"), [(0, 3), (3, 3), (6, 2), (7, 1)])
def test_a_round_ends_with_the_validation_or_with_the_training(
    tiny_data: Path, step: int, number: int
) -> None:
    data = data_module(tiny_data, step=step)

    batches = list(data.train_dataloader())

    assert len(batches) == number
    for index, batch in enumerate(batches):
        assert batch["image"].shape == (2, 3, 16, 20)
        assert batch["candidates"].shape == (2, 3)
        for row in range(2):
            view = data.views[2 * (step + index) + row]
            assert torch.equal(batch["image"][row], view["image"])
            assert torch.equal(batch["seeds"][row], view["seeds"])


def test_ranks_share_the_validation_pictures(tiny_data: Path) -> None:
    shares = [list(data_module(tiny_data, rank=r, world_size=2).val_dataloader()) for r in (0, 1)]
    alone = list(data_module(tiny_data).val_dataloader())

    assert [len(share) for share in shares] == [1, 1]
    assert len(alone) == 2
    for (image, mask), share in zip(alone, shares, strict=True):
        assert isinstance(image, np.ndarray)
        assert image.shape == (48, 64, 3)
        assert np.array_equal(image, share[0][0])
        assert np.array_equal(mask, share[0][1])
