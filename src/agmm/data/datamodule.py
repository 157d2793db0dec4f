"""The Lightning data module: which samples each step and rank gets."""

from collections.abc import Iterator
from typing import Any

import lightning as L
from torch.utils.data import DataLoader, Sampler

from agmm.data.dataset import Sample, TrainingViews, WholePictures
from agmm.shapes import ImageArray, MaskArray


class StepBatches(Sampler[list[int]]):
    """The positions of the samples of optimiser steps ``start`` to ``stop`` for one rank.

    Together the ranks and the accumulated batches of a step cover a run of consecutive
    positions, whatever their number: two devices see what one sees with twice the batch.

    Args:
        start: First step.
        stop: Step to end before.
        batch_size: Samples per batch and rank.
        accumulate: Batches per step.
        rank: Number of this process.
        world_size: Number of processes.

    Example:
        >>> list(StepBatches(3, 5, batch_size=2, accumulate=1, rank=1, world_size=2))
        [[14, 15], [18, 19]]
    """

    def __init__(
        self, start: int, stop: int, *, batch_size: int, accumulate: int, rank: int, world_size: int
    ) -> None:
        self.batches = range(start * accumulate, stop * accumulate)
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            first = (batch * self.world_size + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


class SegmentationData(L.LightningDataModule):
    """Training views in rounds of ``val_every`` steps, and whole pictures for validation.

    Args:
        views: Training views by position.
        pictures: Pictures to validate on.
        batch_size: Samples per batch and rank.
        accumulate: Batches per optimiser step.
        max_steps: Optimiser steps of the whole training.
        val_every: Optimiser steps per round.
        workers: Loading processes per rank; 0 loads in the training process.
    """

    def __init__(
        self,
        views: TrainingViews,
        pictures: WholePictures,
        *,
        batch_size: int,
        accumulate: int,
        max_steps: int,
        val_every: int,
        workers: int,
    ) -> None:
        super().__init__()
        self.views, self.pictures = views, pictures
        self.batch_size, self.accumulate = batch_size, accumulate
        self.max_steps, self.val_every = max_steps, val_every
        self.workers = workers

    def train_dataloader(self) -> DataLoader[Sample]:
        """The batches from the step that the training has reached to the next validation."""
        assert self.trainer is not None
        start = self.trainer.global_step
        batches = StepBatches(
            start,
            min(start + self.val_every, self.max_steps),
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        return DataLoader(self.views, batch_sampler=batches, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader[tuple[ImageArray, MaskArray]]:
        """Every ``world_size``-th picture, each by itself since sizes differ."""
        assert self.trainer is not None
        mine = range(self.trainer.global_rank, len(self.pictures), self.trainer.world_size)
        return DataLoader(
            self.pictures,
            sampler=mine,
            batch_size=None,
            num_workers=self.workers,
            collate_fn=_as_is,
        )


def _as_is(sample: Any) -> Any:
    """Keep arrays as they are, where torch would turn them into tensors."""
    return sample
