"""The prior of the classes: by hand, against plain functions, and what it does to a training."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from agmm.mixture.class_prior import MEMORY, ClassPrior, log_adjustment
from tests.mixture.plain import plain_loss

Make = Callable[..., dict[str, Any]]
ALONE = {
    "mixture_likelihood": 0.0, "mutual": 0.0, "mutual_features": 0.0, "maximisation": 0.0,
    "separation": 0.0, "absent_class": 0.0,
}  # fmt: skip
"""Weights that leave the cross-entropy alone."""


def evenness(shares: list[float]) -> float:
    """Pielou's: entropy over that of the uniform distribution."""
    return -sum(share * math.log(share) for share in shares) / math.log(len(shares))


@pytest.mark.parametrize(
    ("counts", "least"),
    [([1, 1, 1], 0.9), ([3, 2, 1], 0.9), ([90, 9, 1], 0.3), ([5, 0, 4], 0.9), ([7], 1.0), ([0, 0], 0.9)],
)  # fmt: skip
def test_labels_that_are_even_enough_are_left_alone(counts: list[int], least: float) -> None:
    """[3, 2, 1] has 0.92; a class without labels does not count."""
    assert not log_adjustment(torch.tensor(counts).float(), least).any()


def test_adjustment_by_hand() -> None:
    """π ∝ (16, 1)^τ has the entropy of (0.8, 0.2) at τ = ½."""
    least = evenness([0.8, 0.2])
    found = log_adjustment(torch.tensor([160.0, 10.0]), least - 1e-6)
    assert (found[0] - found[1]).item() == pytest.approx(0.5 * math.log(16), abs=1e-5)
    uniform = log_adjustment(torch.tensor([160.0, 10.0]), 1.0)
    assert_close(uniform.exp(), torch.tensor([16 / 17, 1 / 17]))


@given(
    st.lists(st.integers(0, 10**6), min_size=2, max_size=30),
    st.floats(0.05, 1.0),
)
def test_the_prior_is_as_even_as_asked_for_and_no_more(counts: list[int], least: float) -> None:
    labels = torch.tensor(counts, dtype=torch.float64)
    adjustment = log_adjustment(labels, least)
    seen = labels > 0
    assert (adjustment[~seen] == 0).all()
    if seen.sum() < 2:
        assert not adjustment.any()
        return
    log_labels = (labels[seen] / labels.sum()).log()
    prior = (log_labels - adjustment[seen]).softmax(0)
    assert evenness(prior.tolist()) >= least - 1e-6
    # It is a power of the labels' frequencies, the same for all classes, and the next is too much.
    tau = 1 - (adjustment[seen] / log_labels).nan_to_num(0)
    assert_close(tau, tau[:1].expand_as(tau))
    assert -1e-9 <= tau[0] <= 1 + 1e-9
    if tau[0] < 0.99:
        sharper = ((tau[0] + 0.01) * log_labels).softmax(0)
        assert evenness(sharper.tolist()) < least + 1e-6


def test_counts_are_of_the_last_batches() -> None:
    prior = ClassPrior(2, 0.9)
    prior.update(torch.tensor([6.0, 2.0]))
    prior.update(torch.tensor([0.0, 1.0]))
    assert_close(prior.counts, torch.tensor([MEMORY * 6, MEMORY * 2 + 1]))
    assert ClassPrior(2, 0.0).adjustment() is None


@pytest.mark.parametrize("least", [0.0, 0.8, 1.0])
def test_a_network_without_features_learns_the_prior(least: float) -> None:
    """Nine of ten labelled cells are of one class; what it says by itself is π."""
    loss = plain_loss(2, 1, evenness=least, **ALONE)
    seeds = torch.full((1, 4, 10), 255)
    seeds[0, 0], seeds[0, 0, 0] = 0, 1
    bias = torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.SGD([bias], lr=0.5)
    for _ in range(400):
        out = loss(bias[None, :, None, None].expand(1, 2, 4, 10), torch.ones(1, 1, 4, 10), seeds)
        optimiser.zero_grad()
        out.loss.backward()
        optimiser.step()
    found = bias.softmax(0).tolist()
    if least == 0.8:
        assert evenness(found) == pytest.approx(0.8, abs=0.01)
    else:
        assert found[0] == pytest.approx({0.0: 0.9, 1.0: 0.5}[least], abs=0.005)


@pytest.mark.parametrize("labelled", [0.1, 0.9])
def test_the_cross_entropy_is_that_of_adjusted_logits(make_batch: Make, labelled: float) -> None:
    """Few labels are picked out, many taken in the pass over the logits."""
    loss = plain_loss(4, 3, evenness=1.0, **ALONE).double()
    for seed in range(3):
        batch = make_batch(labelled=0.5, seed=seed, candidates="image", teacher=True)
        batch["seeds"][batch["seeds"] == 3] = seed % 2
        loss(**batch)
    adjustment = loss.prior.adjustment()
    assert adjustment is not None
    assert adjustment[:3].std() > 0.05
    assert adjustment[3] == 0
    batch = make_batch(labelled=labelled, seed=9)
    adjusted = batch["logits"] + adjustment[:, None, None]
    expected = cross_entropy(adjusted, batch["seeds"], ignore_index=255)
    found = loss(**batch).loss
    assert_close(found, expected)
    gradients = [torch.autograd.grad(value, batch["logits"])[0] for value in (found, expected)]
    assert_close(*gradients)
    assert not torch.equal(loss.prior.adjustment(), adjustment)  # it has counted this batch too


def test_labels_are_counted_whatever_classes_are_left_out(make_batch: Make) -> None:
    """Candidates leave out classes of an image; the counts are those of the labelled cells."""
    loss, seeds = plain_loss(4, 3, evenness=0.9), torch.full((2, 6, 8), 255)
    seeds[0, :2, :2], seeds[0, 4, 4], seeds[1, 0, 0], seeds[1, 0, 1] = 1, 3, 1, 2
    batch = make_batch()
    candidates = torch.tensor([[False, True, False, True], [False, True, True, False]])
    loss(batch["logits"], batch["features"], seeds, candidates)
    assert_close(loss.prior.counts, torch.tensor([0, 1.5, 0.5, 1]))
    loss.eval()(batch["logits"], batch["features"], seeds, candidates)
    assert_close(loss.prior.counts, torch.tensor([0, 1.5, 0.5, 1]))
