"""One pass over the logits: a value by hand, a slow reading in doubles, gradients, parts."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agmm.mixture import softmax
from agmm.mixture.softmax import softmax_terms


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def slow(logits: Tensor, allowed: Tensor, classes: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The definition, class by class."""
    log_probs = logits.log_softmax(1)
    absent = torch.zeros_like(logits[:, 0])
    for b, k, n in torch.cartesian_prod(*map(torch.arange, logits.shape)).tolist():
        if not allowed[b, k, min(n, allowed.shape[2] - 1)]:
            others = [j for j in range(logits.shape[1]) if j != k]
            rest = logits[b, others, n].logsumexp(0) - logits[b, :, n].logsumexp(0)
            absent[b, n] = absent[b, n] - rest
    return torch.stack([log_probs[b, chosen] for b, chosen in enumerate(classes)]), absent


def test_by_hand() -> None:
    logits = torch.tensor([[[0.2], [0.3], [0.5]]]).log()
    allowed = torch.tensor([[[True], [False], [False]]])
    log_probs, absent = softmax_terms(logits, allowed, torch.tensor([[2]]))
    assert log_probs.item() == pytest.approx(math.log(0.5))
    assert absent.item() == pytest.approx(-math.log(0.7) - math.log(0.5))


def test_nothing_ruled_out() -> None:
    logits = normal(2, 3, 4)
    log_probs, absent = softmax_terms(logits, None)
    torch.testing.assert_close(log_probs, logits.log_softmax(1))
    assert (absent == 0).all()


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**31), scale=st.sampled_from([0.1, 3.0, 30.0]), part=st.integers(1, 40),
    whole=st.booleans(),
)  # fmt: skip
def test_equals_the_definition(seed: int, scale: float, part: int, whole: bool) -> None:
    logits = (normal(2, 5, 4, seed=seed) * scale).requires_grad_()
    generator = torch.Generator().manual_seed(seed)
    allowed = torch.rand(2, 5, 1 if whole else 4, generator=generator) < 0.5
    chosen = [[3, 0], [1, 4]]
    weights = normal(2, 2, 4, seed=1), normal(2, 4, seed=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(softmax, "PART", part)
        ours = softmax_terms(logits, allowed, torch.tensor(chosen))
        gradient = torch.autograd.grad(ours, logits, weights)
    expected = slow(logits, allowed, chosen)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits, weights))


@pytest.mark.parametrize("classes", [None, torch.tensor([[2, 0], [1, 2]])])
@pytest.mark.parametrize("ruled_in", [None, 0.5, 0.0])
@pytest.mark.parametrize("interleaved", [False, True])
def test_gradient(classes: Tensor | None, ruled_in: float | None, interleaved: bool) -> None:
    logits = 3 * normal(2, 3, 4)
    if interleaved:
        logits = logits.mT.contiguous().mT
    generator = torch.Generator().manual_seed(0)
    allowed = None if ruled_in is None else torch.rand(2, 3, 4, generator=generator) < ruled_in
    call: Callable[[Tensor], tuple[Tensor, Tensor]] = lambda z: softmax_terms(z, allowed, classes)  # noqa: E731
    assert torch.autograd.gradcheck(call, (logits.requires_grad_(),))


@pytest.mark.parametrize("gap", [20.0, 200.0, 1e6])
def test_a_confident_network_has_exact_value_and_gradient(gap: float) -> None:
    # The largest class is ruled out: the loss is the gap, its gradient 1 and −1.
    logits = torch.tensor([[[gap], [0.0], [-gap]]], requires_grad=True)
    allowed = torch.tensor([[[False], [True], [True]]])
    absent = softmax_terms(logits, allowed)[1].sum()
    (gradient,) = torch.autograd.grad(absent, logits)
    assert absent.item() == pytest.approx(gap, rel=1e-6)
    assert gradient.flatten().tolist() == pytest.approx([1, -1, 0], abs=1e-6)
    # It is allowed: what is left of the others is their sum, without 1 − (1 − p).
    absent = softmax_terms(logits, ~allowed)[1].sum()
    (gradient,) = torch.autograd.grad(absent, logits)
    assert absent.item() == pytest.approx(math.exp(-gap), rel=1e-5)
    assert gradient.flatten().tolist() == pytest.approx([-math.exp(-gap), math.exp(-gap), 0])


def test_a_tie_for_the_largest_probability() -> None:
    logits = torch.zeros(1, 2, 1, requires_grad=True)
    absent = softmax_terms(logits, torch.tensor([[[True], [False]]]))[1].sum()
    (gradient,) = torch.autograd.grad(absent, logits)
    assert absent.item() == pytest.approx(math.log(2))
    assert gradient.flatten().tolist() == pytest.approx([-0.5, 0.5])
