"""Neighbouring cells of the same colour tend to be of the same class: a Markov field on the grid.

Ours beside the mixture: the posterior of a Gaussian mixture with such a field (hidden Markov random
field, Zhang, Brady & Smith, IEEE TMI 2001), found by mean-field steps. The neighbours of a cell are
those eight at each of a few distances (as in the pixel-adaptive refinement of Ru et al., CVPR
2022), so that the cost does not grow with the square of their reach.
"""

from itertools import product

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

DISTANCES = (1, 2, 4, 8)
"""Cells from a cell to its neighbours."""
OFFSETS = tuple(
    (distance * down, distance * right)
    for distance in DISTANCES
    for down, right in product((-1, 0, 1), repeat=2)
    if down or right
)
COLOUR_WIDTH = 0.25
"""Difference of colour that neighbours of one class may have, in the units of the colours."""
MEAN_FIELD_STEPS = 5
OWN_WEIGHT = 4
"""What a cell itself weighs in `support`, where a neighbour of its own colour weighs 1."""


def affinities(
    colours: Float[Tensor, "b 3 h w"], valid: Bool[Tensor, "b h w"]
) -> Float[Tensor, "b o h w"]:
    """How much each neighbour of a cell counts: `exp(−‖Δc‖² / 2σ²)`, divided by their number.

    Two cells count alike for each other, and a cell unlike all around it stands alone.

    Args:
        colours: colours of the cells.
        valid: cells of the picture; others are nobody's neighbours.

    Returns:
        Weights of the neighbours at each of `OFFSETS`, which sum up to 1 at most.

    Example:
        >>> colours = torch.tensor([0.0, 0.0, 9.0]).expand(1, 3, 1, 3)
        >>> weights = affinities(colours, torch.ones(1, 1, 3) > 0)
        >>> (len(OFFSETS) * weights.sum(1)).flatten().tolist()  # the third is like no other
        [1.0, 1.0, 0.0]
    """
    weights = []
    for there, here in zip(_shifted(colours), _shifted(valid.unsqueeze(1)), strict=True):
        squared = (there - colours).square().sum(1) / (2 * COLOUR_WIDTH**2)
        weights.append((-squared).exp() * here[:, 0] / len(OFFSETS))
    return torch.stack(weights, 1)


def neighbour_sum(
    values: Float[Tensor, "b k h w"], weights: Float[Tensor, "b o h w"]
) -> Float[Tensor, "b k h w"]:
    """Weighted sum of the values of each cell's neighbours.

    Args:
        values: values of the cells.
        weights: weights of the neighbours, see `affinities`.

    Returns:
        Sums; 0 for a cell without neighbours.

    Example:
        >>> values = torch.tensor([[[[1.0, 2.0, 5.0]]]])
        >>> weights = affinities(torch.zeros(1, 3, 1, 3), torch.ones(1, 1, 3) > 0)
        >>> (len(OFFSETS) * neighbour_sum(values, weights)).flatten().tolist()
        [7.0, 6.0, 3.0]
    """
    total = torch.zeros_like(values)
    for there, weight in zip(_shifted(values), weights.unbind(1), strict=True):
        total.addcmul_(there, weight.unsqueeze(1))
    return total


def mean_field(
    log_posterior: Float[Tensor, "b k n"],
    weights: Float[Tensor, "b o h w"],
    shares: Float[Tensor, "b k n"],
    labelled: Bool[Tensor, "b n"],
    coherence: float,
) -> Float[Tensor, "b k n"]:
    """Posterior of cells that look at their neighbours. No gradient.

    Repeats `q_n ∝ γ_n exp(λ Σ_m w_nm q_m)`, where labelled cells have their labels.

    Args:
        log_posterior: log γ, the posterior of each cell alone; −∞ where a class is ruled out.
        weights: w, the weights of the neighbours, see `affinities`.
        shares: share of each class among the labelled pixels of the cell.
        labelled: cells with a label.
        coherence: λ, at least 0.

    Returns:
        Logarithm of q.

    Example:
        >>> weights = len(OFFSETS) * affinities(torch.zeros(1, 3, 1, 2), torch.ones(1, 1, 2) > 0)
        >>> shares = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        >>> half = torch.full((1, 2, 2), 0.5).log()
        >>> result = mean_field(half, weights, shares, shares.any(1), 1.0)
        >>> round(result.exp()[0, 0, 1].item(), 3)  # e / (1 + e)
        0.731
    """
    result = log_posterior = log_posterior.detach()
    size = weights.shape[2:]
    for _ in range(MEAN_FIELD_STEPS):
        opinion = torch.where(labelled.unsqueeze(1), shares, result.exp())
        message = neighbour_sum(opinion.reshape(*opinion.shape[:2], *size), weights).flatten(2)
        result = (log_posterior + coherence * message).log_softmax(1)
    return result


def support(
    log_posterior: Float[Tensor, "b k n"],
    weights: Float[Tensor, "b o h w"],
    shares: Float[Tensor, "b k n"],
    labelled: Bool[Tensor, "b n"],
) -> Float[Tensor, "b k n"]:
    """What each cell and its neighbours say of the classes on average. No gradient.

    Mean-field probabilities are close to 0 or 1 wherever the neighbours agree, right or wrong; this
    mean is the better calibrated measure of how sure the result of `mean_field` is.

    Args:
        log_posterior: log γ, the posterior of each cell alone.
        weights: w, the weights of the neighbours, see `affinities`; the cell itself weighs
            `OWN_WEIGHT` times as much as a neighbour of its own colour.
        shares: share of each class among the labelled pixels of the cell.
        labelled: cells with a label, which speak with it.

    Returns:
        Probabilities of the classes.

    Example:
        >>> weights = affinities(torch.zeros(1, 3, 1, 2), torch.ones(1, 1, 2) > 0)
        >>> posterior = torch.tensor([[[0.25, 0.5], [0.75, 0.5]]])
        >>> result = support(posterior.log(), weights, posterior, torch.zeros(1, 2) > 0)
        >>> [round(value, 4) for value in result[0, 0].tolist()]  # (4 · 0.25 + 0.5) / 5, and back
        [0.3, 0.45]
    """
    own = OWN_WEIGHT / len(OFFSETS)
    opinion = torch.where(labelled.unsqueeze(1), shares, log_posterior.detach().exp())
    around = neighbour_sum(opinion.reshape(*opinion.shape[:2], *weights.shape[2:]), weights)
    return (own * opinion + around.flatten(2)) / (own + weights.sum(1, keepdim=True).flatten(2))


def _shifted(values: Tensor) -> list[Tensor]:
    """The values at each of `OFFSETS` from every cell; 0 beyond the border."""
    height, width = values.shape[2:]
    reach = max(DISTANCES)
    padded = functional.pad(values, (reach, reach, reach, reach))
    return [
        padded[:, :, reach + down : reach + down + height, reach + right : reach + right + width]
        for down, right in OFFSETS
    ]
