"""The losses: hand-worked values, slow loops, gradients and empty sets."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from agmm.mixture.losses import (
    absent_class,
    log_one_minus_softmax,
    masked_mean,
    maximisation,
    mixture_likelihood,
    mutual,
    mutual_features,
    partial_cross_entropy,
    separation,
    soft_cross_entropy,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


CELLS = torch.tensor([[True, False, True], [False, False, True]])


def test_masked_mean_of_nothing_is_zero_with_a_gradient_path() -> None:
    values = torch.tensor([1.0, math.inf], requires_grad=True)
    mean = masked_mean(values, torch.zeros(2, dtype=torch.bool))
    torch.autograd.backward(mean)
    assert mean.item() == 0
    assert values.grad is not None
    assert values.grad.tolist() == [0, 0]


def test_soft_cross_entropy_by_hand() -> None:
    targets = torch.tensor([[[0.25], [0.75], [0.0]]])
    log_probs = torch.tensor([[[math.log(0.5)], [math.log(0.5)], [-math.inf]]])
    assert soft_cross_entropy(targets, log_probs).item() == pytest.approx(math.log(2))


def test_soft_cross_entropy_gradient_survives_impossible_classes() -> None:
    scores = torch.tensor([[[0.0], [1.0], [2.0]]], requires_grad=True)
    blocked = torch.tensor([[[False], [False], [True]]])
    log_probs = scores.masked_fill(blocked, -torch.inf).log_softmax(1)
    torch.autograd.backward(
        soft_cross_entropy(torch.tensor([[[0.5], [0.5], [0.0]]]), log_probs).sum()
    )
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert scores.grad[0, 2, 0] == 0


def test_partial_cross_entropy_is_torch() -> None:
    logits, seeds = normal(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    seeds[:, ::2] = 255
    expected = functional.cross_entropy(logits, seeds, ignore_index=255)
    torch.testing.assert_close(partial_cross_entropy(logits, seeds), expected)


def test_partial_cross_entropy_leaves_invalid_pixels_out() -> None:
    logits = torch.tensor([[[[0.0, 50.0]], [[0.0, 0.0]]]], requires_grad=True)
    seeds = torch.tensor([[[0, 1]]])
    loss = partial_cross_entropy(logits, seeds, torch.tensor([[[True, False]]]))
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(math.log(2))
    assert logits.grad is not None
    assert (logits.grad[..., 1] == 0).all()


def test_mixture_likelihood_by_hand() -> None:
    gamma = torch.tensor([[[0.2, 0.5], [0.8, 0.5]]])
    shares = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])
    loss = mixture_likelihood(gamma.log(), shares, torch.tensor([[True, False]]))
    assert loss.item() == pytest.approx(-math.log(0.8))


def test_mutual_by_hand() -> None:
    probs = torch.tensor([[[0.5], [0.3], [0.2]]])
    responsibilities = torch.tensor([[[0.9], [0.1], [0.0]]])
    loss = mutual(
        probs.log(),
        responsibilities,
        torch.tensor([[True]]),
        torch.tensor([[0.6]]),
        torch.tensor(2),
    )
    assert loss.item() == pytest.approx(0.3 * (-0.9 * math.log(0.5) - 0.1 * math.log(0.3)))


def test_mutual_features_by_hand() -> None:
    gamma = torch.tensor([[[0.4], [0.6], [0.0]]])  # the third class is no candidate
    teacher = torch.tensor([[[0.2], [0.6], [0.2]]])
    loss = mutual_features(
        gamma.log(), teacher.log(), torch.tensor([[True]]), torch.tensor([[0.6]]), torch.tensor(2)
    )
    expected = -0.2 / 0.8 * math.log(0.4) - 0.6 / 0.8 * math.log(0.6)
    assert loss.item() == pytest.approx(0.3 * expected)


def test_maximisation_by_hand() -> None:
    likelihood = torch.tensor([[[-1.0, -9.0], [-2.0, -9.0]]])
    gamma = torch.tensor([[[0.25, 0.5], [0.75, 0.5]]])
    loss = maximisation(likelihood, gamma, torch.tensor([[True, False]]), torch.tensor([[0.5, 1]]))
    assert loss.item() == pytest.approx(0.5 * (0.25 * 1 + 0.75 * 2))


def test_separation_equals_a_loop() -> None:
    means = normal(2, 4, 3)
    present = torch.tensor([[True, True, False, True], [False, True, True, False]])
    values = [
        math.exp(-((means[b, i] - means[b, j]) ** 2).mean().item())
        for b in range(2)
        for i in range(4)
        for j in range(i + 1, 4)
        if present[b, i] and present[b, j]
    ]
    assert separation(means, present).item() == pytest.approx(np.mean(values))


def test_separation_of_one_class_is_zero() -> None:
    assert separation(normal(1, 3, 2), torch.tensor([[True, False, False]])).item() == 0


def test_absent_class_by_hand() -> None:
    logits = torch.tensor([[[0.2, 0.5], [0.3, 0.25], [0.5, 0.25]]]).log()
    candidates = torch.tensor([[[True, True], [False, True], [False, True]]])
    loss = absent_class(logits, candidates, torch.tensor([[True, True]]))
    assert loss.item() == pytest.approx(-(math.log(0.7) + math.log(0.5)) / 2)


def test_absent_class_takes_maps_and_the_candidates_of_an_image() -> None:
    logits = torch.zeros(1, 2, 3, 4)
    candidates = torch.tensor([True, False]).view(1, 2, 1, 1)
    loss = absent_class(logits, candidates, torch.ones(1, 3, 4, dtype=torch.bool))
    assert loss.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_log_one_minus_softmax_is_exact_for_confident_networks(scale: float) -> None:
    logits = (normal(2, 5, 7).detach() * scale).float().requires_grad_()
    ours = log_one_minus_softmax(logits)
    torch.autograd.backward(ours.sum())
    exact = logits.detach().double()
    for k in range(5):
        others = exact[:, [j for j in range(5) if j != k]].logsumexp(1)
        expected = (others - exact.logsumexp(1)).float()
        torch.testing.assert_close(ours[:, k].detach(), expected, rtol=1e-4, atol=1e-6)
    assert logits.grad is not None
    # d log(1 − p_k) / d z_k = −p_k, and the others add up to no more than their number.
    assert (logits.grad.abs() <= 5).all()


def test_tie_for_the_largest_probability() -> None:
    assert log_one_minus_softmax(torch.zeros(1, 2, 1)).flatten().tolist() == pytest.approx(
        [math.log(0.5)] * 2
    )


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "partial_cross_entropy": lambda z, _: partial_cross_entropy(
        z.unsqueeze(2), torch.tensor([[[0, 255, 2]], [[255, 255, 1]]])
    ),
    "mixture_likelihood": lambda z, t: mixture_likelihood(z.log_softmax(1), t, CELLS),
    "soft_cross_entropy": lambda z, t: soft_cross_entropy(t, z.log_softmax(1)),
    "mutual": lambda z, t: mutual(z.log_softmax(1), t, CELLS, t[:, 0], CELLS.sum()),
    "mutual_features": lambda z, t: mutual_features(
        z.log_softmax(1), t.log(), CELLS, t[:, 0], CELLS.sum()
    ),
    "maximisation": lambda z, t: maximisation(z, t, CELLS, t[:, 0]),
    "separation": lambda z, _: separation(z.mT, torch.ones(2, 3, dtype=torch.bool)),
    "absent_class": lambda z, t: absent_class(3 * z, t > t.median(), CELLS),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name: str) -> None:
    scores, targets = normal(2, 3, 3), normal(2, 3, 3, seed=1).detach().softmax(1)
    assert torch.autograd.gradcheck(lambda z: LOSSES[name](z, targets), (scores,))


def test_the_teacher_of_the_mixture_gets_no_gradient() -> None:
    scores, teacher = normal(2, 3, 3), normal(2, 3, 3, seed=1)
    loss = mutual_features(
        scores.log_softmax(1),
        teacher.log_softmax(1),
        CELLS,
        torch.ones(2, 3, dtype=scores.dtype),
        CELLS.sum(),
    )
    gradients = torch.autograd.grad(loss, (scores, teacher), allow_unused=True)
    assert [gradient is None for gradient in gradients] == [False, True]
