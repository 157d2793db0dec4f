"""The training of the classifier whose activation maps become the seeds of tags."""

import dataclasses
import hashlib
import json
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from jaxtyping import UInt8
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from agmm.config import TrainConfig
from agmm.data.tagged import TaggedViews
from agmm.data.transforms import training_view
from agmm.datasets.records import Record
from agmm.errors import DataError, WeightsError
from agmm.files import written_atomically
from agmm.labels.annotations import Tags
from agmm.models.classifier import Classifier, build_classifier, weights_file
from agmm.models.weights import read_tensors
from agmm.training.checkpoints import KeptCheckpoint, WholeCheckpoints
from agmm.training.classification_task import ClassificationTask
from agmm.training.fit import (
    is_main_process,
    number_of_steps,
    quiet_lightning,
    stopping_as_asked,
)
from agmm.training.hardware import resolved_precision, runs_on_gpu
from agmm.training.progress import TrainingProgress
from agmm.training.run import checkpoint_path

WEIGHTS = "weights.safetensors"

Targets = UInt8[np.ndarray, "n k"]


def fit_classifier(
    config: TrainConfig,
    records: Sequence[Record],
    num_classes: int,
    background: int | None,
    folder: Path,
    console: Console,
) -> Classifier:
    """Train the classifier of the tags, or take the one that the folder has of the same inputs.

    The folder gets ``checkpoints/last.ckpt`` every ``classifier.save_every`` steps, losses in
    ``logs``, and at the end ``weights.safetensors``. A training that was killed goes on from its
    checkpoint and ends with the same weights as one that was not. Weights and checkpoint name what
    they were made from: the options, the classes, the pictures and their tags. If any of these has
    changed, the console says which, and the training starts afresh. One process trains, on one
    device; others that run beside it wait for the weights.

    Args:
        config: The training's config; see `agmm.config.ClassifierConfig` for ``classifier``. The
            segmentation network's ``image_scale``, ``color_jitter``, ``seed``, ``precision`` and
            ``accelerator`` hold here too.
        records: The pictures with the label ``tags``, at least one.
        num_classes: Number of classes K.
        background: Index of the background class, which no tag teaches; None = there is none.
        folder: Where to write.
        console: Where the progress is drawn.

    Returns:
        The trained network, in eval mode, on the CPU.

    Raises:
        ConfigError: An encoder that cannot be used.
        DataError: No record, or a tag that is no class.
        NonFiniteLossError: The loss became infinite or NaN.
        WeightsError: Weights that cannot be found, read or matched.
    """
    stage = stage_config(config)
    targets = read_targets(records, num_classes)
    inputs = _inputs(stage, records, targets, background)
    finished = folder / WEIGHTS
    if not is_main_process():
        while not finished.is_file() or _changed(_inputs_of(finished), inputs):
            time.sleep(0.5)
    if finished.is_file():
        if not (changed := _changed(_inputs_of(finished), inputs)):
            return load_classifier(folder)
        console.print(
            f"the classifier in {folder} was trained with other {changed}; training it again",
            markup=False,
            soft_wrap=True,
        )
    _train(stage, records, targets, inputs, folder, console)
    return load_classifier(folder)


def load_classifier(folder: Path, device: str = "cpu") -> Classifier:
    """Load the finished classifier of a folder that `fit_classifier` has written.

    Args:
        folder: The folder with ``weights.safetensors``.
        device: Where to put the network.

    Returns:
        The network in eval mode.

    Raises:
        WeightsError: If there are no such weights, or none that `fit_classifier` has written.
    """
    file = folder / WEIGHTS
    if not file.is_file():
        raise WeightsError(
            f"{file}: no such file; the training of the classifier has not finished, continue it"
        )
    inputs = _inputs_of(file)
    try:
        model = build_classifier(
            inputs["encoder"],
            "none",
            inputs["num_classes"],
            output_stride=inputs["output_stride"],
        )
        model.load_state_dict(read_tensors(file))
    except (KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{file}: no weights of a classifier of tags ({error}); "
            f"delete the file, and the classifier is trained again"
        ) from error
    return model.to(device).eval()


def stage_config(config: TrainConfig) -> TrainConfig:
    """The config of the classifier's training: where both have an option, the classifier's."""
    own = dataclasses.asdict(config.classifier)
    shared = {field.name for field in dataclasses.fields(config)} & own.keys()
    given = {name: own[name] for name in shared if own[name] is not None}
    return dataclasses.replace(
        config, **given, max_steps=None, accumulate=1, devices=1, num_nodes=1
    )


def read_targets(records: Sequence[Record], num_classes: int) -> Targets:
    """Which classes each record is tagged with.

    Args:
        records: Records with the label ``tags``.
        num_classes: Number of classes K.

    Returns:
        (n, K), 1 where tagged.

    Raises:
        DataError: No record, or a tag that is no class.
    """
    if not records:
        raise DataError(
            "tags: no picture has any, and the classifier learns from nothing else; "
            "add tags, or train with other --labels"
        )
    targets = np.zeros((len(records), num_classes), np.uint8)
    for row, record in zip(targets, records, strict=True):
        tags = record.labels["tags"]()
        assert isinstance(tags, Tags), f"{record.name}: 'tags' reads {tags}"
        if (tags.classes >= num_classes).any():
            raise DataError(
                f"{record.image}: tagged with class {tags.classes.max()}, expected 0 to "
                f"{num_classes - 1}; correct its tags, or the list of classes"
            )
        row[tags.classes] = 1
    return targets


def _train(
    config: TrainConfig,
    records: Sequence[Record],
    targets: Targets,
    inputs: dict[str, Any],
    folder: Path,
    console: Console,
) -> None:
    model = build_classifier(
        config.encoder,
        config.encoder_weights,
        inputs["num_classes"],
        output_stride=inputs["output_stride"],
        seed=config.seed,
    )
    low, high = config.scale
    view = training_view(
        scale=(config.image_scale * low, config.image_scale * high),
        crop=config.crop,
        color_jitter=config.color_jitter,
    )
    views = TaggedViews(records, targets, view, mean=model.mean, std=model.std, seed=config.seed)
    max_steps = number_of_steps(config, len(records))
    task = ClassificationTask(model, views, config, inputs, max_steps)
    last = checkpoint_path(folder, "last")
    resume_from = last if last.is_file() and not _changed(_inputs_of(last), inputs) else None
    console.print(
        f"classifier: {len(records)} pictures with tags, {max_steps} steps, "
        f"stride {model.stride}; {model.weights_report}",
        markup=False,
        soft_wrap=True,
    )
    with quiet_lightning(), stopping_as_asked():
        trainer = _trainer(config, folder, max_steps, console)
        trainer.fit(task, ckpt_path=resume_from, weights_only=True)
    tensors = {name: value.contiguous() for name, value in model.cpu().state_dict().items()}
    with written_atomically(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"inputs": json.dumps(inputs)})


def _trainer(config: TrainConfig, folder: Path, max_steps: int, console: Console) -> L.Trainer:
    on_gpu = runs_on_gpu(config.accelerator)
    return L.Trainer(
        max_steps=max_steps,
        max_epochs=-1,
        reload_dataloaders_every_n_epochs=1,  # every round has its own steps
        use_distributed_sampler=False,
        precision=resolved_precision(config.precision, config.accelerator),
        accelerator=config.accelerator,
        devices=1,
        plugins=[
            LightningEnvironment(),  # alone, also inside of a job of several processes
            WholeCheckpoints(),
        ],
        callbacks=[KeptCheckpoint(folder, "last"), TrainingProgress(console, max_steps)],
        logger=CSVLogger(folder / "logs", name="csv"),
        deterministic="warn" if on_gpu else False,
        log_every_n_steps=min(10, config.classifier.save_every),
        enable_model_summary=False,
    )


def _inputs(
    config: TrainConfig, records: Sequence[Record], targets: Targets, background: int | None
) -> dict[str, Any]:
    """Everything that decides the weights, as JSON has it; the bytes of files as hashes."""
    names = (
        "encoder", "encoder_weights", "image_scale", "scale", "crop", "color_jitter", "batch_size",
        "epochs", "lr", "encoder_lr_factor", "weight_decay", "seed", "precision",
    )  # fmt: skip
    pictures = [
        [record.name, _hash_of(record.image), np.flatnonzero(row).tolist()]
        for record, row in zip(records, targets, strict=True)
    ]
    weights = weights_file(config.encoder_weights)
    inputs: dict[str, Any] = json.loads(
        json.dumps({name: getattr(config, name) for name in names})  # tuples become lists
    )
    return inputs | {
        "output_stride": config.classifier.output_stride,
        "num_classes": targets.shape[1],
        "background": background,
        "content of encoder_weights": _hash_of(weights) if weights and weights.is_file() else None,
        "pictures and tags": hashlib.sha256(json.dumps(pictures).encode()).hexdigest(),
    }


def _hash_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _inputs_of(file: Path) -> dict[str, Any]:
    """The inputs that a checkpoint or a file of finished weights names; empty if it names none."""
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                found: dict[str, Any] = json.loads((opened.metadata() or {}).get("inputs", "{}"))
        else:
            found = torch.load(file, map_location="cpu", weights_only=True).get("inputs", {})
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        raise WeightsError(
            f"{file}: expected a whole file of a classifier of tags, which cannot be read "
            f"({error}); delete it, and the classifier is trained again"
        ) from error
    return found


def _changed(stored: dict[str, Any], inputs: dict[str, Any]) -> str:
    """The names of the inputs that differ; empty if none does."""
    return ", ".join(
        name for name, value in inputs.items() if name not in stored or stored[name] != value
    )
