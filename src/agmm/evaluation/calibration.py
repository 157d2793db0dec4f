"""Whether the confidence of labels says how often they are right, and a map that makes it so."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy.optimize import isotonic_regression

from agmm.errors import InputError
from agmm.evaluation.confusion import share
from agmm.shapes import IGNORE_INDEX, MaskArray

BINS = 15
"""Bins of equal width of the reliability diagram, as in Guo et al. 2017."""

THRESHOLDS: tuple[float, ...] = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Confidences from which on labels are compared."""


@dataclass(frozen=True)
class Bin:
    """One bar of the reliability diagram.

    Args:
        low: Confidence that its pixels are above; in the first bin they may have it too.
        high: Confidence that its pixels have at most.
        pixels: How many there are.
        confidence: Their mean confidence, 0 to 1; NaN without any pixel.
        accuracy: Share of them that is right, 0 to 1; NaN without any pixel.
    """

    low: float
    high: float
    pixels: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class CalibrationMap:
    """From a confidence to how often the labels of such a confidence are right.

    Linear between the points, and level before the first and after the last.

    Args:
        confidence: Confidence at each point, 0 to 1, rising.
        accuracy: Share that is right there, 0 to 1, nowhere falling; as many.

    Raises:
        InputError: Anything else.
    """

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]

    def __post_init__(self) -> None:
        given, right = np.array(self.confidence), np.array(self.accuracy)
        ranges = ((values >= 0) & (values <= 1) for values in (given, right))
        if not (
            0 < len(given) == len(right)
            and all(values.all() for values in ranges)
            and (np.diff(given) > 0).all()
            and (np.diff(right) >= 0).all()
        ):
            raise InputError(
                "calibration map: expected as many confidences, rising, as accuracies, not falling,"
                f" all from 0 to 1, got {self.confidence} and {self.accuracy}"
            )

    def __call__(self, confidence: Float[np.ndarray, " *shape"]) -> Float[np.ndarray, " *shape"]:
        """Map confidences of any shape, 0 to 1, in their precision."""
        mapped = np.interp(confidence, self.confidence, self.accuracy)
        return np.asarray(mapped, confidence.dtype)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Counts of pixels by confidence, all of known truth; those of several pictures add up.

    Args:
        pixels: (15,), labelled pixels of each bin.
        confidence: (15,), the sum of their confidence.
        correct: (15,), those of them that are right.
        sure: (8,), labelled pixels of at least the confidence of each of `THRESHOLDS`.
        sure_correct: (8,), those of them that are right.
        total: Pixels, labelled or not.

    Example:
        >>> labels, truth = np.array([[0, 1, 255]], np.uint8), np.array([[0, 0, 0]], np.uint8)
        >>> one = calibration(labels, np.array([[0.9, 0.7, 0.0]]), truth)
        >>> round((one + one).expected_calibration_error(), 6)  # (|1 - 0.9| + |0 - 0.7|) / 2
        0.4
        >>> one.coverage(0.8), one.precision(0.8), one.precision(0.0)
        (0.3333333333333333, 1.0, 0.5)
    """

    pixels: Int64[np.ndarray, " 15"]
    confidence: Float64[np.ndarray, " 15"]
    correct: Int64[np.ndarray, " 15"]
    sure: Int64[np.ndarray, " 8"]
    sure_correct: Int64[np.ndarray, " 8"]
    total: int

    def __add__(self, other: "Calibration") -> "Calibration":
        return Calibration(
            self.pixels + other.pixels,
            self.confidence + other.confidence,
            self.correct + other.correct,
            self.sure + other.sure,
            self.sure_correct + other.sure_correct,
            self.total + other.total,
        )

    def bins(self) -> tuple[Bin, ...]:
        """The bars of the reliability diagram, from confidence 0 to 1.

        Returns:
            One for each bin, also for those without a pixel.
        """
        return tuple(
            Bin(
                i / BINS,
                (i + 1) / BINS,
                int(pixels),
                float(confidence / pixels) if pixels else float("nan"),
                share(int(correct), int(pixels)),
            )
            for i, (pixels, confidence, correct) in enumerate(
                zip(self.pixels, self.confidence, self.correct, strict=True)
            )
        )

    def isotonic_map(self) -> "CalibrationMap":
        """The map of the confidence that calibrates these labels and keeps their order.

        Isotonic regression (Zadrozny and Elkan, "Transforming Classifier Scores into Accurate
        Multiclass Probability Estimates", KDD 2002) of the bins' accuracy on their mean confidence.

        Returns:
            The map; it has a point for each bin with a labelled pixel.

        Raises:
            InputError: There is no labelled pixel.

        Example:
            >>> labels, truth = np.zeros((1, 4), np.uint8), np.array([[0, 0, 1, 1]], np.uint8)
            >>> counts = calibration(labels, np.array([[0.9, 0.9, 0.9, 0.2]]), truth)
            >>> mapping = counts.isotonic_map()
            >>> mapping(np.array([[0.1, 0.55, 0.9]])).round(4).tolist()
            [[0.0, 0.3333, 0.6667]]
        """
        bars = [bar for bar in self.bins() if bar.pixels]
        if not bars:
            raise InputError("calibration: no pixel is labelled, so that there is nothing to fit")
        fitted = isotonic_regression(
            [bar.accuracy for bar in bars], weights=[bar.pixels for bar in bars]
        )
        return CalibrationMap(
            tuple(bar.confidence for bar in bars), tuple(float(value) for value in fitted.x)
        )

    def expected_calibration_error(self) -> float:
        """Mean over the labelled pixels of |accuracy - mean confidence| of their bin.

        ECE = Σ_m |B_m| / n · |acc(B_m) - conf(B_m)|; Guo et al., "On Calibration of Modern Neural
        Networks", ICML 2017, equation 3, with 15 bins of equal width.

        Returns:
            0 to 1; NaN without any labelled pixel.
        """
        gaps = float(np.abs(self.correct - self.confidence).sum())
        labelled = int(self.pixels.sum())
        return gaps / labelled if labelled else float("nan")

    def coverage(self, threshold: float) -> float:
        """Share of the pixels that are labelled with at least a confidence.

        Args:
            threshold: One of `THRESHOLDS`.

        Returns:
            0 to 1; NaN without any pixel.
        """
        return share(int(self.sure[THRESHOLDS.index(threshold)]), self.total)

    def precision(self, threshold: float) -> float:
        """Share of the pixels labelled with at least a confidence that is right.

        Args:
            threshold: One of `THRESHOLDS`.

        Returns:
            0 to 1; NaN without any such pixel.
        """
        place = THRESHOLDS.index(threshold)
        return share(int(self.sure_correct[place]), int(self.sure[place]))


def calibration(
    labels: MaskArray,
    confidence: Float[np.ndarray, "H W"],
    truth: MaskArray,
    *,
    where: Bool[np.ndarray, "H W"] | None = None,
) -> Calibration:
    """Count the labels of one picture by their confidence, against its dense mask.

    Args:
        labels: (H, W), uint8, class or 255 = unlabelled, which is in no bin.
        confidence: (H, W), 0 to 1.
        truth: (H, W), uint8, class or 255 = not counted.
        where: (H, W), the pixels to count, such as those that no annotator labelled; None = all.

    Returns:
        The counts.

    Raises:
        InputError: The shapes differ, or a confidence of a labelled pixel is not from 0 to 1.
    """
    if not labels.shape == confidence.shape == truth.shape:
        raise InputError(
            f"labels of {labels.shape}, confidence of {confidence.shape} and truth of"
            f" {truth.shape} pixels; give all at the picture's size"
        )
    counted = truth != IGNORE_INDEX
    if where is not None:
        counted &= where
    labelled = counted & (labels != IGNORE_INDEX)
    values = confidence[labelled]
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError(
            f"confidence: expected 0 to 1, got {values.min()} to {values.max()}; divide by the"
            " largest that there can be"
        )
    right = (labels == truth)[labelled]
    inner = np.arange(1, BINS) / BINS
    places = np.searchsorted(inner, values, side="left")
    # In the precision of the values, as the labelling compares them.
    steps = np.array(THRESHOLDS, values.dtype)
    above = np.searchsorted(steps, values, side="right")

    def from_step_up(chosen: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " 8"]:
        counts = np.bincount(chosen, minlength=len(steps) + 1).astype(np.int64)
        return counts[::-1].cumsum()[::-1][1:]

    return Calibration(
        np.bincount(places, minlength=BINS).astype(np.int64),
        # Of nothing, bincount gives whole numbers.
        np.bincount(places, values.astype(np.float64), minlength=BINS).astype(np.float64),
        np.bincount(places[right], minlength=BINS).astype(np.int64),
        from_step_up(above),
        from_step_up(above[right]),
        int(counted.sum()),
    )
