"""The objective learns from whole training pictures which classes a picture shows."""

from collections.abc import Sequence
from functools import cached_property

import lightning as L
import torch
from torch import Tensor

from agmm.config import TrainConfig
from agmm.data.dataset import supervise
from agmm.datasets.images import image_size, read_image
from agmm.datasets.records import Record
from agmm.inference.network import eval_mode, needed_arguments, whole_input
from agmm.mixture import AGMMLoss
from agmm.models.segmenter import Segmenter
from agmm.training.task import SegmentationTask

MOST_PICTURES = 1000
"""... that it looks at; a third of them tells far less (benchmarks)."""
LONGEST_SIDE = 1024
"""Longer pictures are predicted in tiles, of which the labels of the picture say little."""


class LearnPresence(L.Callback):
    """Fit `presence_model` before a validation, or before a checkpoint of a training without any.

    Args:
        config: The training's config.
        records: Training records.
        num_classes: Number of classes.
        background: Index of the background class; None if no class is one.
    """

    def __init__(
        self,
        config: TrainConfig,
        records: Sequence[Record],
        num_classes: int,
        background: int | None,
    ) -> None:
        number = min(len(records), MOST_PICTURES)
        self.config = config
        self.records = [records[i * len(records) // number] for i in range(number)]
        self.num_classes, self.background = num_classes, background

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The scores that follow are those of predictions that know what a picture shows."""
        self._fit(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Checkpoints are written after this."""
        if not trainer.enable_validation:
            self._fit(trainer, pl_module)

    def _fit(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        assert isinstance(task, SegmentationTask)
        network, objective = task.averaged.module, task.objective
        assert isinstance(network, Segmenter)
        assert isinstance(objective, AGMMLoss)
        vectors = [
            objective.presence_model.axes.new_empty(0, objective.presence_model.axes.shape[1])
        ]
        shown = [torch.empty(0, network.num_classes, dtype=torch.bool)]
        with eval_mode(network), eval_mode(objective), torch.inference_mode():
            for record, classes in self._telling[trainer.global_rank :: trainer.world_size]:
                picture = whole_input(network, read_image(record.image), self.config.image_scale)
                picture = picture.to(objective.presence_model.axes.device)
                features = network(picture).features
                needed = needed_arguments(objective, picture)
                vectors.append(objective.image_vectors(features, needed.get("images")))
                shown.append(classes[None])
        objective.presence_model.fit(torch.cat(vectors), torch.cat(shown).to(vectors[0].device))

    @cached_property
    def _telling(self) -> list[tuple[Record, Tensor]]:
        """The pictures of which the labels rule out a class, and the classes that they leave."""
        found = []
        for record in self.records:
            size = image_size(record.image)
            if max(size) * self.config.image_scale > LONGEST_SIDE:
                continue
            annotations = [
                record.labels[form]() for form in self.config.labels if form in record.labels
            ]
            given = supervise(
                annotations, (), size, self.num_classes,
                complete=self.config.complete_labels, background=self.background,
            )  # fmt: skip
            shown = torch.from_numpy(given.candidates.reshape(self.num_classes, -1).any(1))
            if not shown.all():
                found.append((record, shown))
        return found
