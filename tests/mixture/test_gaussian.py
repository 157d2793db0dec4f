"""Centres, distances, likelihood and posterior against slow loops, SciPy and hand values."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from agmm.mixture import gaussian
from agmm.mixture.gaussian import (
    allowed_classes,
    image_mixture,
    log_likelihood,
    log_posterior,
    squared_distances,
    squared_norms,
    weighted_means,
)


def test_weighted_mean_by_hand() -> None:
    features = torch.tensor([[[1.0, 3.0, 9.0], [0.0, 4.0, 9.0]]])
    weights = torch.tensor([[[1.0, 3.0, 0.0], [0.0, 0.0, 0.0]]])
    means, mass = weighted_means(weights, features)
    assert means.tolist() == [[[2.5, 3.0], [0.0, 0.0]]]
    assert mass.tolist() == [[4.0, 0.0]]


def test_squared_distances_equal_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 7, generator=generator)
    means = torch.randn(2, 3, 5, generator=generator)
    distances = squared_distances(features, means)
    for b, k, n in np.ndindex(2, 3, 7):
        expected = sum((features[b, d, n] - means[b, k, d]).item() ** 2 for d in range(5)) / 5
        assert distances[b, k, n].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("chunk", [1, 20, 10**6])
def test_squared_norms_are_the_same_in_parts(
    chunk: int, monkeypatch: pytest.MonkeyPatch, *, interleaved: bool
) -> None:
    """With room for one, some, and all of five channels of seven cells, and with a gradient."""
    features = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).double()
    if interleaved:
        features = features.mT.contiguous().mT
    monkeypatch.setattr(gaussian, "CHUNK", chunk)
    expected = torch.linalg.vector_norm(features, dim=1) ** 2
    torch.testing.assert_close(squared_norms(features), expected)
    features.requires_grad_()
    (gradient,) = torch.autograd.grad(squared_norms(features).sum(), features)
    torch.testing.assert_close(gradient, 2 * features.detach())


def test_squared_distance_is_never_negative() -> None:
    features = torch.full((1, 3, 4), 1e3) + torch.arange(4) * 1e-4
    distances = squared_distances(features, features.mT.contiguous())
    assert (distances >= 0).all()


def test_log_likelihood_is_scipy_in_one_dimension() -> None:
    values = np.linspace(-3, 3, 7)
    distances = torch.from_numpy((values - 0.5) ** 2).view(1, 1, -1)
    ours = log_likelihood(distances, torch.tensor([0.7], dtype=torch.float64))
    theirs = multivariate_normal(0.5, 0.7).logpdf(values) + 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(ours.flatten().numpy(), theirs, rtol=1e-12)


def test_log_likelihood_is_the_d_th_root_of_scipy() -> None:
    generator = np.random.default_rng(0)
    features, mean = generator.normal(size=(6, 4)), generator.normal(size=4)
    distances = squared_distances(
        torch.from_numpy(features.T[None].copy()), torch.from_numpy(mean).view(1, 1, 4)
    )
    ours = log_likelihood(distances, torch.tensor([0.3], dtype=torch.float64))
    theirs = multivariate_normal(mean, 0.3 * np.eye(4)).logpdf(features) / 4
    np.testing.assert_allclose(
        ours.flatten().numpy(), theirs + 0.5 * math.log(2 * math.pi), rtol=1e-10
    )


def test_posterior_by_hand() -> None:
    likelihood = torch.tensor([[[math.log(1.0)], [math.log(3.0)], [math.log(6.0)]]])
    everything = torch.ones(1, 3, 1, dtype=torch.bool)
    assert log_posterior(likelihood, everything).exp().flatten().tolist() == pytest.approx(
        [0.1, 0.3, 0.6]
    )
    prior = torch.tensor([[[0.6], [0.2], [0.2]]]).log()
    assert log_posterior(likelihood, everything, prior).exp().flatten().tolist() == pytest.approx(
        [0.6 / 2.4, 0.6 / 2.4, 1.2 / 2.4]
    )


def test_allowed_classes_fall_back_to_unknown_candidates() -> None:
    candidates = torch.tensor([[[True, False], [True, True], [False, True]]])
    known = torch.tensor([[True, False, False]])
    assert allowed_classes(candidates, known).tolist() == [
        [[True, False], [False, True], [False, True]]
    ]


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**31), classes=st.integers(2, 30), scale=st.sampled_from([1e-3, 1.0, 1e4])
)
def test_posterior_sums_to_one_over_the_candidates(seed: int, classes: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    likelihood = torch.randn(2, classes, 5, generator=generator) * scale
    candidates = torch.rand(2, classes, 5, generator=generator) < 0.4
    candidates[:, 0] |= ~candidates.any(1)
    known = torch.rand(2, classes, generator=generator) < 0.5
    allowed = allowed_classes(candidates, known)
    posterior = log_posterior(likelihood, allowed).exp()
    torch.testing.assert_close(posterior.sum(1), torch.ones(2, 5))
    assert (posterior[~candidates] == 0).all()
    assert allowed.any(1).all()


def test_first_and_second_derivatives_of_the_mixture_of_an_image() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    shares = torch.rand(2, 3, 5, generator=generator, dtype=torch.float64)
    shares[0, 1] = 0  # then the distances are those to the running centre
    running = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda f: image_mixture(f, shares, running), features)
    assert torch.autograd.gradgradcheck(lambda f: image_mixture(f, shares, running), features)


@pytest.mark.parametrize("function", [squared_distances, weighted_means])
def test_gradients(function: object) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    means = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 3, 5, generator=generator, dtype=torch.float64)
    if function is squared_distances:
        assert torch.autograd.gradcheck(squared_distances, (features, means))
    else:
        assert torch.autograd.gradcheck(lambda f: weighted_means(weights, f)[0], (features,))
