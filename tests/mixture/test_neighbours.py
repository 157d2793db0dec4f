"""The field over neighbouring cells against loops over cells, and what must hold of it."""

import math
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from agmm.mixture import AGMMLoss
from agmm.mixture.neighbours import (
    COLOUR_WIDTH,
    DISTANCES,
    MEAN_FIELD_STEPS,
    OFFSETS,
    affinities,
    mean_field,
    neighbour_sum,
    support,
)


def slow_neighbours(
    colours: torch.Tensor, valid: torch.Tensor, row: int, column: int
) -> dict[tuple[int, int], float]:
    """Weights of the neighbours of a cell of one image, by their place."""
    height, width = valid.shape
    weights = {}
    for distance in DISTANCES:
        for i in (row - distance, row, row + distance):
            for j in (column - distance, column, column + distance):
                inside = 0 <= i < height and 0 <= j < width
                if (i, j) != (row, column) and inside and valid[i, j]:
                    squared = ((colours[:, i, j] - colours[:, row, column]) ** 2).sum().item()
                    weights[i, j] = math.exp(-squared / (2 * COLOUR_WIDTH**2)) / len(OFFSETS)
    return weights


@pytest.fixture
def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """Colours of two images, and their valid cells."""
    generator = torch.Generator().manual_seed(0)
    colours = 0.2 * torch.randn(2, 3, 6, 7, generator=generator, dtype=torch.float64)
    valid = torch.rand(2, 6, 7, generator=generator) < 0.8
    return colours, valid


def test_sums_over_neighbours_equal_a_loop(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    colours, valid = scene
    values = torch.randn(2, 4, 6, 7, dtype=torch.float64)
    result = neighbour_sum(values, affinities(colours, valid))
    for b in range(2):
        for i in range(6):
            for j in range(7):
                around = slow_neighbours(colours[b], valid[b], i, j)
                expected = sum(
                    (weight * values[b, :, m, n] for (m, n), weight in around.items()),
                    torch.zeros(4, dtype=torch.float64),
                )
                assert_close(result[b, :, i, j], expected)


def test_mean_field_equals_a_loop(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    colours, valid = scene
    log_posterior = torch.randn(2, 3, 42, dtype=torch.float64)
    log_posterior[0, 2] = -torch.inf
    log_posterior = log_posterior.log_softmax(1)
    shares = torch.zeros(2, 3, 42, dtype=torch.float64)
    shares[:, 0, 5] = shares[:, 1, 20] = 1
    shares[1, :2, 30] = 0.5
    labelled = shares.any(1)
    result = mean_field(log_posterior, affinities(colours, valid), shares, labelled, 2.5)
    for b in range(2):
        q = log_posterior[b].exp()
        for _ in range(MEAN_FIELD_STEPS):
            seen = torch.where(labelled[b], shares[b], q)
            new = torch.zeros_like(q)
            for n in range(42):
                around = slow_neighbours(colours[b], valid[b], n // 7, n % 7)
                message = sum(w * seen[:, i * 7 + j] for (i, j), w in around.items())
                scores = log_posterior[b, :, n].exp() * torch.exp(2.5 * torch.as_tensor(message))
                new[:, n] = scores / scores.sum()
            q = new
        assert_close(result[b].exp(), q)
        assert (result[0, 2] == -torch.inf).all()


def test_support_is_the_mean_of_the_cell_and_its_neighbours(
    scene: tuple[torch.Tensor, torch.Tensor],
) -> None:
    colours, valid = scene
    log_posterior = torch.randn(2, 3, 42, dtype=torch.float64).log_softmax(1)
    shares = torch.zeros(2, 3, 42, dtype=torch.float64)
    shares[:, 0, 5] = shares[:, 1, 20] = 1
    labelled = shares.any(1)
    result = support(log_posterior, affinities(colours, valid), shares, labelled)
    for b in range(2):
        said = torch.where(labelled[b], shares[b], log_posterior[b].exp())
        for n in range(42):
            around = slow_neighbours(colours[b], valid[b], n // 7, n % 7)
            around[n // 7, n % 7] = 4 / len(OFFSETS)
            mean = sum((w * said[:, i * 7 + j] for (i, j), w in around.items()), 0 * said[:, 0])
            assert_close(result[b, :, n], mean / sum(around.values()))


def test_the_loss_tells_the_support_where_it_looks_at_neighbours() -> None:
    images = torch.zeros(1, 3, 4, 8)
    images[..., 4:] = 3.0
    seeds = torch.full((1, 4, 8), 255)
    logits = torch.zeros(1, 3, 4, 8)
    logits[:, 1] = 1.0
    objective, alone = AGMMLoss(3, 2).eval(), AGMMLoss(3, 2, coherence=0.0).eval()
    candidates = torch.tensor([[True, True, False]])  # the third class is left out of the sums
    out = objective(logits, torch.ones(1, 2, 4, 8), seeds, candidates, images=images)
    assert out.support is not None
    expected = torch.tensor([1.0, math.e, 0]) / (1 + math.e)
    assert_close(out.support, expected[None, :, None, None].expand(1, 3, 4, 8))
    assert alone(logits, torch.ones(1, 2, 4, 8), seeds).support is None
    assert objective.train()(logits, torch.ones(1, 2, 4, 8), seeds, images=images).support is None


def test_two_cells_count_alike_for_each_other(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Else the mean-field steps would be those of no Markov field."""
    colours, valid = scene
    weights = affinities(colours, torch.ones_like(valid))
    for o, (down, right) in enumerate(OFFSETS):
        back = OFFSETS.index((-down, -right))
        there = weights[:, back].roll((-down, -right), (1, 2))
        inside = torch.zeros(6, 7, dtype=torch.bool)
        inside[max(0, -down) : 6 - max(0, down), max(0, -right) : 7 - max(0, right)] = True
        assert_close(weights[:, o] * inside, there * inside)


def test_a_cell_of_another_colour_stands_alone() -> None:
    colours = torch.zeros(1, 3, 1, 3)
    colours[..., 1] = 1000.0
    weights = affinities(colours, torch.ones(1, 1, 3) > 0)
    assert_close((len(OFFSETS) * weights.sum(1)).flatten(), torch.tensor([1.0, 0.0, 1.0]))
    alone = torch.tensor([[[0.1, 0.3, 0.1], [0.9, 0.7, 0.9]]]).log()
    shares = torch.zeros(1, 2, 3)
    unlabelled = shares.any(1)
    assert_close(mean_field(alone, weights, shares, unlabelled, 9.0)[..., 1], alone[..., 1])
    assert_close(support(alone, weights, shares, unlabelled)[..., 1], alone[..., 1].exp())


def test_a_cell_without_neighbours_stands_alone() -> None:
    weights = affinities(torch.zeros(1, 3, 1, 1), torch.ones(1, 1, 1) > 0)
    assert not weights.any()
    alone = torch.tensor([[[0.3], [0.7]]]).log()
    shares = torch.zeros(1, 2, 1)
    assert_close(mean_field(alone, weights, shares, shares.any(1), 3.0), alone)
    assert_close(support(alone, weights, shares, shares.any(1)), alone.exp())


@pytest.mark.parametrize("coherence", [0.0, 16.0])
def test_a_label_speaks_for_cells_of_its_colour(coherence: float) -> None:
    """Two halves of two colours, one labelled cell in each, and a mixture that knows nothing."""
    images = torch.zeros(1, 3, 8, 8)
    images[..., 4:] = 3.0
    seeds = torch.full((1, 8, 8), 255)
    seeds[0, 4, 1], seeds[0, 4, 6] = 0, 1
    options: dict[str, Any] = {"partial_cross_entropy": 0.0, "absent_class": 0.0, "mutual": 1.0}
    objective = AGMMLoss(2, 2, **options, appearance=0.0, coherence=coherence, warmup_steps=0)
    logits = torch.zeros(1, 2, 8, 8, requires_grad=True)
    out = objective(logits, torch.ones(1, 2, 8, 8), seeds, images=images)
    out.loss.backward()
    assert logits.grad is not None
    towards = logits.grad[0, 1] - logits.grad[0, 0]  # negative where the second class is taught
    beside, across = towards[4, 2].item(), towards[4, 7].item()
    if coherence:
        assert beside > 0.001
        assert across < -0.001
    else:
        assert beside == across == 0
