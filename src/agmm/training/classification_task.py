"""The Lightning task of the classifier of tags."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

from agmm.config import TrainConfig
from agmm.data.datamodule import StepBatches
from agmm.data.dataset import view_seed
from agmm.data.tagged import TaggedSample, TaggedViews
from agmm.errors import NonFiniteLossError
from agmm.models.classifier import Classifier
from agmm.training.task import POLY_POWER, hold_frozen_encoder, parameter_groups


class ClassificationTask(L.LightningModule):
    """Multi-label training: binary cross-entropy of each class but the background.

    Args:
        model: The network to train.
        views: The training views by position.
        config: The stage's config, as `stage_config` gives it.
        inputs: What decides the weights; saved with every checkpoint. Its ``background`` is no
            target.
        max_steps: Optimiser steps of the whole training.
    """

    def __init__(
        self,
        model: Classifier,
        views: TaggedViews,
        config: TrainConfig,
        inputs: dict[str, Any],
        max_steps: int,
    ) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
        self.views, self.config, self.inputs, self.max_steps = views, config, inputs, max_steps
        self.classes = [k for k in range(model.num_classes) if k != inputs["background"]]
        self.train()  # Lightning trains in the modes that it finds

    def train(self, mode: bool = True) -> Any:  # the tests check types, but not Self
        """A frozen encoder always predicts."""
        super().train(mode)
        hold_frozen_encoder(self.model, self.config)
        return self

    def train_dataloader(self) -> DataLoader[TaggedSample]:
        """The batches from the step that the training has reached to the next checkpoint."""
        start = self.trainer.global_step
        batches = StepBatches(
            start,
            min(start + self.config.classifier.save_every, self.max_steps),
            batch_size=self.config.batch_size,
            accumulate=1,
            rank=0,
            world_size=1,
        )
        return DataLoader(self.views, batch_sampler=batches, num_workers=self.config.workers)

    def on_train_batch_start(self, batch: TaggedSample, batch_idx: int) -> None:
        """Seed dropout by the step, so that a continued training draws what it would have."""
        del batch, batch_idx
        torch.manual_seed(view_seed(self.config.seed, self.global_step))

    def training_step(self, batch: TaggedSample, batch_idx: int) -> Tensor:
        """Mean binary cross-entropy over the pictures and the classes but the background."""
        del batch_idx
        logits = self.model(batch["image"], batch["valid"])
        loss = binary_cross_entropy_with_logits(
            logits[:, self.classes].float(), batch["targets"][:, self.classes]
        )
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"classifier, step {self.global_step}: the loss is {loss.item()}; "
                f"lower --classifier.lr ({self.config.lr}), or use --precision 32-true"
            )
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; a lower rate for a pretrained encoder; polynomial decay to zero."""
        optimizer = torch.optim.AdamW(parameter_groups(self.model, self.config), lr=self.config.lr)
        schedule = torch.optim.lr_scheduler.PolynomialLR(
            optimizer, total_iters=self.max_steps, power=POLY_POWER
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what decides the weights, so that no other training goes on from them."""
        checkpoint["inputs"] = self.inputs
