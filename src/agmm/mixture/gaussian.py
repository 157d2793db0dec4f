"""Spherical Gaussians, one per class, in feature space: centres, distances, posterior.

Pure functions. Everything is `b k n`-sized at most: squared distances come from matrix products,
so that no `b k d n` tensor is ever built. Our reading: the squared distance is a mean over the
channels, so that a variance does not depend on how many channels there are; the likelihood is that
of an ordinary spherical Gaussian raised to the power 1/d (and the ordinary one for d = 1).
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agmm.mixture import inputs

CHUNK = 2**18
"""Numbers that are squared at once on a CPU: 1 MiB in float32."""


def weighted_means(
    weights: Float[Tensor, "b k n"], features: Float[Tensor, "b d n"]
) -> tuple[Float[Tensor, "b k d"], Float[Tensor, "b k"]]:
    """Weighted mean of the features, `μ_bk = Σ_n w_bkn f_bn / Σ_n w_bkn`, and its mass.

    Published (Wu et al., CVPR 2023): the centre of a class is the mean of its labelled pixels.

    Args:
        weights: weight of every cell for every class, at least 0.
        features: features of the cells.

    Returns:
        The means (0 for a class without mass), and the mass `Σ_n w_bkn`.

    Example:
        >>> weights, features = torch.tensor([[[1.0, 1, 0]]]), torch.tensor([[[2.0, 4, 9]]])
        >>> means, mass = weighted_means(weights, features)
        >>> means.item(), mass.item()
        (3.0, 2.0)
    """
    mass = weights.sum(2)
    sums = (features @ weights.mT).mT  # this order keeps the gradient in the features' layout
    return sums / torch.where(mass > 0, mass, 1).unsqueeze(2), mass


def squared_norms(features: Float[Tensor, "b d n"]) -> Float[Tensor, "b n"]:
    """Squared length of every cell's features, `‖f_bn‖²`.

    Args:
        features: features of the cells.

    Returns:
        Sums of squares over the channels.

    Example:
        >>> squared_norms(torch.tensor([[[3.0], [4.0]]])).item()
        25.0
    """
    if not inputs.readable(features) or (features.requires_grad and torch.is_grad_enabled()):
        return features.square().sum(1)
    # In parts whose squares stay in the cache: fresh memory of the size of the features costs
    # several times the arithmetic. Where the channels of a cell lie together, cell by cell.
    _, channels, cells = features.shape
    lengths = features.new_zeros(len(features), cells)
    for image, total in zip(features, lengths, strict=True):
        if image.stride(0) == 1:
            number = max(1, CHUNK // channels)
            for part, sums in zip(
                torch.split(image.mT, number), torch.split(total, number), strict=True
            ):
                sums.copy_(part.square().sum(1))
        else:
            for part in torch.split(image, max(1, CHUNK // max(1, cells))):
                total.add_(part.square().sum(0))
    return lengths


def squared_distances(
    features: Float[Tensor, "b d n"], means: Float[Tensor, "b k d"]
) -> Float[Tensor, "b k n"]:
    """Mean squared distance `d²_bkn = ‖f_bn − μ_bk‖² / d` by `‖f‖² − 2μᵀf + ‖μ‖²`.

    Args:
        features: features of the cells.
        means: centres of the classes.

    Returns:
        Squared distances, at least 0 also where rounding would make them negative.

    Example:
        >>> squared_distances(torch.tensor([[[3.0], [0.0]]]), torch.tensor([[[0.0, 4.0]]])).item()
        12.5
    """
    inner = means @ features  # b k n
    squared = squared_norms(features).unsqueeze(1) - 2 * inner + means.square().sum(2, keepdim=True)
    return squared.clamp(min=0) / features.shape[1]


class _ImageMixture(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, shares: Tensor, running: Tensor
    ) -> tuple[Tensor, Tensor]:
        mass = shares.sum(2, keepdim=True)
        present = mass > 0
        rates = shares / torch.where(present, mass, 1)
        image_means = rates @ features.mT
        means = torch.where(present, image_means, running)
        distances = means @ features  # b k n
        distances.mul_(-2).add_(squared_norms(features).unsqueeze(1))
        distances.add_(means.square().sum(2, keepdim=True)).clamp_(min=0)
        distances.div_(features.shape[1])
        # Not the means in between, which would be constants to second derivatives.
        ctx.save_for_backward(features, rates, image_means, running, present, distances)
        return image_means, distances

    @staticmethod
    def backward(ctx: Any, by_means: Tensor, by_distances: Tensor) -> tuple[Tensor | None, ...]:
        features, rates, image_means, running, present, distances = ctx.saved_tensors
        means = torch.where(present, image_means, running)
        # d² = ‖f − μ‖²/d: by f it is 2(f − μ)/d, by μ it is −2(f − μ)/d; 0 where it was clamped.
        slope = torch.where(distances > 0, by_distances, 0) * (2 / features.shape[1])
        centres = means * slope.sum(2, keepdim=True) - slope @ features.mT
        centres = torch.where(present, centres, 0) + by_means
        gradient = features * slope.sum(1, keepdim=True)
        factors, cells = torch.cat([-means, centres], 1), torch.cat([slope, rates], 1)
        return gradient.baddbmm_(factors.mT, cells), None, None


def image_mixture(
    features: Float[Tensor, "b d n"],
    shares: Float[Tensor, "b k n"],
    running: Float[Tensor, "b k d"],
) -> tuple[Float[Tensor, "b k d"], Float[Tensor, "b k n"]]:
    """Centres of each image, and mean squared distances to them or to the running centres.

    `weighted_means`, and `squared_distances` to these means where a class has mass in the image
    and to `running` elsewhere; here with one gradient for the features.

    Args:
        features: features of the cells.
        shares: weight of each cell for each class, without gradient.
        running: centres of the classes without mass in the image, without gradient.

    Returns:
        Centres of the image's own cells (0 without mass), and the distances.

    Example:
        >>> features, shares = torch.tensor([[[2.0, 4.0]]]), torch.tensor([[[1.0, 0.0]]])
        >>> means, distances = image_mixture(features, shares, torch.zeros(1, 1, 1))
        >>> means.item(), distances.flatten().tolist()
        (2.0, [0.0, 4.0])
    """
    means, distances = _ImageMixture.apply(features, shares, running)
    return means, distances


def log_likelihood(
    distances: Float[Tensor, "b k n"], variances: Float[Tensor, "*#b k"]
) -> Float[Tensor, "b k n"]:
    """Log-likelihood `log N_bkn = −d²_bkn / (2σ²_k) − ½ log σ²_k`, without the constant.

    Our reading of the 2025 paper.

    Args:
        distances: mean squared distances, see `squared_distances`.
        variances: variance of each class, above 0; for every image alike (`k`) or not (`b k`).

    Returns:
        Log-likelihood of every cell under every class.

    Example:
        >>> log_likelihood(torch.tensor([[[2.0]]]), torch.tensor([1.0])).item()
        -1.0
    """
    spread = variances.unsqueeze(-1)
    return -distances / (2 * spread) - 0.5 * spread.log()


def allowed_classes(
    candidates: Bool[Tensor, "b k n"], known: Bool[Tensor, "b k"]
) -> Bool[Tensor, "b k n"]:
    """Classes over which the posterior of a cell is spread.

    The candidates that the mixture knows; where it knows none of them, all candidates.

    Args:
        candidates: classes that the labels allow at each cell, at least one.
        known: classes that have a centre.

    Returns:
        At least one class per cell.

    Example:
        >>> candidates, known = torch.tensor([[[True], [True]]]), torch.tensor([[True, False]])
        >>> allowed_classes(candidates, known).tolist()
        [[[True], [False]]]
    """
    fitting = candidates & known.unsqueeze(2)
    return torch.where(fitting.any(1, keepdim=True), fitting, candidates)


def log_posterior(
    likelihood: Float[Tensor, "b k n"],
    allowed: Bool[Tensor, "b k n"],
    log_prior: Float[Tensor, "#b k #n"] | None = None,
) -> Float[Tensor, "b k n"]:
    """Log-posterior `log γ_kn = log π_kn N_kn − log Σ_j π_jn N_jn` over the allowed classes j.

    Args:
        likelihood: log-likelihood, finite.
        allowed: classes over which it is spread, at least one per cell.
        log_prior: logarithm of the classes' prior; uniform if not given.

    Returns:
        Log-posterior; −∞ (probability exactly 0) for every other class.

    Example:
        >>> allowed = torch.tensor([[[True], [True], [False]]])
        >>> log_posterior(torch.zeros(1, 3, 1), allowed).exp().flatten().tolist()
        [0.5, 0.5, 0.0]
    """
    joint = likelihood if log_prior is None else likelihood + log_prior
    return joint.masked_fill(~allowed, -torch.inf).log_softmax(1)
