"""The gated CRF loss: by hand, against loops over pairs of pixels, gradients, memory."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from agmm.errors import ConfigError
from agmm.training.gated_crf import GatedCRFLoss, gated_crf

BATCH, CLASSES, ROWS, COLUMNS = 2, 3, 5, 4


def random_arguments(seed: int = 0, *, closed: float = 0.2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(BATCH, CLASSES, ROWS, COLUMNS, generator=generator, dtype=torch.float64)
    colors = 0.2 * torch.randn(BATCH, 3, ROWS, COLUMNS, generator=generator, dtype=torch.float64)
    gate = torch.rand(BATCH, ROWS, COLUMNS, generator=generator) >= closed
    return scores.softmax(1), colors, gate


def slow_energy(
    probs: Tensor, colors: Tensor, gate: Tensor, sigma_rgb: float, sigma_xy: float, radius: int
) -> float:
    """Pair by pair, over all ordered pairs of an image."""
    p, c = probs.detach().double().numpy(), colors.double().numpy()
    total = 0.0
    cells = list(itertools.product(range(p.shape[2]), range(p.shape[3])))
    for b, (y, x), (v, u) in itertools.product(range(len(p)), cells, cells):
        near = max(abs(y - v), abs(x - u)) <= radius and (y, x) != (v, u)
        if near and gate[b, y, x] and gate[b, v, u]:
            place = ((y - v) ** 2 + (x - u) ** 2) / (2 * sigma_xy**2)
            color = ((c[b, :, y, x] - c[b, :, v, u]) ** 2).sum() / (2 * sigma_rgb**2)
            total += math.exp(-place - color) * (1 - p[b, :, y, x] @ p[b, :, v, u])
    return total / max(1, int(gate.sum()))


@pytest.mark.parametrize("radius", [1, 2, 3, 9])
@pytest.mark.parametrize("closed", [0.0, 0.3])
def test_against_a_loop_over_pairs(radius: int, closed: float) -> None:
    probs, colors, gate = random_arguments(radius, closed=closed)

    energy = gated_crf(probs, colors, gate, sigma_rgb=0.3, sigma_xy=1.5, radius=radius)

    expected = slow_energy(probs, colors, gate, 0.3, 1.5, radius)
    assert energy.item() == pytest.approx(expected, rel=1e-10)


def test_three_cells_by_hand() -> None:
    """In a row: certain of 0, undecided, certain of 1; the first two of one colour."""
    probs = torch.tensor([[[[1.0, 0.5, 0.0]], [[0.0, 0.5, 1.0]]]])
    colors = torch.tensor([[[[0.0, 0.0, 0.2]]]])

    energy = gated_crf(
        probs, colors, torch.ones(1, 1, 3, dtype=torch.bool), sigma_rgb=0.1, sigma_xy=1.0, radius=2
    )

    near, color = math.exp(-0.5), math.exp(-2.0)
    pairs = near * 0.5 + near * color * 0.5 + math.exp(-2.0) * color * 1.0
    assert energy.item() == pytest.approx(2 * pairs / 3)


def test_the_gradient_is_that_of_the_value() -> None:
    probs, colors, gate = (part[:1, ..., :3, :3] for part in random_arguments(closed=0.3))

    def energy(scores: Tensor) -> Tensor:
        return gated_crf(scores.softmax(1), colors, gate, sigma_rgb=0.3, sigma_xy=1.5, radius=2)

    assert torch.autograd.gradcheck(energy, probs.log().requires_grad_())


def test_pictures_get_no_gradient() -> None:
    probs, colors, gate = random_arguments()
    energy = gated_crf(probs.requires_grad_(), colors.requires_grad_(), gate)

    gradients: Any = torch.autograd.grad(energy, (probs, colors), allow_unused=True)
    assert gradients[0].abs().sum() > 0
    assert gradients[1] is None


def test_closed_cells_neither_send_nor_receive() -> None:
    probs, colors, gate = random_arguments(closed=0.4)
    other = torch.where(gate.unsqueeze(1), probs, probs.flip(1)).requires_grad_()

    energy = gated_crf(other, colors, gate)

    torch.testing.assert_close(energy, gated_crf(probs, colors, gate))
    (gradient,) = torch.autograd.grad(energy, other)
    assert (gradient.abs().sum(1)[~gate] == 0).all()


def test_agreement_costs_nothing_and_everything_is_bounded() -> None:
    _, colors, gate = random_arguments(closed=0.0)
    same = functional.one_hot(torch.zeros_like(gate, dtype=torch.long), CLASSES)
    probs, *_ = random_arguments()

    assert gated_crf(same.movedim(-1, 1).double(), colors, gate).item() == pytest.approx(0)
    assert 0 <= gated_crf(probs, colors, gate, radius=2).item() <= 24


@pytest.mark.parametrize("turn", [lambda t: t.flip(-1), lambda t: t.flip(-2), lambda t: t.mT])
def test_turned_pictures_have_the_same_energy(turn: Any) -> None:
    arguments = random_arguments()

    energy = gated_crf(*(turn(part) for part in arguments), sigma_rgb=0.3, radius=3)

    torch.testing.assert_close(energy, gated_crf(*arguments, sigma_rgb=0.3, radius=3))


def test_nothing_open_is_zero_with_a_gradient_path() -> None:
    probs, colors, gate = random_arguments()

    energy = gated_crf(probs.requires_grad_(), colors, torch.zeros_like(gate))
    (gradient,) = torch.autograd.grad(energy, probs)

    assert energy.item() == 0
    assert (gradient == 0).all()


def test_a_larger_window_keeps_nothing_more_for_the_backward_pass() -> None:
    kept: dict[int, int] = {}
    probs = torch.rand(2, 4, 32, 32, requires_grad=True)
    colors, gate = torch.rand(2, 3, 32, 32), torch.ones(2, 32, 32, dtype=torch.bool)
    for radius in (1, 5, 15):
        sizes: list[int] = []

        def keep(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor):
            gated_crf(probs, colors, gate, radius=radius)
        kept[radius] = sum(sizes)
    assert kept[1] == kept[5] == kept[15] < 2 * probs.numel()


def test_a_larger_window_does_not_allocate_more_at_a_time() -> None:
    """The largest single allocation, as the profiler sees it."""
    largest = {}
    probs = torch.rand(2, 4, 32, 32)
    colors, gate = torch.rand(2, 3, 32, 32), torch.ones(2, 32, 32, dtype=torch.bool)
    for radius in (2, 15):
        with torch.profiler.profile(profile_memory=True) as profile:
            gated_crf(probs, colors, gate, radius=radius)
        balance, peak = 0, 0
        for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
            if event.name() == "[memory]":
                balance += event.nbytes()
                peak = max(peak, balance)
        largest[radius] = peak
    assert 0 < largest[15] <= 1.1 * largest[2]


def objective_arguments() -> dict[str, Any]:
    """Pictures of 8x12 on a grid of 2x3, the last third of the second one padding."""
    generator = torch.Generator().manual_seed(3)
    valid = torch.ones(2, 8, 12, dtype=torch.bool)
    valid[1, :, 7:] = False
    seeds = torch.full((2, 8, 12), 255)
    seeds[:, 2, 2] = 1
    return {
        "logits": torch.randn(2, CLASSES, 8, 12, generator=generator),
        "features": torch.randn(2, 5, 2, 3, generator=generator),
        "seeds": seeds,
        "valid": valid,
        "images": 0.3 * torch.randn(2, 3, 8, 12, generator=generator),
    }


def test_the_objective_works_on_the_grid_without_the_cells_at_the_padding() -> None:
    given = objective_arguments()

    out = GatedCRFLoss(weight=0.5, sigma_rgb=0.3, sigma_xy=2.0, radius=1)(**given)

    gate = torch.ones(2, 2, 3, dtype=torch.bool)
    gate[1, :, 1:] = False  # columns 4 to 7 hold a column of padding
    logits = given["logits"].masked_fill(~given["valid"].unsqueeze(1), 0)
    probs = functional.avg_pool2d(logits, 4).softmax(1)
    colors = functional.avg_pool2d(given["images"], 4)
    expected = 0.5 * slow_energy(probs, colors, gate, 0.3, 2.0, 1)
    assert out.terms["gated_crf"].item() == pytest.approx(expected, rel=1e-5)
    cross_entropy = functional.cross_entropy(given["logits"], given["seeds"], ignore_index=255)
    assert out.loss.item() == pytest.approx(expected + cross_entropy.item(), rel=1e-5)


def test_without_pictures_only_the_labelled_pixels_count() -> None:
    given = objective_arguments()
    del given["images"]

    assert set(GatedCRFLoss()(**given).terms) == {"partial_cross_entropy"}


def test_it_pulls_a_cell_to_the_neighbour_of_its_colour() -> None:
    """A step of descent moves the undecided cell towards the neighbour that looks alike."""
    logits = torch.tensor([[[[4.0, 0.0, -4.0]], [[-4.0, 0.0, 4.0]]]], requires_grad=True)
    images = torch.tensor([0.0, 0.0, 1.0]).expand(1, 3, 1, 3)

    out = GatedCRFLoss()(logits, torch.zeros(1, 2, 1, 3), torch.full((1, 1, 3), 255), images=images)
    (gradient,) = torch.autograd.grad(out.loss, logits)

    assert gradient[0, 0, 0, 1] < 0 < gradient[0, 1, 0, 1]
    assert np.isfinite(gradient.numpy()).all()


@pytest.mark.parametrize(
    "options",
    [{"weight": -1.0}, {"sigma_rgb": 0.0}, {"sigma_xy": math.inf}, {"radius": 0}],
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))}: expected"):
        GatedCRFLoss(**options)
