"""The configs of the stages that give seeds to tags and boxes."""

from dataclasses import dataclass

from agmm.config.rules import (
    COUNT,
    COUNT_OR_ZERO,
    CROP,
    FLAG,
    NOT_NEGATIVE,
    POSITIVE,
    SCALE,
    SHARE,
    WORD_OR_NONE,
    Rule,
    check_fields,
    is_number,
)
from agmm.errors import ConfigError


@dataclass(frozen=True)
class ClassifierConfig:
    """How the multi-label classifier of the tags is trained.

    Args:
        encoder: A timm network; ``null`` = the segmentation network's encoder.
        encoder_weights: ``imagenet``, ``none``, a weights file, or the folder of an earlier run;
            ``null`` = the same as the segmentation network's.
        output_stride: Pixels per cell of its last feature map: 32, 16 or 8, where timm offers the
            choice; other networks keep their own.
        crop: Height and width of the training crops, in pixels after scaling.
        scale: Lowest and highest random scale in training.
        batch_size: Pictures per step.
        epochs: Passes over the tagged pictures.
        save_every: Steps between two checkpoints.
        lr: Peak learning rate of the last layer; it falls to 0 by a polynomial of power 0.9.
        encoder_lr_factor: Factor on ``lr`` for a pretrained encoder; 0 = it is frozen.
        weight_decay: Weight decay on matrices and kernels.
    """

    encoder: str | None = None
    encoder_weights: str | None = None
    output_stride: int = 16
    crop: tuple[int, int] = (224, 224)
    scale: tuple[float, float] = (0.5, 1.0)
    batch_size: int = 16
    epochs: int = 4
    save_every: int = 50
    lr: float = 3e-3
    encoder_lr_factor: float = 0.1
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        check_fields(self, _CLASSIFIER_RULES, "classifier.")


@dataclass(frozen=True)
class CamConfig:
    """How class activation maps become seeds.

    Args:
        scales: Factors on the picture's size; the maps of all are averaged.
        flip: Average with the maps of the mirrored picture.
        refine: Iterations of the refinement that draws the maps to the picture's edges; 0 = none.
        foreground: A pixel is a seed of its strongest class where that class's map is at least
            this, 0 to 1.
        background: A pixel is a seed of the background where every map is at most this, 0 to 1;
            below ``foreground``.
        margin: A pixel stays unlabelled where the second class comes closer to the strongest than
            this, 0 to 1.
    """

    scales: tuple[float, ...] = (1.0, 1.5)
    flip: bool = False
    refine: int = 20
    foreground: float = 0.6
    background: float = 0.15
    margin: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self, _CAM_RULES, "cam.")
        if self.background >= self.foreground:
            raise ConfigError(
                f"cam.background: expected less than cam.foreground ({self.foreground}), got "
                f"{self.background}; what is both could be neither"
            )


@dataclass(frozen=True)
class GrabCutConfig:
    """How GrabCut finds the confident foreground inside boxes.

    Args:
        iterations: Rounds of GrabCut.
        context: Width of the strip round a box that shows it the background, as a share of the
            box's width or height; at least 4 pixels.
        side: Boxes that are larger than this with their strip, in pixels, are cut at this size.
        least: Share of its box, 0 to 1, below which a foreground is not believed; the seeds are
            then the ellipse in the middle of the box.
        core: Axes of that ellipse as a share of the box's, 0 to 1.
    """

    iterations: int = 2
    context: float = 0.05
    side: int = 240
    least: float = 0.1
    core: float = 0.7

    def __post_init__(self) -> None:
        check_fields(self, _GRABCUT_RULES, "grabcut.")


_CLASSIFIER_RULES: dict[str, Rule] = {
    "encoder": WORD_OR_NONE,
    "encoder_weights": WORD_OR_NONE,
    "output_stride": (lambda v: v in (8, 16, 32), "8, 16 or 32"),
    "crop": CROP,
    "scale": SCALE,
    "batch_size": COUNT,
    "epochs": COUNT,
    "save_every": COUNT,
    "lr": POSITIVE,
    "encoder_lr_factor": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
}

_CAM_RULES: dict[str, Rule] = {
    "scales": (
        lambda v: isinstance(v, tuple) and bool(v) and all(is_number(s) and s > 0 for s in v),
        "at least one positive factor",
    ),
    "flip": FLAG,
    "refine": COUNT_OR_ZERO,
    "foreground": SHARE,
    "background": SHARE,
    "margin": SHARE,
}

_GRABCUT_RULES: dict[str, Rule] = {
    "iterations": COUNT,
    "context": NOT_NEGATIVE,
    "side": COUNT,
    "least": SHARE,
    "core": SHARE,
}
