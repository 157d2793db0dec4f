import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from sklearn.metrics import jaccard_score
from torchmetrics.classification import MulticlassConfusionMatrix

from agmm.errors import InputError
from agmm.evaluation.confusion import Scores, confusion_matrix, scores


def random_masks(
    seed: int, num_classes: int, shape: tuple[int, ...] = (3, 8, 9)
) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and truth; about an eighth of the truth does not count."""
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randint(num_classes, shape, generator=generator)
    truth = torch.randint(num_classes, shape, generator=generator)
    truth[torch.rand(shape, generator=generator) < 0.125] = 255
    return prediction, truth


def test_hand_worked_figures() -> None:
    # Class 0: 2 right, 1 missed, 1 too many; class 1: 1 right, 1 missed, 1 too many;
    # class 2 is predicted once and never true; class 3 is in neither.
    truth = torch.tensor([[0, 0, 0, 1, 1, 255, 0]])
    prediction = torch.tensor([[0, 0, 1, 1, 0, 3, 2]])

    confusion = confusion_matrix(prediction, truth, num_classes=4)
    result = scores(confusion)

    assert confusion.tolist() == [[2, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert result.iou[:3] == pytest.approx((2 / 5, 1 / 3, 0))
    assert math.isnan(result.iou[3])
    assert result.miou == pytest.approx((2 / 5 + 1 / 3 + 0) / 3)
    assert result.pixel_accuracy == pytest.approx(3 / 6)
    assert result.mean_accuracy == pytest.approx((2 / 4 + 1 / 2) / 2)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("num_classes", [2, 5, 171])
def test_counts_as_scikit_learn(num_classes: int, dtype: torch.dtype) -> None:
    prediction, truth = random_masks(0, num_classes)
    counted = truth != 255

    counts = confusion_matrix(prediction.to(dtype), truth.to(dtype), num_classes)

    expected = sklearn_confusion_matrix(
        truth[counted], prediction[counted], labels=range(num_classes)
    )
    np.testing.assert_array_equal(counts.numpy(), expected)


def test_scores_as_scikit_learn() -> None:
    prediction, truth = random_masks(1, 6)
    counted = truth != 255

    result = scores(confusion_matrix(prediction, truth, 6))

    expected = jaccard_score(truth[counted], prediction[counted], average=None, labels=range(6))
    np.testing.assert_allclose(result.iou, expected)
    assert result.miou == pytest.approx(expected.mean())
    assert result.pixel_accuracy == pytest.approx((truth == prediction)[counted].float().mean())


def test_same_counts_as_the_metric_that_is_summed_over_ranks() -> None:
    metric = MulticlassConfusionMatrix(num_classes=5, ignore_index=255)
    total = torch.zeros(5, 5, dtype=torch.int64)
    for seed in range(3):
        prediction, truth = random_masks(seed, 5)
        metric.update(prediction, truth)
        total += confusion_matrix(prediction, truth, 5)

    assert metric.compute().dtype == torch.int64
    assert torch.equal(metric.compute(), total)


@given(seed=st.integers(0, 10**6), num_classes=st.integers(2, 7))
@settings(max_examples=30)
def test_counts_of_images_add_up(seed: int, num_classes: int) -> None:
    prediction, truth = random_masks(seed, num_classes)

    whole = confusion_matrix(prediction, truth, num_classes)
    parts = [
        confusion_matrix(one, other, num_classes)
        for one, other in zip(prediction, truth, strict=True)
    ]

    assert torch.equal(whole, torch.stack(parts).sum(0))
    assert int(whole.sum()) == int((truth != 255).sum())


@given(seed=st.integers(0, 10**6), order=st.permutations(range(5)))
@settings(max_examples=30)
def test_renaming_the_classes_renames_the_scores(seed: int, order: list[int]) -> None:
    prediction, truth = random_masks(seed, 5)
    renamed = torch.arange(256)
    renamed[:5] = torch.tensor(order)

    before = scores(confusion_matrix(prediction, truth, 5))
    after = scores(confusion_matrix(renamed[prediction], renamed[truth], 5))

    np.testing.assert_allclose([after.iou[new] for new in order], before.iou)
    assert after.miou == pytest.approx(before.miou)
    assert after.pixel_accuracy == pytest.approx(before.pixel_accuracy)
    assert after.mean_accuracy == pytest.approx(before.mean_accuracy)


def test_is_not_the_mean_over_images() -> None:
    truth = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 1]])
    prediction = torch.tensor([[0, 0, 0, 1], [0, 1, 1, 1]])

    result = scores(confusion_matrix(prediction, truth, 2))

    assert result.miou == pytest.approx((4 / 5 + 3 / 4) / 2)
    per_image = [
        scores(confusion_matrix(one, other, 2)).miou
        for one, other in zip(prediction, truth, strict=True)
    ]
    assert result.miou != pytest.approx(np.mean(per_image))


def test_nothing_to_measure_is_nan_and_null_in_json() -> None:
    prediction = torch.zeros(2, 3, dtype=torch.int64)

    result = scores(confusion_matrix(prediction, torch.full((2, 3), 255), 2))
    figures = json.dumps(result.as_dict(["sky", "road"]), allow_nan=False)

    assert json.loads(figures) == {
        "miou": None,
        "pixel_accuracy": None,
        "mean_accuracy": None,
        "iou": {"sky": None, "road": None},
    }


def test_dictionary_keeps_figures_and_names() -> None:
    result = Scores(miou=0.5, iou=(0.25, 0.75), pixel_accuracy=0.6, mean_accuracy=0.7)

    assert result.as_dict(["sky", "road"]) == {
        "miou": 0.5,
        "pixel_accuracy": 0.6,
        "mean_accuracy": 0.7,
        "iou": {"sky": 0.25, "road": 0.75},
    }


def test_number_of_names_is_checked() -> None:
    with pytest.raises(InputError, match=r"class_names: expected 2 names.* got 1"):
        Scores(0.5, (0.5, 0.5), 0.5, 0.5).as_dict(["sky"])


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match=r"prediction: expected the shape of truth, \(2, 3\)"):
        confusion_matrix(torch.zeros(3, 2).long(), torch.zeros(2, 3).long(), 2)


@pytest.mark.parametrize("wrong", [-1, 3, 255])
def test_predictions_are_checked(wrong: int) -> None:
    with pytest.raises(InputError, match=r"prediction: expected classes from 0 to 2"):
        confusion_matrix(torch.tensor([0, wrong]), torch.tensor([0, 0]), 3)


@pytest.mark.parametrize("wrong", [-1, 3, 254])
def test_truth_is_checked(wrong: int) -> None:
    with pytest.raises(InputError, match=r"truth: expected classes from 0 to 2"):
        confusion_matrix(torch.tensor([0, 0]), torch.tensor([0, wrong]), 3)


def test_counts_are_checked() -> None:
    with pytest.raises(InputError, match="confusion: expected counts"):
        scores(torch.tensor([[1, -1], [0, 1]]))
