"""AGMM2023Loss: the adaptive Gaussian mixture as published in 2023, for comparison.

Wu et al., *Sparsely Annotated Semantic Segmentation with Adaptive Gaussian Mixtures*, CVPR 2023,
and the code released with it. What differs here: the mixture is computed on the feature grid and
not after enlarging the features to the logits' size; a cell with several labelled pixels has their
class shares as its label; and between images the centres of a class are averaged (as the released
code names it; it sums them).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agmm.mixture.gaussian import allowed_classes, weighted_means
from agmm.mixture.grid import Grid, reduce_to_grid
from agmm.mixture.inputs import Batch, ObjectiveOutput, check_inputs, check_sizes
from agmm.mixture.losses import (
    absent_class,
    log_one_minus_softmax,
    masked_mean,
    partial_cross_entropy,
)

EPSILON = 1e-6
"""Added inside the logarithm of 1 − G, which is 0 at a centre (as in the released code)."""


def absolute_distances(
    features: Float[Tensor, "b d n"], means: Float[Tensor, "b k d"]
) -> Float[Tensor, "b k n"]:
    """Mean absolute difference `d_kn = mean over channels of |f_n − μ_k|` (published 2023).

    Args:
        features: features of the cells.
        means: centres of the classes.

    Returns:
        Distances, at least 0.

    Example:
        >>> absolute_distances(torch.tensor([[[3.0], [0.0]]]), torch.tensor([[[0.0, 4.0]]])).item()
        3.5
    """
    return torch.cdist(means, features.mT.contiguous(), p=1.0) / features.shape[1]


class AGMM2023Loss(nn.Module):
    """The published loss of 2023: first five arguments and output of `AGMMLoss`, no state.

    Total = cross-entropy on the seeds + ½·BCE(p, G) over all valid cells + ½·BCE(G, y) over the
    labelled cells (both averaged over the classes present in the image) + mean over pairs of
    present classes of `exp(−(mean|μ_i − μ_j|)²)` + the absent-class term. All weights are 1 and no
    gradient is stopped. `G_kn = exp(−d²_kn)`, zero for classes of which the image has no seed.

    Args:
        num_classes: number of classes, 2 to 255, the background included.
        feature_channels: number of feature channels.
        variance: divide `d²` by `2σ²_k`, `σ²_k = Σ p d² / Σ p` without gradient, as in the paper;
            the released code leaves it out.

    Example:
        >>> objective = AGMM2023Loss(num_classes=3, feature_channels=4)
        >>> seeds = torch.full((1, 8, 8), 255)
        >>> out = objective(torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 2, 2), seeds)
        >>> out.loss.item()
        0.0
    """

    def __init__(self, num_classes: int, feature_channels: int, *, variance: bool = False) -> None:
        super().__init__()
        check_sizes(num_classes, feature_channels)
        self.num_classes = num_classes
        self.feature_channels = feature_channels
        self.variance = variance

    def forward(
        self,
        logits: Tensor,
        features: Tensor,
        seeds: Tensor,
        candidates: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> ObjectiveOutput:
        """Compute the loss of a batch.

        Args:
            logits: logits of the network, `b k H W`, any float type.
            features: features of the network, `b d h w`, any float type and stride.
            seeds: class of each pixel, `b H W`, int64; 255 = unlabelled.
            candidates: classes that the labels allow, bool, in the image (`b k`) or at each pixel
                (`b k H W`); None = all.
            valid: pixels of the picture, `b H W`, bool (False = padding); None = all.

        Returns:
            Loss, terms, and as posterior `G` normalised over the candidates (uniform over them
            where no candidate has seeds in the image).

        Raises:
            InputError: if a shape or type does not fit or, on the CPU, a value.
        """
        batch = Batch(logits, features, seeds, candidates, valid)
        check_inputs(*batch, self.num_classes, self.feature_channels)
        with torch.autocast(logits.device.type, enabled=False):
            grid = reduce_to_grid(*batch)
            means, mass = weighted_means(grid.shares, grid.features)
            present = mass > 0
            log_mixture = self._log_mixture(grid, means)  # log G, b k n
            terms = {
                "partial_cross_entropy": partial_cross_entropy(
                    logits.to(grid.logits.dtype), seeds, valid
                ),
                "network": _network_term(grid, log_mixture, present),
                "mixture": _mixture_term(grid, log_mixture, present),
                "separation": batch_separation(means, present),
                "absent_class": absent_class(grid.logits, grid.candidates, grid.valid),
            }
            loss = torch.stack(list(terms.values())).sum()
            scores = log_mixture.detach().masked_fill(~present.unsqueeze(2), 0)
            allowed = allowed_classes(grid.candidates, present)
            posterior = scores.masked_fill(~allowed, -torch.inf).softmax(1)
        return ObjectiveOutput(
            loss=loss,
            terms={name: term.detach() for name, term in terms.items()},
            posterior=posterior.reshape(len(features), -1, *features.shape[2:]),
        )

    def _log_mixture(self, grid: Grid, means: Tensor) -> Tensor:
        squared = absolute_distances(grid.features, means).square()
        if not self.variance:
            return -squared
        with torch.no_grad():
            probs = grid.logits.softmax(1) * grid.valid.unsqueeze(1)
            variances = (probs * squared).sum(2) / (probs.sum(2) + EPSILON)
        return -squared / (2 * variances.unsqueeze(2) + EPSILON)


def _class_mean(values: Tensor, present: Tensor, cells: Tensor) -> Tensor:
    """Mean over the present classes of each image, then over the cells."""
    values = values.masked_fill(~present.unsqueeze(2), 0).sum(1)
    return masked_mean(values / present.sum(1, keepdim=True).clamp(min=1), cells)


def _network_term(grid: Grid, log_mixture: Tensor, present: Tensor) -> Tensor:
    """½·BCE(p, G): the network follows the mixture, on all valid cells."""
    target = log_mixture.exp().masked_fill(~present.unsqueeze(2), 0)
    log_probs = grid.logits.log_softmax(1)
    entropy = -target * log_probs - (1 - target) * log_one_minus_softmax(grid.logits)
    return 0.5 * _class_mean(entropy, present, grid.valid)


def _mixture_term(grid: Grid, log_mixture: Tensor, present: Tensor) -> Tensor:
    """½·BCE(G, y): the mixture follows the labels, on labelled cells."""
    log_rest = (1 - log_mixture.exp() + EPSILON).log()
    entropy = -grid.shares * log_mixture - (1 - grid.shares) * log_rest
    return 0.5 * _class_mean(entropy, present, grid.labelled)


def batch_separation(
    means: Float[Tensor, "b k d"], present: Bool[Tensor, "b k"]
) -> Float[Tensor, ""]:
    """Mean over pairs of the batch's classes of `exp(−(mean|μ_i − μ_j|)²)` (published 2023).

    Args:
        means: centres of each image.
        present: classes of which the image has seeds.

    Returns:
        Mean over the pairs, 0 to 1; 0 if there is none.

    Example:
        >>> batch_separation(torch.zeros(1, 2, 4), torch.tensor([[True, True]])).item()
        1.0
    """
    images = present.sum(0).clamp(min=1).unsqueeze(1)
    centres = means.masked_fill(~present.unsqueeze(2), 0).sum(0, keepdim=True) / images
    distances = absolute_distances(centres.mT, centres).squeeze(0)  # k k
    seen = present.any(0)
    pairs = (seen.unsqueeze(0) & seen.unsqueeze(1)).triu(1)
    return masked_mean((-distances.square()).exp(), pairs)
