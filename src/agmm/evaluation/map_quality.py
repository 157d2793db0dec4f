"""What seeds from activation maps would be worth at every threshold, from one pass over them."""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer

from agmm.errors import InputError
from agmm.evaluation.confusion import scores, share
from agmm.shapes import IGNORE_INDEX, MaskArray

THRESHOLDS: tuple[float, ...] = tuple(step / 20 for step in range(1, 20))
"""Values of an activation map, 0 to 1, that are compared."""


@dataclass(frozen=True)
class ThresholdQuality:
    """What one threshold gives; shares from 0 to 1, NaN where there is nothing to divide by.

    Args:
        threshold: Value of the maps.
        foreground_coverage: Share of the pixels that are seeds of their strongest class, from the
            threshold up.
        foreground_precision: Share of these that are right.
        background_coverage: Share of the pixels that are seeds of the background, below the
            threshold.
        background_precision: Share of these that are right.
        miou: mIoU of the maps as masks, with the background below the threshold; without a
            background class the same for every threshold.
    """

    threshold: float
    foreground_coverage: float
    foreground_precision: float
    background_coverage: float
    background_precision: float
    miou: float


@dataclass
class MapQuality:
    """Counts of pixels by value of the strongest map, its class, and the true class.

    Args:
        num_classes: K.
        background: Index of the background class; None if no class is one.

    Example:
        >>> quality = MapQuality(2, background=0)
        >>> strongest = np.array([[0.9, 0.6, 0.04]])
        >>> quality.add(strongest, np.array([[1, 1, 1]]), np.array([[1, 0, 0]], np.uint8))
        >>> row = quality.at(0.5)
        >>> row.foreground_precision, round(row.background_coverage, 3)
        (0.5, 0.333)
    """

    num_classes: int
    background: int | None
    counts: Int64[np.ndarray, "t k truth"] = field(init=False)

    def __post_init__(self) -> None:
        # The last column counts the pixels of pictures without a dense mask.
        shape = (len(THRESHOLDS) + 1, self.num_classes, self.num_classes + 1)
        self.counts = np.zeros(shape, np.int64)

    def add(
        self,
        strongest: Float[np.ndarray, "H W"],
        classes: Integer[np.ndarray, "H W"],
        truth: MaskArray | None,
    ) -> None:
        """Count one picture.

        Args:
            strongest: (H, W), 0 to 1, the value of the strongest map.
            classes: (H, W), its class, 0..K-1.
            truth: (H, W), the dense mask, 255 = not counted; None if the picture has none.

        Raises:
            InputError: The shapes differ.
        """
        known = np.full(strongest.shape, self.num_classes) if truth is None else truth
        if not strongest.shape == classes.shape == known.shape:
            raise InputError(
                f"maps of {strongest.shape} and {classes.shape} pixels, but truth of {known.shape}"
                " pixels; resize the maps to the picture"
            )
        counted = known != IGNORE_INDEX
        bins = np.searchsorted(THRESHOLDS, strongest[counted], side="right")
        index = np.ravel_multi_index((bins, classes[counted], known[counted]), self.counts.shape)
        self.counts += np.bincount(index, minlength=self.counts.size).reshape(self.counts.shape)

    def at(self, threshold: float) -> ThresholdQuality:
        """Judge one of `THRESHOLDS`.

        Args:
            threshold: One of them.

        Returns:
            Coverage and precision of the seeds, and the mIoU of the masks.
        """
        first = THRESHOLDS.index(threshold) + 1
        above, below = self.counts[first:].sum(0), self.counts[:first].sum(0).sum(0)
        truth = self.counts[..., :-1].sum((0, 1))
        right = int(np.trace(above[:, :-1]))
        hidden = 0 if self.background is None else int(below[self.background])
        # True class by predicted class; without a background the maps decide everywhere.
        confusion = (self.counts.sum(0) if self.background is None else above)[:, :-1].T.copy()
        if self.background is not None:
            confusion[:, self.background] += below[:-1]
        return ThresholdQuality(
            threshold,
            share(int(above.sum()), int(self.counts.sum())),
            share(right, int(above[:, :-1].sum())),
            share(int(below.sum()), int(self.counts.sum())),
            share(hidden, int(below[:-1].sum())),
            scores(torch.from_numpy(confusion)).miou if truth.any() else float("nan"),
        )
