"""The Lightning task: one step is network, objective, averaged weights; nothing else."""

import copy
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from agmm.config import TrainConfig
from agmm.data.dataset import Sample, view_seed
from agmm.errors import ConfigError, NonFiniteLossError
from agmm.evaluation.confusion import confusion_matrix, scores
from agmm.inference.network import needed_arguments
from agmm.inference.predict import predict_mask
from agmm.mixture import ObjectiveOutput
from agmm.models.classifier import Classifier
from agmm.models.segmenter import Segmenter
from agmm.shapes import ImageArray, MaskArray

MOMENTUM = 0.9
POLY_POWER = 0.9


class SegmentationTask(L.LightningModule):
    """Train a network with an objective; validate and keep its averaged weights.

    Args:
        model: The network to train.
        objective: A module with the contract of :class:`agmm.mixture.AGMMLoss`; its ``needs``
            say what it is given besides (:data:`agmm.mixture.Need`).
        config: The training's config.
        max_steps: Optimiser steps of the whole training.
    """

    def __init__(
        self, model: Segmenter, objective: nn.Module, config: TrainConfig, max_steps: int
    ) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
        self.objective = objective
        self.config, self.max_steps = config, max_steps
        self.averaged = AveragedModel(
            copy.deepcopy(model),
            multi_avg_fn=partial(average_weights, config.ema_decay),
            use_buffers=True,
        ).requires_grad_(requires_grad=False)
        for norm in batch_norms(self.averaged):
            norm.momentum = 0.0  # its statistics are averaged like its weights
        k = model.num_classes
        self.confusion: Tensor
        self.register_buffer("confusion", torch.zeros(k, k, dtype=torch.int64), persistent=False)
        self.train()  # Lightning trains in the modes that it finds

    def on_train_batch_start(self, batch: Sample, batch_idx: int) -> None:
        """Seed dropout by the step, so that a continued training draws what it would have.

        Every batch of a step has a seed of its own, also those of other processes.
        """
        del batch
        number = batch_idx * self.trainer.world_size + self.global_rank
        torch.manual_seed(view_seed(self.config.seed, self.global_step) + number)

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Loss of one batch; every term is logged by its name, as the mean over all processes."""
        del batch_idx
        result = self.objective_of(batch)
        self._check_finite(result)
        values = torch.stack([*result.terms.values(), result.loss]).detach()
        # In one message: by itself a process has only its share of each mean.
        values = self.trainer.strategy.reduce(values, reduce_op="mean")
        for name, value in zip([*result.terms, "loss"], values, strict=True):
            self.log(f"train/{name}", value, prog_bar=True)
        return result.loss

    def objective_of(self, batch: Sample) -> ObjectiveOutput:
        """Network and objective on one batch, with whatever else the objective needs."""
        output = self.model(batch["image"])
        result: ObjectiveOutput = self.objective(
            output.logits,
            output.features,
            batch["seeds"],
            candidates=batch["candidates"],
            valid=batch["valid"],
            **self._needed(batch["image"]),
        )
        return result

    def _needed(self, images: Tensor) -> dict[str, Tensor]:
        """The arguments that the objective declares in `needs`; most objectives need none."""
        given = needed_arguments(self.objective, images)
        if "teacher" in getattr(self.objective, "needs", ()):
            with torch.no_grad():
                opinion = self.averaged(images)
            given |= {"teacher_logits": opinion.logits, "teacher_features": opinion.features}
        return given

    def _check_finite(self, result: ObjectiveOutput) -> None:
        """Stop before a gradient that is not finite reaches the weights."""
        if torch.isfinite(result.loss):
            return
        bad = [f"{name} = {v.item()}" for name, v in result.terms.items() if not torch.isfinite(v)]
        raise NonFiniteLossError(
            f"step {self.global_step}: the loss is not finite ({', '.join(bad) or 'their sum'}); "
            "lower --lr, set --clip-norm 1, or use --precision 32-true; "
            "the checkpoints written so far are intact"
        )

    def on_train_batch_end(self, outputs: Any, batch: Sample, batch_idx: int) -> None:
        """Average the weights once after every optimiser step."""
        del outputs, batch, batch_idx
        if self.global_step > int(self.averaged.n_averaged):
            self.averaged.update_parameters(self.model)

    def train(self, mode: bool = True) -> Any:  # the tests check types, but not Self
        """Put the network into its mode, and the averaged one into that of a teacher.

        A teacher has no dropout, but its norms take the statistics of the batch where the network's
        do. With averaged statistics, which lag behind, short runs of ``agmm`` lost 5 points of mIoU
        (one seed, benchmarks/earlier.md): its mixture is made of the one's features and asked about
        the other's.
        """
        super().train(mode)
        self.averaged.eval()
        hold_frozen_encoder(self.model, self.config)
        pairs = zip(batch_norms(self.model), batch_norms(self.averaged), strict=True)
        for norm, averaged in pairs:
            averaged.training = norm.training  # train() would also wake the dropout inside
        return self

    def validation_step(self, batch: tuple[ImageArray, MaskArray], batch_idx: int) -> None:
        """Count one whole picture, predicted at its full size."""
        del batch_idx
        image, truth = batch
        averaged = self.averaged.module
        assert isinstance(averaged, Segmenter)
        mask = predict_mask(
            averaged,
            image,
            objective=self.objective,
            image_scale=self.config.image_scale,
            device=self.device,
        )
        found, expected = (torch.from_numpy(classes).long() for classes in (mask, truth))
        counts = confusion_matrix(found, expected, self.model.num_classes)
        self.confusion += counts.to(self.device)

    def on_validation_epoch_end(self) -> None:
        """Data-set level scores over the pictures of all ranks."""
        gathered = self.all_gather(self.confusion)
        assert isinstance(gathered, Tensor)
        total = gathered.reshape(-1, *self.confusion.shape).sum(0)
        self.confusion.zero_()
        result = scores(total.cpu())
        self.log("val/miou", result.miou, prog_bar=True, rank_zero_only=True)
        self.log("val/pixel_accuracy", result.pixel_accuracy, rank_zero_only=True)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on where the learning rate was planned for another number of steps.

        Raises:
            ConfigError: Each epoch has more pictures or fewer than when the run was started.
        """
        planned = checkpoint["lr_schedulers"][0]["total_iters"]
        if planned != self.max_steps:
            raise ConfigError(
                f"--resume: {self.config.out} was started for {planned} steps, but options and"
                f" pictures that are there now make {self.max_steps}; continue with the same"
                " training pictures, or start a new run in another --out"
            )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW or SGD; a lower rate for a pretrained encoder; polynomial decay to zero."""
        groups = parameter_groups(self.model, self.config)
        optimizer: torch.optim.Optimizer
        if self.config.optimizer == "adamw":
            optimizer = torch.optim.AdamW(groups, lr=self.config.lr)
        else:
            optimizer = torch.optim.SGD(groups, lr=self.config.lr, momentum=MOMENTUM)
        schedule = torch.optim.lr_scheduler.PolynomialLR(
            optimizer, total_iters=self.max_steps, power=POLY_POWER
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The batch norms inside, also synchronised ones, in order."""
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


@torch.no_grad()
def average_weights(
    decay: float, averaged: list[Tensor], current: list[Tensor], number: Tensor | int
) -> None:
    """Move the averaged weights by ``1 − min(decay, (1 + n) / (10 + n))`` towards the current ones.

    The decay rises with the formula of TensorFlow's ExponentialMovingAverage, so that the average
    lets go of the random weights and of the norms' first statistics within some steps. With the
    full decay from the first step on it still has 37 % of them after ``1 / (1 - decay)`` steps, and
    an objective that follows it learns from that.

    Args:
        decay: Decay after many steps, from 0 to below 1.
        averaged: Averaged weights or buffers of one type; they change in place.
        current: Those of the network, in the same order.
        number: Averages so far n, at least 1.
    """
    rising = min(decay, (1 + float(number)) / (10 + float(number)))
    if averaged[0].is_floating_point():
        torch._foreach_lerp_(averaged, current, 1 - rising)
    else:  # the norms' number of batches
        torch._foreach_copy_(averaged, current)


def hold_frozen_encoder(model: Segmenter | Classifier, config: TrainConfig) -> None:
    """Keep a frozen encoder as it is: no gradient, and norms and dropout as in prediction.

    A pretrained encoder is frozen by ``encoder_lr_factor`` 0. As nothing in it has a gradient,
    autograd keeps none of its activations.

    Args:
        model: The network; its encoder changes in place.
        config: The training's config.
    """
    if config.encoder_lr_factor == 0 and config.encoder_weights != "none":
        model.encoder.requires_grad_(requires_grad=False).eval()


def parameter_groups(model: Segmenter | Classifier, config: TrainConfig) -> list[dict[str, Any]]:
    """Encoder and rest, each split into what decays (matrices, kernels) and what does not.

    What has no gradient is in no group, so that a frozen encoder has none.
    """
    pretrained = config.encoder_weights != "none"
    encoder_lr = config.lr * (config.encoder_lr_factor if pretrained else 1.0)
    inside = {id(p) for p in model.encoder.parameters()}
    groups = []
    for is_encoder in (True, False):
        for decays in (True, False):
            parameters = [
                p
                for p in model.parameters()
                if p.requires_grad and (id(p) in inside) == is_encoder and (p.ndim > 1) == decays
            ]
            groups.append(
                {
                    "params": parameters,
                    "lr": encoder_lr if is_encoder else config.lr,
                    "weight_decay": config.weight_decay if decays else 0.0,
                }
            )
    return [group for group in groups if group["params"]]
