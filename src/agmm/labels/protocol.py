"""How weak labels are simulated: one set of options for all forms, one generator per label."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agmm.errors import ConfigError
from agmm.labels.annotations import Annotation, DenseMask
from agmm.labels.forms import FORMS, Form
from agmm.labels.noise import loosen_boxes, misplace_clicks
from agmm.labels.pieces import without_crumbs
from agmm.labels.simulate import (
    simulate_blocks,
    simulate_boxes,
    simulate_points,
    simulate_scribbles,
    simulate_tags,
)
from agmm.shapes import MaskArray


@dataclass(frozen=True)
class Protocol:
    """What the simulated annotator was asked to do, and how well it was done.

    Args:
        seed: Of everything that is drawn, at least 0.
        min_pixels: Connected pieces with fewer pixels are overlooked, but never all of one class;
            see `agmm.labels.pieces.without_crumbs`.
        clicks_per_class: See `agmm.labels.simulate.simulate_points`.
        wrong_clicks: See `agmm.labels.noise.misplace_clicks`.
        stroke_width: See `agmm.labels.simulate.simulate_scribbles`.
        block_share: See `agmm.labels.simulate.simulate_blocks`.
        block_size: See `agmm.labels.simulate.simulate_blocks`.
        box_jitter: See `agmm.labels.noise.loosen_boxes`.

    Raises:
        ConfigError: A value out of its range.
    """

    seed: int = 0
    min_pixels: int = 32
    clicks_per_class: int | None = None
    wrong_clicks: float = 0.0
    stroke_width: int = 3
    block_share: float = 0.1
    block_size: int = 40
    box_jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0, but is {self.seed}.")
        # The functions judge their options themselves; a picture of one pixel is enough for it.
        annotate(np.zeros((1, 1), dtype=np.uint8), FORMS, self, key="", background=None)


def annotate(
    mask: MaskArray, forms: Sequence[Form], protocol: Protocol, *, key: str, background: int | None
) -> dict[Form, Annotation]:
    """Simulate the labels of one picture.

    All forms overlook the same pieces, so that without errors no two of them contradict each
    other. Each label has a random generator of its own, made from the seed, the form and the key:
    it is the same whatever else is simulated, before or beside it, and errors leave the other
    clicks and boxes where they were.

    Args:
        mask: Dense index mask (H, W), 255 = unlabelled.
        forms: What to simulate. "dense" gives the mask itself.
        protocol: The options.
        key: What tells the picture from all others of the data set, such as "train/NAME".
        background: Index of the background, which gets no boxes and no tag; None if no class is
            one.

    Returns:
        For each form its annotation.

    Example:
        >>> mask = np.zeros((20, 20), dtype=np.uint8)
        >>> mask[5:15, 5:15] = 1
        >>> labels = annotate(mask, ("tags", "boxes"), Protocol(), key="a", background=0)
        >>> labels["tags"].classes.tolist(), labels["boxes"].xyxy.tolist()
        ([1], [[5, 5, 15, 15]])
    """
    seen = without_crumbs(mask, protocol.min_pixels)
    return {
        form: DenseMask(mask)
        if form == "dense"
        else _annotate(seen, form, protocol, key, background)
        for form in forms
    }


def _annotate(
    mask: MaskArray, form: Form, protocol: Protocol, key: str, background: int | None
) -> Annotation:
    digest = hashlib.sha256(f"{form} {key}".encode()).digest()
    rng = np.random.default_rng([protocol.seed, *digest])
    if form == "tags":
        return simulate_tags(mask, background=background)
    if form == "scribbles":
        return simulate_scribbles(mask, rng, stroke_width=protocol.stroke_width)
    if form == "blocks":
        return simulate_blocks(
            mask, rng, block_share=protocol.block_share, block_size=protocol.block_size
        )
    if form == "boxes":
        boxes = simulate_boxes(mask, background=background)
        return loosen_boxes(boxes, mask.shape, rng, box_jitter=protocol.box_jitter)
    points = simulate_points(mask, rng, clicks_per_class=protocol.clicks_per_class)
    return misplace_clicks(points, mask, rng, wrong_clicks=protocol.wrong_clicks)
