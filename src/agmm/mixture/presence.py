"""Which classes an image shows at all: learned where labels rule classes out, used where none do.

Ours. With tags, or complete labels, the candidates say which classes an image shows, and the E step
spreads its posterior over them alone. An image to predict has nothing of the kind. So whole images
get a model of their own: in the space of their pooled features, those that show a class and those
that do not are two Gaussians with one covariance for all (linear discriminants, Fisher 1936).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agmm.mixture.online_em import sum_over_ranks

SHRINKAGE = 0.3
"""Share of its diagonal in the covariance, which is that of a few hundred images."""


def image_vectors(features: Float[Tensor, "b d n"]) -> Float[Tensor, "b d2"]:
    """Mean and maximum of every channel over the cells.

    Args:
        features: features of the cells, all inside the picture.

    Returns:
        Vectors, `b 2d`.

    Example:
        >>> image_vectors(torch.tensor([[[1.0, 3.0]]])).tolist()
        [[2.0, 3.0]]
    """
    return torch.cat([features.mean(2), features.amax(2)], 1)


class PresenceModel(nn.Module):
    """Linear discriminants of the classes in whole images. They say nothing before `fit`.

    Args:
        num_classes: number of classes.
        feature_channels: number of feature channels.

    Attributes:
        axes: direction of each class in the space of the vectors, `k 2d`.
        offsets: log-odds of each class at the origin, `k`.

    Example:
        >>> model = PresenceModel(2, 1)
        >>> vectors = torch.tensor([[4.0, 1.0], [2.0, 1.0]])
        >>> model.fit(vectors, torch.tensor([[True, False], [False, True]]))
        >>> model.scores(torch.full((1, 1, 1), 3.0)).tolist()  # half-way between the two
        [[0.0, 0.0]]
    """

    axes: Tensor
    offsets: Tensor

    def __init__(self, num_classes: int, feature_channels: int) -> None:
        super().__init__()
        self.register_buffer("axes", torch.zeros(num_classes, 2 * feature_channels))
        self.register_buffer("offsets", torch.zeros(num_classes))

    @torch.no_grad()
    def fit(self, vectors: Float[Tensor, "b d2"], shown: Bool[Tensor, "b k"]) -> None:
        """Find the discriminants; a class that no image, or every image, shows has none.

        Args:
            vectors: vectors of this process's images, see `image_vectors`; maybe of none. Those of
                all processes count.
            shown: classes that each image shows.
        """
        wide = vectors.dtype if vectors.device.type == "mps" else torch.float64
        exact, named = vectors.detach().to(wide), shown.to(wide)
        number, total, products, shows, shown_sums = sum_over_ranks(
            exact.new_full((), len(exact)),
            exact.sum(0),
            exact.mT @ exact,
            named.sum(0),
            named.mT @ exact,
        )
        number = number.clamp(min=1)
        share = shows / number
        known = (shows > 0) & (shows < number)
        share = torch.where(known, share, 0.5)
        mean = total / number
        covariance = products / number - mean.outer(mean)
        scale = covariance.diagonal()
        # A channel without variance, such as one that never fires, tells nothing apart.
        spread = torch.lerp(covariance, scale.diag(), SHRINKAGE) + (scale <= 0).to(scale).diag()
        # From images without the class to those with it; without the check for singular matrices,
        # which would wait for an accelerator.
        gap = (shown_sums / shows.clamp(min=1).unsqueeze(1) - mean) / (1 - share).unsqueeze(1)
        axes = torch.linalg.solve_ex(spread, gap.mT)[0].mT
        middle = mean + (0.5 - share).unsqueeze(1) * gap
        offsets = share.log() - (1 - share).log() - (middle * axes).sum(1)
        self.axes.copy_(torch.where(known.unsqueeze(1), axes, 0))
        self.offsets.copy_(torch.where(known, offsets, 0))

    @torch.no_grad()
    def scores(self, features: Float[Tensor, "b d n"]) -> Float[Tensor, "b k"]:
        """Log-odds of every class being in the image.

        Args:
            features: features of the cells.

        Returns:
            Log-odds; 0 for a class of which nothing is known.
        """
        vectors = image_vectors(features).to(self.axes.dtype)
        return (vectors @ self.axes.mT + self.offsets).to(features.dtype)


def presence_prior(
    scores: Float[Tensor, "b k"],
    candidates: Bool[Tensor, "b k #n"] | None,
    labelled: Bool[Tensor, "b n"],
) -> Float[Tensor, "b k 1"]:
    """Log-prior of the classes in images of which no label says anything; 0 in the others.

    The log-odds of a class that is more likely absent than there; among those that are more likely
    there, nothing is to choose.

    Args:
        scores: log-odds of the classes in the image.
        candidates: classes that the labels allow at each cell or in the image; None = all.
        labelled: cells with a label.

    Returns:
        Logarithm of the prior, at most 0.

    Example:
        >>> presence_prior(torch.tensor([[-3.0, 9.0]]), None, torch.zeros(1, 4) > 0).tolist()
        [[[-3.0], [0.0]]]
    """
    told = labelled.any(1)
    if candidates is not None:
        told = told | ~candidates.flatten(1).all(1)
    return scores.clamp(max=0).masked_fill(told.unsqueeze(1), 0).unsqueeze(2)
