"""One training with Lightning: trainer, callbacks and loggers."""

import contextlib
import logging
import math
import signal
import warnings
from collections.abc import Iterator, Sequence

import lightning as L
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from rich.console import Console
from torch import nn

from agmm.config import TrainConfig
from agmm.data.datamodule import SegmentationData
from agmm.data.dataset import TrainingViews, WholePictures
from agmm.data.transforms import training_view
from agmm.datasets.records import Record
from agmm.mixture import AGMMLoss
from agmm.models.segmenter import Segmenter
from agmm.training.checkpoints import KeptCheckpoint, WholeCheckpoints
from agmm.training.cost import TrainingCost
from agmm.training.hardware import resolved_precision, runs_on_gpu
from agmm.training.presence import LearnPresence
from agmm.training.progress import TrainingProgress
from agmm.training.run import checkpoint_path, reached_step
from agmm.training.task import SegmentationTask


def number_of_steps(config: TrainConfig, num_pictures: int) -> int:
    """Optimiser steps of a training: as given, or enough for the epochs."""
    if config.max_steps is not None:
        return config.max_steps
    per_step = config.batch_size * config.accumulate * config.devices * config.num_nodes
    return math.ceil(config.epochs * num_pictures / per_step)


def fit(
    config: TrainConfig,
    train: Sequence[Record],
    val: Sequence[Record],
    model: Segmenter,
    objective: nn.Module,
    background: int | None,
    console: Console,
) -> None:
    """Train to the last step, from the last checkpoint where ``config.resume`` asks for it.

    Args:
        config: The training's config.
        train: Training records, checked.
        val: Validation records with dense masks, checked; may be empty.
        model: The network; its weights change in place.
        objective: The objective; its statistics change in place.
        background: Index of the background class; None if no class is one.
        console: Where the progress is drawn.
    """
    max_steps = number_of_steps(config, len(train))
    data = SegmentationData(
        training_views(config, train, model, background),
        WholePictures(val),
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        max_steps=max_steps,
        val_every=config.val_every,
        workers=config.workers,
    )
    last = checkpoint_path(config.out, "last")
    resume_from = last if config.resume and last.is_file() else None
    if resume_from and reached_step(last) >= max_steps:
        return
    task = SegmentationTask(model, objective, config, max_steps)
    callbacks: list[L.Callback] = [Timer(), TrainingCost(), TrainingProgress(console, max_steps)]
    if isinstance(objective, AGMMLoss) and objective.presence and objective.joint_prediction:
        callbacks.append(LearnPresence(config, train, model.num_classes, background))
    with quiet_lightning(), stopping_as_asked():
        trainer = _trainer(config, max_steps, callbacks, validates=bool(val))
        trainer.fit(task, datamodule=data, ckpt_path=resume_from, weights_only=True)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep advertisements and advice meant for programmers off the console."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Lightning 2.6 calls what torch 2.8 and later deprecate.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            for advice in (
                "does not have many workers",  # as many as --workers says
                "smaller than the logging interval",  # a short last round
                "exists and is not empty",  # a run that is continued
                "could not find the monitored key",  # ... saves once before it validates
                "in eval mode at the start of training",  # averaged weights, a frozen encoder
            ):
                warnings.filterwarnings("ignore", message=f".*{advice}.*")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def stopping_as_asked() -> Iterator[None]:
    """Let a signal end the program as it would without Lightning, which exits with 1 or 0.

    Raises:
        KeyboardInterrupt: After Ctrl-C.
        SystemExit: After SIGTERM, with the code 143 that shells give for it.
    """
    try:
        yield
    except SIGTERMException as stop:
        raise SystemExit(128 + signal.SIGTERM) from stop
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise


def is_main_process() -> bool:
    """Whether this process is the one that writes files and talks."""
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]
    return rank == 0


def training_views(
    config: TrainConfig, records: Sequence[Record], model: Segmenter, background: int | None
) -> TrainingViews:
    """The random views of the records that the config asks for."""
    low, high = config.scale
    return TrainingViews(
        records,
        config.labels,
        model.num_classes,
        training_view(
            scale=(config.image_scale * low, config.image_scale * high),
            crop=config.crop,
            color_jitter=config.color_jitter,
        ),
        mean=model.mean,
        std=model.std,
        seed=config.seed,
        complete=config.complete_labels,
        background=background,
    )


def _trainer(
    config: TrainConfig, max_steps: int, callbacks: Sequence[L.Callback], *, validates: bool
) -> L.Trainer:
    logs = config.out / "logs"
    checkpoints = [KeptCheckpoint(config.out, "last")]
    if validates:
        # Written first, so that the last one knows the score of the best one.
        checkpoints.insert(0, KeptCheckpoint(config.out, "best", monitor="val/miou"))
    several = config.devices * config.num_nodes > 1
    on_gpu = runs_on_gpu(config.accelerator)
    return L.Trainer(
        max_steps=max_steps,
        max_epochs=-1,
        reload_dataloaders_every_n_epochs=1,  # every round has its own steps
        use_distributed_sampler=False,  # StepBatches knows the rank
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.clip_norm or None,
        precision=resolved_precision(config.precision, config.accelerator),
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        # Some encoders have a last stage that no decoder uses.
        strategy="ddp_find_unused_parameters_true" if several else "auto",
        sync_batchnorm=several and on_gpu,  # torch has it for GPUs only
        plugins=[WholeCheckpoints()],
        callbacks=[*callbacks, *checkpoints],
        logger=[
            CSVLogger(logs, name="csv"),
            TensorBoardLogger(logs, name="tensorboard"),
        ],
        # The same seed, the same weights: on the CPU this holds as it is.
        deterministic="warn" if on_gpu else False,
        log_every_n_steps=min(10, config.val_every),
        num_sanity_val_steps=0,
        limit_val_batches=None if validates else 0,
        enable_model_summary=False,
    )
