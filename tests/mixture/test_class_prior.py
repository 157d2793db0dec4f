"""The prior of the classes: by hand, against plain functions, and what it does to a training."""

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


@pytest.mark.parametrize("counts", [[1, 1, 1], [3, 2, 1], [90, 15], [5, 0, 4], [7], [0, 0]])
def test_labels_that_are_frequent_enough_are_left_alone(counts: list[int]) -> None:
    """The rarest of [3, 2, 1] has half the mean; a class without labels does not count."""
    assert not log_adjustment(torch.tensor(counts).float(), 0.28).any()


def test_adjustment_by_hand() -> None:
    """Of 80, 15, 4 and 1 % the floor is 0.5 / 4 = 12.5 %; a fifth class has no labels."""
    found = log_adjustment(torch.tensor([160.0, 30.0, 8.0, 2.0, 0.0]), 0.5)
    assert_close(found.exp(), torch.tensor([1, 1, 0.04 / 0.125, 0.01 / 0.125, 1]))


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=30), st.floats(0.01, 100.0))
def test_the_prior_has_the_floor(counts: list[int], floor: float) -> None:
    labels = torch.tensor(counts, dtype=torch.float64)
    adjustment = log_adjustment(labels, floor)
    seen = labels > 0
    assert (adjustment[~seen] == 0).all()
    if not seen.any():
        return
    frequencies = labels[seen] / labels.sum()
    prior = frequencies / adjustment[seen].exp()  # not divided by its sum
    assert_close(prior, frequencies.clamp(min=floor / seen.sum().item()))


def test_counts_are_of_the_last_batches() -> None:
    prior = ClassPrior(2, 0.5)
    prior.update(torch.tensor([6.0, 2.0]))
    prior.update(torch.tensor([0.0, 1.0]))
    assert_close(prior.counts, torch.tensor([MEMORY * 6, MEMORY * 2 + 1]))
    plain = ClassPrior(2, 0.0)
    plain.update(torch.tensor([6.0, 2.0]))
    assert plain.adjustment() is None
    assert not plain.counts.any()


@pytest.mark.parametrize("cells", [(4, 10), (1, 2)])
@pytest.mark.parametrize(("floor", "expected"), [(0.0, 0.9), (0.4, 0.9 / 1.1), (5.0, 0.5)])
def test_a_network_without_features_learns_the_prior(
    floor: float, expected: float, cells: tuple[int, int]
) -> None:
    """Nine of ten labelled pixels are of one class, whatever cells they share: it says π."""
    loss = plain_loss(2, 1, prior_floor=floor, **ALONE)
    seeds = torch.full((1, 4, 10), 255)
    seeds[0, 0], seeds[0, 0, 0] = 0, 1
    bias = torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.SGD([bias], lr=0.5)
    for _ in range(400):
        out = loss(bias[None, :, None, None].expand(1, 2, 4, 10), torch.ones(1, 1, *cells), seeds)
        optimiser.zero_grad()
        out.loss.backward()
        optimiser.step()
    assert bias.softmax(0)[0].item() == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("labelled", [0.1, 0.9])
def test_the_cross_entropy_is_that_of_adjusted_logits(make_batch: Make, labelled: float) -> None:
    """Few labels are picked out, many taken in the pass over the logits."""
    loss = plain_loss(4, 3, prior_floor=9.0, **ALONE).double()
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
    afterwards = loss.prior.adjustment()  # it has counted this batch too
    assert afterwards is not None
    assert not torch.equal(afterwards, adjustment)


def test_labels_are_counted_whatever_classes_are_left_out(make_batch: Make) -> None:
    """Candidates leave out classes of an image; the counts are those of the labelled pixels."""
    loss, seeds = plain_loss(4, 3, prior_floor=0.5), torch.full((2, 6, 8), 255)
    seeds[0, :2, :2], seeds[0, 4, 4], seeds[1, 0, 0], seeds[1, 0, 1] = 1, 3, 1, 2
    batch = make_batch()
    candidates = torch.tensor([[False, True, False, True], [False, True, True, False]])
    loss(batch["logits"], batch["features"], seeds, candidates)
    assert_close(loss.prior.counts, torch.tensor([0.0, 5, 1, 1]))
    loss.eval()(batch["logits"], batch["features"], seeds, candidates)
    assert_close(loss.prior.counts, torch.tensor([0.0, 5, 1, 1]))
