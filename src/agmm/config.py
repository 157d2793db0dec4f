"""One frozen, validated config per stage; a recipe is its YAML.

Nothing heavy is imported here: the command line builds its help from these classes.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from agmm.errors import ConfigError
from agmm.labels.forms import FORMS, Form

Method = Literal["agmm", "agmm-2023", "partial-ce", "partial-ce+absent", "ema-teacher", "dense"]
METHODS: tuple[Method, ...] = get_args(Method)
Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
Optimizer = Literal["adamw", "sgd"]
Format = Literal["auto", "folder"]
Accelerator = Literal["auto", "cpu", "gpu"]
Checkpoint = Literal["best", "last"]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a training does.

    Args:
        data: Folder of the data set.
        out: Run folder to write; it must not hold another run.
        labels: Label forms to train from, comma-separated: points, scribbles, blocks, dense.
        format: Layout of the data set; ``auto`` recognises it.
        method: Objective: agmm, agmm-2023, partial-ce (cross-entropy on the labelled pixels),
            partial-ce+absent, ema-teacher (mean teacher on the unlabelled pixels), dense.
        complete_labels: The annotator labelled every class that is in a picture, so that the
            classes without a label are known to be absent from it.
        skip_bad: Skip, count and list unusable files instead of stopping.
        encoder: Name of a timm or segmentation-models-pytorch encoder.
        encoder_weights: ``imagenet``, ``none``, or a safetensors or pth file.
        decoder: Name of a segmentation-models-pytorch decoder.
        image_scale: Factor on the size of every picture before anything else, in training and
            in prediction; below 1 for pictures larger than the task needs.
        scale: Lowest and highest random scale in training, on top of ``image_scale``.
        crop: Height and width of the training crops, in pixels after scaling.
        color_jitter: Strength of random brightness, contrast and saturation, 0 to 1; 0 = off.
        batch_size: Pictures per batch and device.
        accumulate: Batches whose gradients are added up for one step.
        max_steps: Optimiser steps; ``null`` = as many as ``epochs`` needs.
        epochs: Passes over the training pictures; used where ``max_steps`` is not given.
        val_every: Steps between two validations, each followed by a checkpoint.
        optimizer: adamw, or sgd with momentum 0.9.
        lr: Peak learning rate of the decoder; it falls to 0 by a polynomial of power 0.9.
        encoder_lr_factor: Factor on ``lr`` for an encoder with pretrained weights.
        weight_decay: Weight decay on matrices and kernels; never on biases and norms.
        clip_norm: Largest norm of the gradient; 0 = no clipping.
        ema_decay: Decay of the averaged weights that are evaluated and saved, per step;
            0 = the last weights themselves.
        warmup: Share of the steps over which a method's self-supervised terms rise from 0.
        objective: Options of the method's objective by name, e.g. ``--objective.mutual 0.2``.
        seed: Seed of the weights, the order of the pictures and their augmentation.
        precision: 32-true, bf16-mixed or 16-mixed; the mixture is always computed in float32.
        accelerator: auto, cpu or gpu.
        devices: Devices per node.
        num_nodes: Nodes.
        workers: Processes that load pictures, per device.
        overlays: Training pictures that are drawn into the run folder at the end.
        resume: Continue the run in ``out`` from its last checkpoint.
    """

    data: Path
    out: Path
    labels: tuple[Form, ...]
    format: Format = "auto"
    method: Method = "agmm"
    complete_labels: bool = False
    skip_bad: bool = False
    encoder: str = "resnet50"
    encoder_weights: str = "imagenet"
    decoder: str = "deeplabv3plus"
    image_scale: float = 1.0
    scale: tuple[float, float] = (0.5, 2.0)
    crop: tuple[int, int] = (321, 321)
    color_jitter: float = 0.3
    batch_size: int = 8
    accumulate: int = 1
    max_steps: int | None = None
    epochs: int = 40
    val_every: int = 500
    optimizer: Optimizer = "adamw"
    lr: float = 1e-3
    encoder_lr_factor: float = 0.1
    weight_decay: float = 1e-2
    clip_norm: float = 0.0
    ema_decay: float = 0.99
    warmup: float = 0.15
    objective: dict[str, float | bool] = field(default_factory=dict)
    seed: int = 0
    precision: Precision = "32-true"
    accelerator: Accelerator = "auto"
    devices: int = 1
    num_nodes: int = 1
    workers: int = 2
    overlays: int = 4
    resume: bool = False

    def __post_init__(self) -> None:
        if not self.labels:
            raise ConfigError(f"labels: expected at least one of {', '.join(FORMS)}, got none")
        for form in self.labels:
            _check("labels", form, form in FORMS, f"one of {', '.join(FORMS)}")
        for name, (is_valid, expected) in _RULES.items():
            value = getattr(self, name)
            _check(name, value, is_valid(value), expected)
        if self.method == "dense" and self.labels != ("dense",):
            raise ConfigError(
                f"method: dense trains on dense masks only, got labels {','.join(self.labels)}; "
                "give --labels dense, or choose another --method"
            )


def _is_number(value: object) -> bool:
    """Whether a value is a finite number; YAML and Python callers may give anything."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_two(values: object, kind: Callable[[object], bool]) -> bool:
    return isinstance(values, tuple) and len(values) == 2 and all(map(kind, values))


_Rule = tuple[Callable[[Any], bool], str]
_PATH: _Rule = (lambda v: isinstance(v, Path), "a pathlib.Path")
_POSITIVE: _Rule = (lambda v: _is_number(v) and v > 0, "a positive number")
_NOT_NEGATIVE: _Rule = (lambda v: _is_number(v) and v >= 0, "a number of at least 0")
_SHARE: _Rule = (lambda v: _is_number(v) and 0 <= v <= 1, "a number from 0 to 1")
_COUNT: _Rule = (lambda v: _is_whole(v) and v > 0, "a whole number above 0")
_COUNT_OR_NONE: _Rule = (lambda v: _is_whole(v) and v >= 0, "a whole number of at least 0")


def _one_of(choices: object) -> _Rule:
    names = get_args(choices)
    return names.__contains__, f"one of {', '.join(names)}"


_RULES: dict[str, _Rule] = {
    "data": _PATH,
    "out": _PATH,
    "format": _one_of(Format),
    "method": _one_of(Method),
    "image_scale": _POSITIVE,
    "scale": (lambda v: _are_two(v, _is_number) and 0 < v[0] <= v[1], "two factors, low high"),
    "crop": (lambda v: _are_two(v, _is_whole) and min(v) > 0, "a height and a width in pixels"),
    "color_jitter": _SHARE,
    "batch_size": _COUNT,
    "accumulate": _COUNT,
    "max_steps": (lambda v: v is None or (_is_whole(v) and v > 0), "a number of steps, or null"),
    "epochs": _COUNT,
    "val_every": _COUNT,
    "optimizer": _one_of(Optimizer),
    "lr": _POSITIVE,
    "encoder_lr_factor": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "clip_norm": _NOT_NEGATIVE,
    "ema_decay": (lambda v: _is_number(v) and 0 <= v < 1, "a number from 0 to below 1"),
    "warmup": _SHARE,
    "seed": (lambda v: _is_whole(v) and 0 <= v < 2**32, "a whole number from 0 to 2**32 - 1"),
    "precision": _one_of(Precision),
    "accelerator": _one_of(Accelerator),
    "devices": _COUNT,
    "num_nodes": _COUNT,
    "workers": _COUNT_OR_NONE,
    "overlays": _COUNT_OR_NONE,
}
"""Field to what its value must be, and how to say so."""


def _check(name: str, value: object, ok: bool, expected: str) -> None:
    """Raise a ConfigError that names the field, unless ``ok``."""
    if not ok:
        raise ConfigError(f"{name}: expected {expected}, got {value!r}")


def as_plain(config: TrainConfig) -> dict[str, Any]:
    """The config as YAML and JSON can hold it: paths as strings, tuples as lists."""
    plain: dict[str, Any] = {}
    for name, value in dataclasses.asdict(config).items():
        plain[name] = (
            list(value)
            if isinstance(value, tuple)
            else str(value)
            if isinstance(value, Path)
            else value
        )
    return plain


def from_plain(values: Mapping[str, Any]) -> TrainConfig:
    """The inverse of :func:`as_plain`.

    Raises:
        ConfigError: If a key is unknown or missing, or a value is out of its range.
    """
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    if unknown := sorted(set(values) - known):
        raise ConfigError(
            f"unknown config key {unknown[0]!r}; known keys: {', '.join(sorted(known))}"
        )
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        for name in given.keys() & {"data", "out"}:
            given[name] = Path(given[name])
        return TrainConfig(**given)
    except TypeError as error:
        raise ConfigError(f"incomplete config: {error}") from error


def recipe_path(name: str) -> Path:
    """The YAML file of a recipe, given its name or its own path.

    Raises:
        ConfigError: If there is no such recipe or file; the message lists the names there are.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"--recipe: no file {path}")
        return path
    folder = _recipe_folder()
    path = folder / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ConfigError(f"--recipe: no recipe {name!r}; there are: {names}; or give a .yaml file")
    return path


def _recipe_folder() -> Path:
    """``recipes/`` inside an installed package, or beside ``src/`` in a checkout."""
    installed = Path(__file__).parent / "recipes"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "recipes"


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds one mapping.

    Raises:
        ConfigError: If the file cannot be read, is no YAML, or holds something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not a readable YAML file: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: expected a mapping of option names, got {type(values).__name__}"
        )
    return values
