"""The prototype-contrastive loss: by hand, against a loop over cells, gradients, momentum."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from agmm.errors import ConfigError
from agmm.mixture.grid import reduce_to_grid
from agmm.training.prototypes import PrototypeContrastLoss, log_similarity, pseudo_shares

BATCH, CLASSES, CHANNELS = 2, 4, 5


def random_arguments(seed: int = 0) -> dict[str, Any]:
    """Pictures of 4x6 on a grid of 4x6; class 3 has no seed, the last column of one is padding."""
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.randint(3, (BATCH, 4, 6), generator=generator)
    seeds = seeds.masked_fill(torch.rand(BATCH, 4, 6, generator=generator) < 0.6, 255)
    valid = torch.ones(BATCH, 4, 6, dtype=torch.bool)
    valid[1, :, 5] = False
    return {
        "logits": 4 * torch.randn(BATCH, CLASSES, 4, 6, generator=generator),
        "features": torch.randn(BATCH, CHANNELS, 4, 6, generator=generator),
        "seeds": seeds,
        "candidates": torch.tensor([[True] * 4, [True, True, True, False]]),
        "valid": valid,
    }


def slow_terms(
    given: dict[str, Any], means: "np.ndarray[Any, Any]", seen: set[int], threshold: float, t: float
) -> tuple[float, float]:
    """Both contrasts, cell by cell."""
    labelled, guessed = [], []
    prototypes = {k: means[k] / np.linalg.norm(means[k]) for k in seen}
    for b, y, x in np.ndindex(BATCH, 4, 6):
        if not given["valid"][b, y, x]:
            continue
        feature = given["features"][b, :, y, x].double().numpy()
        feature = feature / np.linalg.norm(feature)
        scores = {k: math.exp(feature @ prototype / t) for k, prototype in prototypes.items()}
        label = int(given["seeds"][b, y, x])
        if label != 255:
            labelled.append(-math.log(scores[label] / sum(scores.values())))
            continue
        probs = given["logits"][b, :, y, x].double().exp() * given["candidates"][b]
        probs = probs / probs.sum()
        best = int(probs.argmax())
        if probs[best] >= threshold and best in seen:
            guessed.append(-math.log(scores[best] / sum(scores.values())))
    return float(np.mean(labelled)), float(np.mean(guessed))


def labelled_means(given: dict[str, Any]) -> dict[int, Tensor]:
    """Mean normalised feature of the labelled, valid cells of each class."""
    features = functional.normalize(given["features"].double(), dim=1).movedim(1, -1)
    seeds = given["seeds"].masked_fill(~given["valid"], 255)
    return {int(k): features[seeds == k].mean(0) for k in seeds.unique() if k != 255}


def test_both_contrasts_against_a_loop_over_cells() -> None:
    given = random_arguments()
    objective = PrototypeContrastLoss(
        CLASSES, CHANNELS, contrast=0.5, pseudo=0.25, threshold=0.7, temperature=0.2, warmup_steps=0
    )

    out = objective(**given)

    means = labelled_means(given)
    assert set(means) == {0, 1, 2}
    table = np.zeros((CLASSES, CHANNELS))
    for k, mean in means.items():
        table[k] = mean.numpy()
    labelled, guessed = slow_terms(given, table, set(means), 0.7, 0.2)
    assert out.terms["contrast"].item() == pytest.approx(0.5 * labelled, rel=1e-5)
    assert out.terms["pseudo"].item() == pytest.approx(0.25 * guessed, rel=1e-5)
    assert out.loss.item() == pytest.approx(sum(v.item() for v in out.terms.values()))


def test_two_orthogonal_classes_by_hand() -> None:
    """Each cell lies on its prototype: −log e^(1/T) / (e^(1/T) + 1)."""
    features = torch.tensor([[[[3.0, 0.0]], [[0.0, 7.0]]]])
    objective = PrototypeContrastLoss(2, 2, contrast=1.0, temperature=0.5)

    out = objective(torch.zeros(1, 2, 1, 2), features, torch.tensor([[[0, 1]]]))

    expected = math.log(1 + math.exp(-1 / 0.5))
    assert out.terms["contrast"].item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(objective.means, torch.eye(2))


def test_prototypes_move_by_their_momentum_and_only_where_there_are_seeds() -> None:
    objective = PrototypeContrastLoss(CLASSES, CHANNELS, momentum=0.75)
    first, second = random_arguments(0), random_arguments(1)
    second["seeds"] = second["seeds"].masked_fill(second["seeds"] == 2, 255)

    objective(**first)
    objective(**second)

    before, after = labelled_means(first), labelled_means(second)
    assert objective.seen.tolist() == [True, True, True, False]
    for k in (0, 1):
        expected = 0.75 * before[k] + 0.25 * after[k]
        torch.testing.assert_close(objective.means[k], expected.float())
    torch.testing.assert_close(objective.means[2], before[2].float())
    assert (objective.means[3] == 0).all()


def test_evaluation_changes_nothing() -> None:
    objective = PrototypeContrastLoss(CLASSES, CHANNELS)
    objective(**random_arguments(0))
    state = {name: value.clone() for name, value in objective.state_dict().items()}

    objective.eval()(**random_arguments(1))

    for name, value in objective.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_the_pseudo_labels_come_in_with_the_warm_up() -> None:
    objective = PrototypeContrastLoss(
        CLASSES, CHANNELS, threshold=0.5, warmup_steps=4, momentum=0.0
    )
    given = random_arguments()

    terms = [objective(**given).terms["pseudo"].item() for _ in range(7)]

    full = terms[-1]
    assert full > 0
    assert terms == pytest.approx([full * min(1, step / 4) for step in range(7)], rel=1e-5)


def test_the_gradient_is_that_of_the_value() -> None:
    prototypes = functional.normalize(torch.randn(3, 4, dtype=torch.float64), dim=1)
    features = torch.randn(1, 4, 5, dtype=torch.float64, requires_grad=True)
    seen = torch.tensor([True, True, False])

    assert torch.autograd.gradcheck(
        lambda f: log_similarity(f, prototypes, seen, 0.5)[:, :2], features
    )


@pytest.mark.parametrize("factor", [0.1, 30.0])
def test_the_length_of_a_feature_does_not_matter(factor: float) -> None:
    given = random_arguments()
    longer = {**given, "features": factor * given["features"]}

    terms = PrototypeContrastLoss(CLASSES, CHANNELS)(**given).terms["contrast"]

    other = PrototypeContrastLoss(CLASSES, CHANNELS)(**longer).terms["contrast"]
    torch.testing.assert_close(other, terms)


def test_a_feature_of_zero_has_a_finite_gradient() -> None:
    features = torch.zeros(1, 2, 1, 2, requires_grad=True)
    objective = PrototypeContrastLoss(2, 2)

    out = objective(torch.zeros(1, 2, 1, 2), features, torch.tensor([[[0, 1]]]))
    (gradient,) = torch.autograd.grad(out.loss, features)

    assert torch.isfinite(gradient).all()


def test_a_pseudo_label_is_a_candidate_and_confident_and_not_a_labelled_cell() -> None:
    given = random_arguments()
    grid = reduce_to_grid(**given)

    shares, cells = pseudo_shares(grid, 0.7)

    assert (shares.sum(1) == 1).all()
    assert (shares[1, 3] == 0).all()  # no candidate in the second picture
    assert not (cells & (grid.labelled | ~grid.valid)).any()
    probs = grid.logits.masked_fill(~grid.candidates, -torch.inf).softmax(1).amax(1)
    open_cells = grid.valid & ~grid.labelled
    assert torch.equal(cells[open_cells], (probs >= 0.7)[open_cells])


def test_without_a_seed_nothing_is_contrasted() -> None:
    given = random_arguments()
    given["seeds"] = torch.full_like(given["seeds"], 255)
    given["features"].requires_grad_()

    out = PrototypeContrastLoss(CLASSES, CHANNELS, warmup_steps=0)(**given)
    (gradient,) = torch.autograd.grad(out.loss, given["features"])

    assert out.loss.item() == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize(
    "options",
    [
        {"contrast": -1.0},
        {"pseudo": math.inf},
        {"threshold": 1.5},
        {"temperature": 0.0},
        {"momentum": 1.0},
    ],
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))}: expected"):
        PrototypeContrastLoss(CLASSES, CHANNELS, **options)
