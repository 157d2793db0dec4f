"""AGMM2023Loss against a slow reading of section 5 and hand-worked values."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from agmm.mixture import AGMM2023Loss
from agmm.mixture.grid import reduce_to_grid
from agmm.mixture.published_2023 import EPSILON, absolute_distances, batch_separation

Batch = dict[str, Any]


def slow_terms(batch: Batch, *, variance: bool) -> tuple[dict[str, float], np.ndarray]:
    """Terms on the grid that `reduce_to_grid` gives (which has tests of its own)."""
    grid = reduce_to_grid(**batch)
    y, f, logits = (part.detach().numpy() for part in (grid.shares, grid.features, grid.logits))
    images, classes, cells = y.shape
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    network, mixture, absent, centres = [], [], [], np.full((images, classes, f.shape[1]), np.nan)
    posterior = np.zeros_like(y)
    for b in range(images):
        present = [k for k in range(classes) if y[b, k].sum() > 0]
        G = np.zeros((classes, cells))
        for k in present:
            centres[b, k] = (y[b, k] * f[b]).sum(1) / y[b, k].sum()
            squared = np.abs(f[b] - centres[b, k][:, None]).mean(0) ** 2
            if variance:
                inside = p[b, k] * grid.valid[b].numpy()
                spread = (inside * squared).sum() / (inside.sum() + EPSILON)
                squared = squared / (2 * spread + EPSILON)
            G[k] = np.exp(-squared)
        for n in range(cells):
            allowed = grid.candidates[b, :, n].numpy()
            weight = G[:, n] * allowed if (G[:, n] * allowed).any() else allowed
            posterior[b, :, n] = weight / weight.sum()
            if grid.valid[b, n]:
                bce = [
                    -G[k, n] * np.log(p[b, k, n]) - (1 - G[k, n]) * np.log(1 - p[b, k, n])
                    for k in present
                ]
                network.append(np.sum(bce) / max(len(present), 1))
                absent.append(-np.log(1 - p[b, ~allowed, n]).sum())
            if grid.labelled[b, n]:
                bce = [
                    -y[b, k, n] * np.log(G[k, n]) - (1 - y[b, k, n]) * np.log(1 - G[k, n] + EPSILON)
                    for k in present
                ]
                mixture.append(np.mean(bce))
    seen = [k for k in range(classes) if not np.isnan(centres[:, k]).all()]
    middle = {k: np.nanmean(centres[:, k], 0) for k in seen}
    pairs = [
        np.exp(-(np.abs(middle[i] - middle[j]).mean() ** 2)) for i in seen for j in seen if i < j
    ]
    return {
        "network": float(np.mean(network)) / 2,
        "mixture": float(np.mean(mixture)) / 2,
        "separation": float(np.mean(pairs)),
        "absent_class": float(np.mean(absent)),
    }, posterior


@pytest.mark.parametrize("variance", [False, True])
@pytest.mark.parametrize("candidates", ["all", "image", "pixel"])
@pytest.mark.parametrize("padding", [False, True])
def test_equals_the_slow_reading(
    make_batch: Callable[..., Batch], variance: bool, candidates: str, padding: bool
) -> None:
    batch = make_batch(candidates=candidates, padding=padding)
    batch["seeds"][batch["seeds"] == 3] = 255
    expected, posterior = slow_terms(batch, variance=variance)
    out = AGMM2023Loss(4, 3, variance=variance)(**batch)
    for name, value in expected.items():
        assert out.terms[name].item() == pytest.approx(value, rel=1e-6, abs=1e-12), name
    assert out.loss.item() == pytest.approx(sum(out.terms.values()).item())
    np.testing.assert_allclose(out.posterior.flatten(2).numpy(), posterior, atol=1e-9)


def test_two_labelled_cells_by_hand() -> None:
    features = torch.tensor([[[[0.0, 2.0]], [[0.0, 0.0]]]])  # mean absolute difference 1
    out = AGMM2023Loss(2, 2)(torch.zeros(1, 2, 1, 2), features, torch.tensor([[[0, 1]]]))
    g = math.exp(-1)
    assert out.terms["partial_cross_entropy"].item() == pytest.approx(math.log(2))
    assert out.terms["network"].item() == pytest.approx(math.log(2) / 2)
    # Own class: log G = 0; the other class: log(1 − 1/e); over 2 classes, and halved.
    assert out.terms["mixture"].item() == pytest.approx(-math.log(1 - g) / 4, rel=1e-5)
    assert out.terms["separation"].item() == pytest.approx(g)
    assert out.terms["absent_class"].item() == 0
    assert out.posterior[0, :, 0, 0].tolist() == pytest.approx([1 / (1 + g), g / (1 + g)])


def test_absolute_distances_equal_the_definition_and_have_its_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    means = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    expected = (features.unsqueeze(1) - means.unsqueeze(3)).abs().mean(2)
    torch.testing.assert_close(absolute_distances(features, means), expected)
    assert torch.autograd.gradcheck(absolute_distances, (features, means))


def test_centres_of_a_class_are_averaged_between_images() -> None:
    means = torch.tensor([[[1.0], [5.0]], [[3.0], [7.0]]])
    present = torch.tensor([[True, True], [True, False]])
    assert batch_separation(means, present).item() == pytest.approx(math.exp(-9))


def test_separation_of_one_class_is_zero() -> None:
    assert batch_separation(torch.ones(1, 3, 2), torch.tensor([[True, False, False]])).item() == 0
