"""The EM against scikit-learn, against averaged statistics, and across processes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture
from torch import Tensor

from agmm.mixture.gaussian import log_likelihood, log_posterior, squared_distances
from agmm.mixture.online_em import (
    RunningMixture,
    SufficientStatistics,
    e_step,
    m_step,
    rank_shares,
    sufficient_statistics,
)
from tests.mixture.plain import plain_loss


def em_iteration(
    features: Tensor, means: Tensor, variances: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor, float]:
    """One iteration of ordinary EM on `1 d n`, and the likelihood before it."""
    likelihood = log_likelihood(squared_distances(features, means[None]), variances)
    prior = weights.log().view(1, -1, 1)
    allowed = torch.ones_like(likelihood, dtype=torch.bool)
    gamma = log_posterior(likelihood, allowed, prior).exp()
    mass = gamma.sum(2)
    statistics = sufficient_statistics(gamma, features)
    bound = (likelihood + prior).logsumexp(1).mean().item()
    return (*m_step(statistics), mass[0] / mass.sum(), bound)


def two_heaps(dimensions: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    heaps = [torch.randn(dimensions, 40, generator=generator) * s + m for m, s in ((0, 1), (4, 2))]
    return torch.cat(heaps, 1)[None].double()


def test_full_batch_em_is_scikit_learn() -> None:
    features = two_heaps(1)
    means = torch.tensor([[-1.0], [3.0]], dtype=torch.float64)
    variances = torch.tensor([0.5, 2.0], dtype=torch.float64)
    weights = torch.tensor([0.4, 0.6], dtype=torch.float64)
    theirs = GaussianMixture(
        2, covariance_type="spherical", max_iter=5, tol=0, reg_covar=0, warm_start=False,
        means_init=means.numpy(), precisions_init=1 / variances.numpy(),
        weights_init=weights.numpy(),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="did not converge"):
        theirs.fit(features[0].numpy().T)
    for _ in range(5):
        means, variances, weights, _ = em_iteration(features, means, variances, weights)
    np.testing.assert_allclose(means.numpy(), theirs.means_, rtol=1e-8)
    np.testing.assert_allclose(variances.numpy(), theirs.covariances_, rtol=1e-8)
    np.testing.assert_allclose(weights.numpy(), theirs.weights_, rtol=1e-8)


def test_posterior_is_scikit_learn() -> None:
    features = two_heaps(1)
    theirs = GaussianMixture(2, covariance_type="spherical", random_state=0)
    theirs.fit(features[0].numpy().T)
    likelihood = log_likelihood(
        squared_distances(features, torch.from_numpy(theirs.means_)[None]),
        torch.from_numpy(theirs.covariances_),
    )
    prior = torch.from_numpy(np.log(theirs.weights_)).view(1, -1, 1)
    ours = log_posterior(likelihood, torch.ones_like(likelihood, dtype=torch.bool), prior).exp()
    np.testing.assert_allclose(
        ours[0].T.numpy(), theirs.predict_proba(features[0].numpy().T), atol=1e-10
    )


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), dimensions=st.integers(1, 6), classes=st.integers(2, 5))
def test_likelihood_never_falls(seed: int, dimensions: int, classes: int) -> None:
    features = two_heaps(dimensions, seed)
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(classes, dimensions, generator=generator, dtype=torch.float64) * 3
    variances = torch.rand(classes, generator=generator, dtype=torch.float64) + 0.5
    weights = torch.full((classes,), 1 / classes, dtype=torch.float64)
    bounds = []
    for _ in range(8):
        means, variances, weights, bound = em_iteration(features, means, variances, weights)
        # Without a floor a class can shrink to a single point, where the likelihood is infinite.
        variances = variances.clamp(min=1e-4)
        bounds.append(bound)
    assert (np.diff(bounds) >= -1e-9).all()


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), dimensions=st.integers(1, 6))
def test_likelihood_never_falls_in_the_objective_without_seeds(seed: int, dimensions: int) -> None:
    # Step size 1 and no prior of the network: each training step is one iteration of EM.
    objective = plain_loss(3, dimensions, step_size=1.0).double()
    features = two_heaps(dimensions, seed).reshape(1, dimensions, 8, 10)
    logits = torch.zeros(1, 3, 8, 10, dtype=torch.float64)
    seeds = torch.full((1, 8, 10), 255)
    seeds[0, 0, :3] = torch.arange(3)
    objective(logits, features, seeds)
    seeds.fill_(255)
    bounds = []
    for _ in range(8):
        distances = squared_distances(features.flatten(2), objective.mixture.means[None])
        variances = objective.mixture.variances.clamp(min=objective.choices.variance_floor)
        evidence = log_likelihood(distances, variances) / objective.choices.temperature
        bounds.append(evidence.logsumexp(1).mean().item())
        objective(logits, features, seeds)
    assert (np.diff(bounds) >= -1e-9).all()


def test_e_step_takes_labels_where_there_are_any() -> None:
    gamma = torch.tensor([[[0.2, 0.3], [0.8, 0.7]]], requires_grad=True)
    shares = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    result = e_step(gamma.log(), shares, torch.tensor([[True, False]]))
    torch.testing.assert_close(result, torch.tensor([[[1.0, 0.3], [0.0, 0.7]]]))
    assert not result.requires_grad


def test_statistics_equal_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    gamma = torch.rand(2, 3, 4, generator=generator)
    gamma[0, :, 1:3] = 0  # cells without weight
    features = torch.randn(2, 5, 4, generator=generator, requires_grad=True)
    statistics = sufficient_statistics(gamma, features)
    mass, sums, squares = np.zeros(3), np.zeros((3, 5)), np.zeros(3)
    for b, k, n in np.ndindex(2, 3, 4):
        weight = gamma[b, k, n].item()
        mass[k] += weight
        sums[k] += weight * features[b, :, n].detach().numpy()
        squares[k] += weight * features[b, :, n].detach().square().mean().item()
    np.testing.assert_allclose(statistics.mass, mass, rtol=1e-5)
    np.testing.assert_allclose(statistics.sums, sums, rtol=1e-4)
    np.testing.assert_allclose(statistics.squares, squares, rtol=1e-5)
    assert not statistics.sums.requires_grad


def random_statistics(
    generator: torch.Generator, absent: int | None = None
) -> SufficientStatistics:
    mass = torch.rand(3, generator=generator, dtype=torch.float64) + 0.1
    sums = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    scatter = torch.rand(3, generator=generator, dtype=torch.float64)
    squares = mass * (scatter + (sums / mass[:, None]).square().mean(1))
    if absent is not None:
        for part in (mass, sums, squares):
            part[absent] = 0
    return SufficientStatistics(mass, sums, squares)


@pytest.mark.parametrize("step_size", [0.05, 0.6, 1.0])
def test_running_parameters_are_those_of_the_averaged_statistics(step_size: float) -> None:
    mixture = RunningMixture(3, 2).double()
    average = [np.zeros(3), np.zeros((3, 2)), np.zeros(3)]
    generator = torch.Generator().manual_seed(0)
    for absent in (2, None, 0, 1, None):
        statistics = random_statistics(generator, absent)
        mixture.update(statistics, step_size)
        for k in range(3):
            if k == absent:
                continue
            eta = step_size if average[0][k] > 0 else 1.0
            for old, new in zip(average, statistics, strict=True):
                old[k] = (1 - eta) * old[k] + eta * new[k].numpy()
    np.testing.assert_allclose(mixture.mass, average[0], rtol=1e-12)
    np.testing.assert_allclose(mixture.means, average[1] / average[0][:, None], rtol=1e-12)
    variances = average[2] / average[0] - (mixture.means.numpy() ** 2).mean(1)
    np.testing.assert_allclose(mixture.variances, variances, rtol=1e-12)


def test_class_without_mass_keeps_its_parameters_exactly() -> None:
    mixture = RunningMixture(3, 2)
    generator = torch.Generator().manual_seed(0)
    mixture.update(random_statistics(generator), 0.1)
    before = {name: value.clone() for name, value in mixture.state_dict().items()}
    mixture.update(random_statistics(generator, absent=1), 0.1)
    after = mixture.state_dict()
    assert all(torch.equal(before[name][1], after[name][1]) for name in before)
    assert not torch.equal(before["means"][0], after["means"][0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["mass", "sums", "squares"])
def test_a_class_keeps_its_parameters_where_numbers_overflowed(part: str, value: float) -> None:
    mixture, expected = RunningMixture(3, 2), RunningMixture(3, 2)
    generator = torch.Generator().manual_seed(0)
    for target in (mixture, expected):
        target.update(random_statistics(generator.manual_seed(0)), 0.1)
    statistics = random_statistics(generator)
    for whole in statistics:
        whole[1] = 0
    expected.update(statistics, 0.1)
    statistics.mass[1], statistics.sums[1], statistics.squares[1] = 1, 1, 2
    getattr(statistics, part)[1] = value
    mixture.update(statistics, 0.1)
    for name, wanted in expected.state_dict().items():
        assert torch.equal(mixture.state_dict()[name], wanted), name


def test_unseen_class_has_no_mass_and_unit_variance() -> None:
    mixture = RunningMixture(2, 2)
    statistics = SufficientStatistics(torch.zeros(2), torch.zeros(2, 2), torch.zeros(2))
    mixture.update(statistics, 0.5)
    assert mixture.mass.tolist() == [0, 0]
    assert mixture.variances.tolist() == [1, 1]


def test_one_process_group_changes_nothing(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    statistics = random_statistics(generator)
    alone, grouped = RunningMixture(3, 2), RunningMixture(3, 2)
    alone.update(statistics, 0.1)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        grouped.update(statistics, 0.1)
    finally:
        dist.destroy_process_group()
    assert torch.equal(alone.means, grouped.means)
    assert torch.equal(alone.variances, grouped.variances)


def test_a_rank_counts_by_its_share_of_what_all_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two ranks, the other counts 6 pixels, 0 cells and 0 pairs."""
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda counts: counts.add_(torch.tensor([6, 0, 0])))
    counts = torch.tensor([2, 5, 0])
    assert rank_shares(counts).tolist() == [0.5, 2.0, 1.0]
    assert counts.tolist() == [2, 5, 0]


RANK = """
import sys, torch, torch.distributed as dist
from tests.mixture.plain import plain_loss
rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
objective = plain_loss(4, 3, warmup_steps=0, label_worth=3.0, prior_floor=1.0)
results = []
for batch in torch.load(f"{folder}/batches.pt"):
    part = slice(rank * len(batch[0]) // world, (rank + 1) * len(batch[0]) // world)
    batch = [argument[part].detach() for argument in batch]
    for argument in batch[:2]:
        argument.requires_grad_()
    out = objective(*batch)
    results.append([out.terms, torch.autograd.grad(out.loss, batch[:2])])
torch.save([objective.state_dict(), results], f"{folder}/rank{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_have_the_statistics_terms_and_gradients_of_one(
    tmp_path: Path, world: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = []
    for step in range(3):  # the pictures differ in size, classes and number of labelled pixels
        seeds = torch.randint(4, (4, 6, 8), generator=generator)
        labelled = (
            torch.rand(4, 6, 8, generator=generator)
            < torch.tensor([0.3, 0.1, 0.6, 0.02])[:, None, None]
        )
        seeds[~labelled | (seeds == 3) & (step == 0)] = 255
        candidates = torch.rand(4, 4, generator=generator) < 0.7
        candidates[:, 0] = True
        valid = torch.ones(4, 6, 8, dtype=torch.bool)
        valid[1, :, 4:] = False
        logits = torch.randn(4, 4, 6, 8, generator=generator, requires_grad=True)
        features = torch.randn(4, 3, 3, 4, generator=generator, requires_grad=True)
        batches.append((logits, features, seeds, candidates, valid))
    torch.save(batches, tmp_path / "batches.pt")
    single = plain_loss(4, 3, warmup_steps=0, label_worth=3.0, prior_floor=1.0)
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(world), str(tmp_path)])
        for rank in range(world)
    ]
    assert [process.wait(timeout=300) for process in ranks] == [0] * world
    results = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(world)]
    for step, batch in enumerate(batches):
        whole = single(*batch)
        found = [steps[step] for _, steps in results]
        for name, value in whole.terms.items():
            mean = torch.stack([terms[name] for terms, _ in found]).mean(0)
            torch.testing.assert_close(mean, value, rtol=1e-5, atol=1e-6)
        # DistributedDataParallel divides the gradient of every process by their number.
        expected = torch.autograd.grad(whole.loss, batch[:2])
        for i, gradient in enumerate(expected):
            joined = torch.cat([gradients[i] for _, gradients in found]) / world
            torch.testing.assert_close(joined, gradient, rtol=1e-5, atol=1e-6)
    for state, _ in results:
        torch.testing.assert_close(state, single.state_dict(), rtol=1e-5, atol=1e-6)
