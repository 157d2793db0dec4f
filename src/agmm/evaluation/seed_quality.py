"""How many pixels seeds label, and how many of these rightly, measured against dense masks."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8

from agmm.errors import InputError
from agmm.shapes import IGNORE_INDEX, MaskArray


@dataclass(frozen=True, eq=False)
class SeedQuality:
    """Counts of pixels per class; those of several pictures add up.

    Args:
        labelled: (K,), for each class the pixels that are its seeds and whose truth is known.
        correct: (K,), those of them that are right.
        covered: (K + 1,), for each class the pixels of its truth that are a seed of any class;
            last the seeds of pictures without a dense mask.
        truth: (K + 1,), the pixels of its truth; last those of pictures without.

    Example:
        >>> seeds = np.array([[0, 1, 1, 255]], np.uint8)
        >>> truth = np.array([[0, 0, 1, 1]], np.uint8)
        >>> quality = seed_quality(seeds, truth, 2) + seed_quality(seeds, truth, 2)
        >>> quality.precision(), quality.precision([1]), quality.coverage(), quality.recall()
        (0.6666666666666666, 0.5, 0.75, 0.5)
    """

    labelled: Int64[np.ndarray, " k"]
    correct: Int64[np.ndarray, " k"]
    covered: Int64[np.ndarray, " k+1"]
    truth: Int64[np.ndarray, " k+1"]

    def __add__(self, other: "SeedQuality") -> "SeedQuality":
        return SeedQuality(
            self.labelled + other.labelled,
            self.correct + other.correct,
            self.covered + other.covered,
            self.truth + other.truth,
        )

    def precision(self, classes: Collection[int] | None = None) -> float:
        """Share of the seeds whose truth is known that are right.

        Args:
            classes: Count the seeds of these classes only, e.g. all but the background; None = all.

        Returns:
            0 to 1; NaN if there is no such seed.
        """
        return _share(self.correct, self.labelled, classes)

    def coverage(self, classes: Collection[int] | None = None) -> float:
        """Share of the pixels that are seeds, whether right or wrong.

        Args:
            classes: Count the pixels of these true classes only; None = all pixels, also of
                pictures without a dense mask.

        Returns:
            0 to 1; NaN if there is no such pixel.
        """
        return _share(self.covered, self.truth, classes)

    def recall(self, classes: Collection[int] | None = None) -> float:
        """Share of the pixels that are seeds of their true class.

        Args:
            classes: Count the pixels of these true classes only; None = all.

        Returns:
            0 to 1, at most the coverage; NaN if there is no such pixel.
        """
        return _share(self.correct, self.truth[:-1], classes)


def seed_quality(seeds: MaskArray, truth: MaskArray | None, num_classes: int) -> SeedQuality:
    """Count the seeds of one picture, against its dense mask if it has one.

    Args:
        seeds: (H, W), uint8, class 0..K-1 or 255 = no seed.
        truth: (H, W), uint8, class 0..K-1 or 255 = not counted; None = there is no dense mask.
        num_classes: K.

    Returns:
        The counts; start ``sum`` over many pictures with those of the first.

    Raises:
        InputError: The shapes differ, or a value is no class.

    Example:
        >>> seeds, truth = np.array([[1, 0]], np.uint8), np.array([[1, 255]], np.uint8)
        >>> seed_quality(seeds, truth, 2).labelled.tolist()
        [0, 1]
    """
    if truth is None:
        return _without_truth(seeds, num_classes)
    if seeds.shape != truth.shape:
        raise InputError(
            f"seeds: expected the shape of truth, {truth.shape}, got {seeds.shape}; make the seeds"
            " at the picture's size"
        )
    for name, mask in (("seeds", seeds), ("truth", truth)):
        wrong = (mask >= num_classes) & (mask != IGNORE_INDEX)
        if wrong.any():
            raise InputError(
                f"{name}: expected classes from 0 to {num_classes - 1} or {IGNORE_INDEX}, got"
                f" {mask[wrong][0]}; correct it, or raise num_classes"
            )
    known = truth != IGNORE_INDEX
    seeded = known & (seeds != IGNORE_INDEX)

    return SeedQuality(
        labelled=_count(seeds[seeded], num_classes),
        correct=_count(seeds[seeded & (seeds == truth)], num_classes),
        covered=_count(truth[seeded], num_classes + 1),
        truth=_count(truth[known], num_classes + 1),
    )


def _without_truth(seeds: MaskArray, num_classes: int) -> SeedQuality:
    nothing = np.zeros(num_classes, np.int64)
    covered, truth = np.zeros((2, num_classes + 1), np.int64)
    covered[-1], truth[-1] = np.count_nonzero(seeds != IGNORE_INDEX), seeds.size
    return SeedQuality(nothing, nothing, covered, truth)


def _count(labels: UInt8[np.ndarray, " n"], length: int) -> Int64[np.ndarray, " length"]:
    return np.bincount(labels, minlength=length).astype(np.int64)


def _share(
    part: Int64[np.ndarray, " k"],
    whole: Int64[np.ndarray, " k"],
    classes: Collection[int] | None,
) -> float:
    chosen = slice(None) if classes is None else list(classes)
    total = int(whole[chosen].sum())
    return int(part[chosen].sum()) / total if total else float("nan")
