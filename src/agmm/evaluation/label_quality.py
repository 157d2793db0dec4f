"""How many pixels seeds or pseudo labels label, and how rightly, measured against dense masks."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from agmm.errors import InputError
from agmm.evaluation.calibration import THRESHOLDS, Calibration, calibration
from agmm.evaluation.confusion import Scores, nan_to_none, scores, share
from agmm.shapes import IGNORE_INDEX, MaskArray


@dataclass(frozen=True, eq=False)
class LabelQuality:
    """Counts of pixels by true class and label; those of several pictures add up.

    Args:
        counts: (K + 1, K + 1). Row i: pixels of the true class i, last those of pictures without a
            dense mask. Column j: pixels labelled as j, last the unlabelled ones.

    Example:
        >>> labels = np.array([[0, 1, 1, 255]], np.uint8)
        >>> truth = np.array([[0, 0, 1, 1]], np.uint8)
        >>> quality = label_quality(labels, truth, 2) + label_quality(labels, truth, 2)
        >>> quality.precision(), quality.precision([1]), quality.coverage(), quality.recall()
        (0.6666666666666666, 0.5, 0.75, 0.5)
        >>> quality.scores().iou, quality.scores(unlabelled_is_wrong=True).iou
        ((0.5, 0.5), (0.5, 0.3333333333333333))
    """

    counts: Int64[np.ndarray, "rows rows"]

    def __add__(self, other: "LabelQuality") -> "LabelQuality":
        return LabelQuality(self.counts + other.counts)

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.counts) - 1

    def precision(self, classes: Collection[int] | None = None) -> float:
        """Share of the labelled pixels whose truth is known that are right.

        Args:
            classes: Count the pixels labelled as these classes only, e.g. all but the background;
                None = all.

        Returns:
            0 to 1; NaN if there is no such pixel.
        """
        known = self.counts[:-1, :-1]
        return share(_sum(known.diagonal(), classes), _sum(known.sum(0), classes))

    def coverage(self, classes: Collection[int] | None = None) -> float:
        """Share of the pixels that are labelled, whether right or wrong.

        Args:
            classes: Count the pixels of these true classes only; None = all pixels, also of
                pictures without a dense mask.

        Returns:
            0 to 1; NaN if there is no such pixel.
        """
        return share(_sum(self.counts[:, :-1].sum(1), classes), _sum(self.counts.sum(1), classes))

    def recall(self, classes: Collection[int] | None = None) -> float:
        """Share of the pixels that are labelled as their true class.

        Args:
            classes: Count the pixels of these true classes only; None = all.

        Returns:
            0 to 1, at most the coverage; NaN if there is no such pixel.
        """
        known = self.counts[:-1]
        return share(_sum(known.diagonal(), classes), _sum(known.sum(1), classes))

    def scores(self, *, unlabelled_is_wrong: bool = False) -> Scores:
        """IoU and accuracy of the labels as masks, of all pixels whose truth is known.

        Args:
            unlabelled_is_wrong: An unlabelled pixel is a miss of its true class. By default it is
                not counted at all, so that labels of a few sure pixels score well.

        Returns:
            The figures, in [0, 1]; NaN where there is nothing to measure.
        """
        known = torch.from_numpy(self.counts[:-1])
        return scores(known[:, :-1], known[:, -1] if unlabelled_is_wrong else None)


def label_quality(
    labels: MaskArray,
    truth: MaskArray | None,
    num_classes: int,
    *,
    where: Bool[np.ndarray, "H W"] | None = None,
) -> LabelQuality:
    """Count the labels of one picture, against its dense mask if it has one.

    Args:
        labels: (H, W), uint8, class 0..K-1 or 255 = unlabelled.
        truth: (H, W), uint8, class 0..K-1 or 255 = not counted; None = there is no dense mask.
        num_classes: K.
        where: (H, W), the pixels to count; None = all.

    Returns:
        The counts; start ``sum`` over many pictures with those of the first.

    Raises:
        InputError: The shapes differ, or a value is no class.

    Example:
        >>> labels, truth = np.array([[1, 0]], np.uint8), np.array([[1, 255]], np.uint8)
        >>> label_quality(labels, truth, 2).counts.tolist()
        [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    """
    for name, mask in (("truth", truth), ("where", where)):
        if mask is not None and labels.shape != mask.shape:
            raise InputError(
                f"labels: expected the shape of {name}, {mask.shape}, got {labels.shape}; make them"
                " at the picture's size"
            )
    for name, mask in (("labels", labels), ("truth", truth)):
        _check_classes(name, mask, num_classes)
    known = np.full(labels.shape, num_classes, np.int64) if truth is None else truth.astype(int)
    counted = known != IGNORE_INDEX if truth is not None else np.ones(labels.shape, bool)
    if where is not None:
        counted &= where
    columns = np.where(labels == IGNORE_INDEX, num_classes, labels.astype(np.int64))
    pairs = known[counted] * (num_classes + 1) + columns[counted]
    counts = np.bincount(pairs, minlength=(num_classes + 1) ** 2)
    return LabelQuality(counts.astype(np.int64).reshape(num_classes + 1, num_classes + 1))


@dataclass(frozen=True, eq=False)
class PseudoLabelQuality:
    """What pseudo labels are worth; those of several pictures add up.

    Pixels without a known truth (255 in the dense mask) are not counted anywhere.

    Args:
        pictures: How many pictures are counted.
        written: The labels from the threshold of their writing up, at every pixel.
        guessed: The same at the pixels that no annotator labelled: the others are right by
            themselves.
        calibration: Of those pixels too, the confidence of all labels, whatever the threshold.
    """

    pictures: int
    written: LabelQuality
    guessed: LabelQuality
    calibration: Calibration

    def __add__(self, other: "PseudoLabelQuality") -> "PseudoLabelQuality":
        return PseudoLabelQuality(
            self.pictures + other.pictures,
            self.written + other.written,
            self.guessed + other.guessed,
            self.calibration + other.calibration,
        )

    def as_dict(self, class_names: Sequence[str], background: int | None) -> dict[str, Any]:
        """The figures with the names of the classes, ready for JSON; None in place of NaN.

        Args:
            class_names: One name per class.
            background: Index of the background, which the foreground is without; None = there is
                none, and everything is foreground.

        Returns:
            ``pictures``; for ``all_pixels`` and ``not_annotated`` the same figures; for the latter
            also ``thresholds``, ``expected_calibration_error`` and ``reliability``.
        """
        error = self.calibration.expected_calibration_error()
        return {
            "pictures": self.pictures,
            "all_pixels": _figures(self.written, class_names, background),
            "not_annotated": {
                **_figures(self.guessed, class_names, background),
                "thresholds": [
                    {
                        "threshold": threshold,
                        "coverage": nan_to_none(self.calibration.coverage(threshold)),
                        "precision": nan_to_none(self.calibration.precision(threshold)),
                    }
                    for threshold in THRESHOLDS
                ],
                "expected_calibration_error": nan_to_none(error),
                "reliability": [
                    {
                        "low": bar.low,
                        "high": bar.high,
                        "pixels": bar.pixels,
                        "confidence": nan_to_none(bar.confidence),
                        "accuracy": nan_to_none(bar.accuracy),
                    }
                    for bar in self.calibration.bins()
                ],
            },
        }


def pseudo_label_quality(
    labels: MaskArray,
    confidence: Float[np.ndarray, "H W"],
    truth: MaskArray,
    num_classes: int,
    *,
    annotated: MaskArray,
    threshold: float = 0.0,
) -> PseudoLabelQuality:
    """Count the pseudo labels of one picture against its dense mask.

    Args:
        labels: (H, W), uint8, the labels of any confidence; 255 = unlabelled.
        confidence: (H, W), 0 to 1.
        truth: (H, W), uint8, 255 = not counted.
        num_classes: K.
        annotated: (H, W), uint8, what the annotator labelled; 255 = nothing.
        threshold: Confidence from which on the labels are written.

    Returns:
        The counts; start ``sum`` over many pictures with those of the first.

    Raises:
        InputError: The shapes differ, or a value is out of its range.

    Example:
        >>> labels, truth = np.array([[0, 1, 1]], np.uint8), np.array([[0, 1, 0]], np.uint8)
        >>> clicks = np.array([[0, 255, 255]], np.uint8)
        >>> confidence = np.array([[1.0, 0.9, 0.6]])
        >>> quality = pseudo_label_quality(labels, confidence, truth, 2, annotated=clicks)
        >>> quality.written.precision(), quality.guessed.precision()
        (0.6666666666666666, 0.5)
    """
    free = annotated == IGNORE_INDEX
    written = np.where(confidence >= threshold, labels, np.uint8(IGNORE_INDEX))
    return PseudoLabelQuality(
        1,
        label_quality(written, truth, num_classes),
        label_quality(written, truth, num_classes, where=free),
        calibration(labels, confidence, truth, where=free),
    )


def _figures(
    quality: LabelQuality, class_names: Sequence[str], background: int | None
) -> dict[str, Any]:
    every = range(quality.num_classes)
    foreground = [k for k in every if k != background]
    of_labelled, of_all = quality.scores(), quality.scores(unlabelled_is_wrong=True)
    return {
        "miou": nan_to_none(of_labelled.miou),
        "miou_unlabelled_wrong": nan_to_none(of_all.miou),
        "coverage": nan_to_none(quality.coverage()),
        "precision": nan_to_none(quality.precision()),
        "foreground_coverage": nan_to_none(quality.coverage(foreground)),
        "foreground_precision": nan_to_none(quality.precision(foreground)),
        "classes": {
            name: {
                "iou": nan_to_none(of_labelled.iou[k]),
                "iou_unlabelled_wrong": nan_to_none(of_all.iou[k]),
                "coverage": nan_to_none(quality.coverage([k])),
                "precision": nan_to_none(quality.precision([k])),
            }
            for k, name in enumerate(class_names)
        },
    }


def _check_classes(name: str, mask: MaskArray | None, num_classes: int) -> None:
    if mask is None:
        return
    wrong = (mask >= num_classes) & (mask != IGNORE_INDEX)
    if wrong.any():
        raise InputError(
            f"{name}: expected classes from 0 to {num_classes - 1} or {IGNORE_INDEX}, got"
            f" {mask[wrong][0]}; correct it, or raise num_classes"
        )


def _sum(counts: Int64[np.ndarray, " n"], classes: Collection[int] | None) -> int:
    return int(counts.sum() if classes is None else counts[list(classes)].sum())
