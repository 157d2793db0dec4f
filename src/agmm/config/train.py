"""The config of a training."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from agmm.config.pseudo import PseudoConfig
from agmm.config.rules import (
    COUNT,
    COUNT_OR_ZERO,
    CROP,
    FLAG,
    NOT_NEGATIVE,
    OPTIONS,
    PATH,
    POSITIVE,
    SCALE,
    SEED,
    SHARE,
    STEPS_OR_NONE,
    WORD,
    Rule,
    check_fields,
    is_number,
    one_of,
)
from agmm.config.seeds import CamConfig, ClassifierConfig, GrabCutConfig
from agmm.errors import ConfigError
from agmm.labels.forms import FORMS, Form

Method = Literal[
    "agmm",
    "agmm-2023",
    "partial-ce",
    "partial-ce+absent",
    "ema-teacher",
    "gated-crf",
    "prototype-contrast",
    "dense",
]
METHODS: tuple[Method, ...] = get_args(Method)
Precision = Literal["auto", "32-true", "16-mixed", "bf16-mixed"]
Optimizer = Literal["adamw", "sgd"]
Format = Literal[
    "auto",
    "folder",
    "voc",
    "cityscapes",
    "ade20k",
    "ade20k-full",
    "camvid",
    "mmseg",
    "datumaro",
    "cvat",
    "coco",
    "coco-panoptic",
    "coco-stuff",
    "coco-instances",
    "coco-keypoints",
    "coco-labels",
    "labelme",
    "labelme-web",
    "label-studio",
    "scribblesup",
    "tel",
]
Accelerator = Literal["auto", "cpu", "gpu"]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a training does.

    Args:
        data: Folder of the data set.
        out: Run folder to write; it must not hold another run.
        labels: Label forms to train from, comma-separated: points, scribbles, blocks, boxes, tags,
            dense; of each picture those that it has are taken. pseudo:RUN adds the pseudo labels of
            an earlier run, or of a folder that ``agmm label`` has written; alone it also takes the
            forms that these were made from.
        format: Layout of the data set; ``auto`` recognises it.
        mapping: YAML file with classes to rename, merge or drop, a line ``old: new`` or ``old:
            null`` for each; the run folder keeps a copy, which evaluate, label and seeds use.
        method: Objective: agmm, agmm-2023, partial-ce (cross-entropy on the labelled pixels),
            partial-ce+absent, ema-teacher (mean teacher on the unlabelled pixels), gated-crf
            (neighbours of one colour), prototype-contrast (features against class prototypes),
            dense.
        complete_labels: The annotator labelled every class that is in a picture, so that the
            classes without a label are known to be absent from it.
        skip_bad: Skip, count and list unusable files instead of stopping.
        clip_boxes: Repair boxes that reach out of their picture, have their corners in the wrong
            order or no pixel: clip, reorder or drop them, counted and listed, instead of stopping.
            A box that lies wholly outside stays a fault.
        encoder: Name of a timm or segmentation-models-pytorch encoder.
        encoder_weights: ``imagenet``, ``none``, or a safetensors or pth file.
        decoder: Name of a segmentation-models-pytorch decoder.
        image_scale: Factor on the size of every picture before anything else, in training and
            in prediction; below 1 for pictures larger than the task needs.
        scale: Lowest and highest random scale in training, on top of ``image_scale``.
        crop: Height and width of the training crops, in pixels after scaling.
        color_jitter: Strength of random brightness, contrast and saturation, 0 to 1, and a tenth
            of it of the hue; 0 = off.
        batch_size: Pictures per batch and device.
        accumulate: Batches whose gradients are added up for one step.
        max_steps: Optimiser steps; ``null`` = as many as ``epochs`` needs.
        epochs: Passes over the training pictures; used where ``max_steps`` is not given.
        val_every: Steps between two validations, each followed by a checkpoint.
        optimizer: adamw, or sgd with momentum 0.9.
        lr: Peak learning rate of the decoder; it falls to 0 by a polynomial of power 0.9.
        encoder_lr_factor: Factor on ``lr`` for an encoder with pretrained weights; 0 = it is
            frozen: weights and norms stay as they are, and training takes less memory.
        weight_decay: Weight decay on matrices and kernels; never on biases and norms.
        clip_norm: Largest norm of the gradient; 0 = no clipping.
        ema_decay: Decay of the averaged weights that are evaluated and saved, per step; it rises
            to this value as ``(1 + n) / (10 + n)`` after n steps; 0 = the last weights themselves.
        warmup: Share of the steps over which a method's self-supervised terms rise from 0.
        objective: Options of the method's objective by name, e.g. ``--objective.mutual 0.2``.
        seed: Seed of the weights, the order of the pictures and their augmentation.
        precision: 32-true, bf16-mixed, 16-mixed, or auto: bf16-mixed on a GPU that has it, else
            32-true. The mixture is always computed in float32.
        accelerator: auto, cpu or gpu.
        devices: Devices per node.
        num_nodes: Nodes.
        workers: Processes that load pictures, per device.
        overlays: Training pictures that are drawn into the run folder at the end.
        seeds: Folders with the seeds of tags and boxes, such as ``RUN/seeds/tags`` or the output of
            another tool: NAME.png (class indices, 255 = unlabelled), or NAME.npy or NAME.npz (class
            activation maps). Without any, they are made first, as the next three options say.
        classifier: Options of the classifier that learns the tags.
        cam: Options of its class activation maps, which become the seeds of tags.
        grabcut: Options of GrabCut, which gives the seeds inside boxes.
        pseudo: Options of pseudo labels.
        resume: Continue the run in ``out`` from its last checkpoint.
    """

    data: Path
    out: Path
    labels: tuple[Form, ...]
    format: Format = "auto"
    mapping: Path | None = None
    method: Method = "agmm"
    complete_labels: bool = False
    skip_bad: bool = False
    clip_boxes: bool = False
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
    objective: dict[str, float | bool | str] = field(default_factory=dict)
    seed: int = 0
    precision: Precision = "auto"
    accelerator: Accelerator = "auto"
    devices: int = 1
    num_nodes: int = 1
    workers: int = 2
    overlays: int = 4
    seeds: tuple[Path, ...] = ()
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    cam: CamConfig = field(default_factory=CamConfig)
    grabcut: GrabCutConfig = field(default_factory=GrabCutConfig)
    pseudo: PseudoConfig = field(default_factory=PseudoConfig)
    resume: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.labels, tuple | list):
            raise ConfigError(
                f"labels: expected a tuple of forms such as ('points',), got {self.labels!r}"
            )
        if not self.labels and self.pseudo.source is None:
            raise ConfigError(f"labels: expected at least one of {', '.join(FORMS)}, got none")
        for form in self.labels:
            if form not in FORMS:
                raise ConfigError(f"labels: expected one of {', '.join(FORMS)}, got {form!r}")
        if len(set(self.labels)) < len(self.labels):
            raise ConfigError(
                f"labels: expected each form once, got {','.join(self.labels)}; name it once"
            )
        check_fields(self, _RULES)
        source = self.pseudo.source
        given = [*self.labels, *([] if source is None else [f"pseudo:{source}"])]
        if self.method == "dense" and given != ["dense"]:
            raise ConfigError(
                f"method: dense trains on dense masks only, got labels {','.join(given)}; "
                "give --labels dense, or choose another --method"
            )


_RULES: dict[str, Rule] = {
    "data": PATH,
    "out": PATH,
    "format": one_of(Format),
    "mapping": (lambda v: v is None or isinstance(v, Path), "a pathlib.Path, or null"),
    "method": one_of(Method),
    **dict.fromkeys(("complete_labels", "skip_bad", "clip_boxes", "resume"), FLAG),
    **dict.fromkeys(("encoder", "encoder_weights", "decoder"), WORD),
    "objective": OPTIONS,
    "seeds": (
        lambda v: isinstance(v, tuple) and all(isinstance(path, Path) for path in v),
        "a tuple of pathlib.Path",
    ),
    "image_scale": POSITIVE,
    "scale": SCALE,
    "crop": CROP,
    "color_jitter": SHARE,
    "batch_size": COUNT,
    "accumulate": COUNT,
    "max_steps": STEPS_OR_NONE,
    "epochs": COUNT,
    "val_every": COUNT,
    "optimizer": one_of(Optimizer),
    "lr": POSITIVE,
    "encoder_lr_factor": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "clip_norm": NOT_NEGATIVE,
    "ema_decay": (lambda v: is_number(v) and 0 <= v < 1, "a number from 0 to below 1"),
    "warmup": SHARE,
    "seed": SEED,
    "precision": one_of(Precision),
    "accelerator": one_of(Accelerator),
    "devices": COUNT,
    "num_nodes": COUNT,
    "workers": COUNT_OR_ZERO,
    "overlays": COUNT_OR_ZERO,
}
"""Field to what its value must be, and how to say so."""
