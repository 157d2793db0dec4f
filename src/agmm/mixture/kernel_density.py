"""Every labelled cell of an image as a component of its class: a kernel density."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agmm.mixture import inputs
from agmm.mixture.gaussian import squared_distances

MAX_PIXELS = 64
"""Labelled cells of a class and image that become components, evenly spaced."""
_TINY = 1e-30


def kernel_density(
    features: Float[Tensor, "b d n"],
    shares: Float[Tensor, "b k n"],
    variances: Float[Tensor, "*#b k"],
    temperature: float,
) -> Float[Tensor, "b k n"]:
    """`T log Σ_j w_kj N(f_n; f_j, σ²_j)^(1/T)` over the image's own labelled cells j.

    A component has the variance of its class, or the mean over the classes that share the cell.

    Args:
        features: features of the cells.
        shares: share of each class among the labelled pixels of the cell.
        variances: variance of each class, above 0; for every image alike (`k`) or not (`b k`).
        temperature: T, above 0.

    Returns:
        Log-likelihood, finite; without a meaning for classes that the image has no seeds of. One
        that is smaller than the largest of the cell by 70 T or more may be too large.

    Example:
        >>> features, shares = torch.tensor([[[2.0, 4.0]]]), torch.tensor([[[1.0, 0.0]]])
        >>> kernel_density(features, shares, torch.ones(1), 1.0).abs().tolist()
        [[[0.0, 2.0]]]
    """
    kept = evenly_spaced(shares > 0)
    found = kept.any(1)
    number = min(shares.shape[2], MAX_PIXELS * shares.shape[1])
    if inputs.readable(found):
        number = max(1, int(found.sum(1).max()))
    cells = found.to(torch.uint8).topk(number, dim=1).indices  # b j, the kept ones first
    weights = (shares * kept).gather(2, cells.unsqueeze(1).expand(-1, shares.shape[1], -1))
    centres = features.gather(2, cells.unsqueeze(1).expand(-1, features.shape[1], -1)).mT
    distances = squared_distances(features, centres)  # b j n
    classes = weights / weights.sum(1, keepdim=True).clamp(min=_TINY)
    spread = (classes * variances.expand(len(features), -1).unsqueeze(2)).sum(1)  # b j
    filled = weights.any(1)  # a place of the j is empty where other images have more cells
    spread = torch.where(filled, spread, 1).unsqueeze(2)
    exponent = -distances / (2 * temperature * spread) - spread.log() / (2 * temperature)
    exponent = exponent.masked_fill(~filled.unsqueeze(2), -1 / _TINY)  # T times it is finite
    highest = exponent.detach().amax(1, keepdim=True)
    weights = weights / weights.sum(2, keepdim=True).clamp(min=_TINY)
    density = weights @ (exponent - highest).exp()
    return temperature * (density.clamp(min=_TINY).log() + highest)


def evenly_spaced(cells: Bool[Tensor, "b k n"]) -> Bool[Tensor, "b k n"]:
    """At most `MAX_PIXELS` of the cells of every class, evenly spaced.

    Args:
        cells: the labelled cells.

    Returns:
        Those that are kept.

    Example:
        >>> evenly_spaced(torch.ones(1, 1, 1000) > 0).sum().item()
        64
    """
    rank = cells.cumsum(2)
    number = rank[:, :, -1:].clamp(min=MAX_PIXELS)
    return cells & (rank * MAX_PIXELS // number != (rank - 1) * MAX_PIXELS // number)
