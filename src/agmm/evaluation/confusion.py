"""Intersection over union of a whole data set, from one confusion matrix.

Never the mean of per-image figures: a class that is rare in a picture would count as much there
as where it fills the picture, and the result is not the one that the benchmarks publish.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Int64, Integer
from torch import Tensor

from agmm.errors import InputError
from agmm.shapes import IGNORE_INDEX


@dataclass(frozen=True)
class Scores:
    """Figures of one data set, all in [0, 1]; NaN where there is nothing to measure.

    Attributes:
        miou: Mean of ``iou`` over the classes that occur in the truth or in the predictions.
        iou: Intersection over union of every class; NaN for a class that occurs in neither.
        pixel_accuracy: Share of the counted pixels that are right.
        mean_accuracy: Mean over the classes of the truth of the share of their pixels found.
    """

    miou: float
    iou: tuple[float, ...]
    pixel_accuracy: float
    mean_accuracy: float

    def as_dict(
        self, class_names: Sequence[str]
    ) -> dict[str, float | dict[str, float | None] | None]:
        """The figures with the names of the classes, ready for JSON.

        Args:
            class_names: One name per class, in the order of ``iou``.

        Returns:
            ``miou``, ``pixel_accuracy``, ``mean_accuracy`` and ``iou`` by class name; None, which
            JSON writes as null, in place of NaN, which JSON does not know.

        Raises:
            InputError: The number of names is not the number of classes.

        Example:
            >>> Scores(0.5, (0.5, math.nan), 0.5, 0.5).as_dict(["sky", "road"])["iou"]
            {'sky': 0.5, 'road': None}
        """
        if len(class_names) != len(self.iou):
            raise InputError(
                f"class_names: expected {len(self.iou)} names, one per class, got "
                f"{len(class_names)}; pass the names of the data set that was evaluated"
            )
        return {
            "miou": nan_to_none(self.miou),
            "pixel_accuracy": nan_to_none(self.pixel_accuracy),
            "mean_accuracy": nan_to_none(self.mean_accuracy),
            "iou": {
                name: nan_to_none(value) for name, value in zip(class_names, self.iou, strict=True)
            },
        }


def confusion_matrix(
    prediction: Integer[Tensor, "..."], truth: Integer[Tensor, "..."], num_classes: int
) -> Int64[Tensor, "k k"]:
    """Count the pixels of every pair of true and predicted class.

    ``C[i, j]`` is the number of pixels of class ``i`` that were predicted as ``j``, as in
    scikit-learn. Matrices add up: the one of a data set is the sum over its images, and the one
    of all ranks the sum over the ranks.

    Args:
        prediction: Class of every pixel, in [0, num_classes); any shape.
        truth: True class of every pixel, in [0, num_classes), or 255 where the pixel does not
            count; the shape of ``prediction``.
        num_classes: k.

    Returns:
        The k x k counts, on the device of the arguments.

    Raises:
        InputError: The shapes differ, or a value is no class.

    Example:
        >>> import torch
        >>> prediction, truth = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 255])
        >>> confusion_matrix(prediction, truth, num_classes=2).tolist()
        [[1, 1], [0, 1]]
    """
    if prediction.shape != truth.shape:
        raise InputError(
            f"prediction: expected the shape of truth, {tuple(truth.shape)}, got "
            f"{tuple(prediction.shape)}; predict at the resolution of the true mask"
        )
    _check_classes(
        "prediction",
        prediction,
        num_classes,
        remedy=f"where a pixel has no prediction, set truth to {IGNORE_INDEX}",
    )
    _check_classes(
        "truth",
        truth[truth != IGNORE_INDEX],
        num_classes,
        remedy=f"mark pixels that shall not count as {IGNORE_INDEX}, or raise num_classes",
    )
    # Here, since torchmetrics takes seconds to import and not everybody who predicts needs it.
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    # Its own checks count the distinct values only, so a wrong class could fall into the bin of
    # another pair; ours above are stricter.
    counts: Tensor = multiclass_confusion_matrix(
        prediction, truth, num_classes, ignore_index=IGNORE_INDEX, validate_args=False
    )
    return counts


def scores(confusion: Int64[Tensor, "k k"], missed: Int64[Tensor, " k"] | None = None) -> Scores:
    """Figures of a confusion matrix: IoU = TP / (TP + FP + FN), per class and on average.

    Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2015, section 4.4.

    Args:
        confusion: Counts, true classes in the rows and predicted ones in the columns, as
            ``confusion_matrix`` or torchmetrics' ``MulticlassConfusionMatrix`` give them.
        missed: Pixels of each true class that were predicted as none; they count as wrong.

    Returns:
        The figures, in [0, 1].

    Raises:
        InputError: A count is negative.

    Example:
        >>> import torch
        >>> scores(torch.tensor([[2, 0, 0], [1, 1, 0], [0, 0, 0]])).iou
        (0.6666666666666666, 0.5, nan)
    """
    if bool((confusion < 0).any()):
        raise InputError(
            f"confusion: expected counts of pixels, got {int(confusion.min())}; "
            "sum the results of confusion_matrix"
        )
    counts = confusion.double()
    right, of_truth, of_prediction = counts.diagonal(), counts.sum(1), counts.sum(0)
    if missed is not None:
        of_truth = of_truth + missed
    # 0 / 0 is NaN, which nanmean leaves out.
    iou = right / (of_truth + of_prediction - right)
    return Scores(
        miou=iou.nanmean().item(),
        iou=tuple(iou.tolist()),
        pixel_accuracy=(right.sum() / of_truth.sum()).item(),
        mean_accuracy=(right / of_truth).nanmean().item(),
    )


def _check_classes(
    name: str, values: Integer[Tensor, "..."], num_classes: int, *, remedy: str
) -> None:
    if values.numel() == 0:
        return
    low, high = (int(value) for value in values.aminmax())
    if low < 0 or high >= num_classes:
        raise InputError(
            f"{name}: expected classes from 0 to {num_classes - 1}, got values from {low} to "
            f"{high}; {remedy}"
        )


def share(part: int, whole: int) -> float:
    """``part / whole``; NaN where there is nothing to divide by."""
    return part / whole if whole else math.nan


def nan_to_none(value: float) -> float | None:
    """A figure as JSON can hold it: None, which JSON writes as null, in place of NaN."""
    return None if math.isnan(value) else value
