"""Which classes an image shows at all: learned where labels rule classes out, used where none do.

Ours. With tags, or complete labels, the candidates say which classes an image shows, and the E step
spreads its posterior over them alone. An image to predict has nothing of the kind. So whole images
get a model of their own: in the space of their pooled features, those that show a class and those
that do not are two Gaussians with one covariance for all (linear discriminants, Fisher 1936). Half
of the images must tell the classes of the other half better than their frequencies do; else the
model says nothing.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from agmm.errors import InputError
from agmm.mixture import inputs
from agmm.mixture.online_em import sum_over_ranks

SHRINKAGE = 0.1
"""Share of its diagonal in the covariance, which is that of some hundred images."""


class ImageSums(NamedTuple):
    """Sums over some images.

    Attributes:
        number: number of the images, one value.
        total: `Σ x` of their vectors, `2d`.
        products: `Σ x xᵀ`, `2d 2d`.
        shows: number of those that show each class, `k`.
        shown_total: `Σ x` over those, `k 2d`.
    """

    number: Tensor
    total: Tensor
    products: Tensor
    shows: Tensor
    shown_total: Tensor


def image_vectors(
    features: Float[Tensor, "b d n"], valid: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, "b d2"]:
    """Mean and maximum of every channel over the cells of the picture.

    Args:
        features: features of the cells.
        valid: cells of the picture (False = padding), None = all.

    Returns:
        Vectors, `b 2d`; 0 for an image without a cell of the picture.

    Example:
        >>> image_vectors(torch.tensor([[[1.0, 3.0]]])).tolist()
        [[2.0, 3.0]]
    """
    if valid is None or (inputs.readable(valid) and bool(valid.all())):
        return torch.cat([features.mean(2), features.amax(2)], 1)
    cells, number = valid.unsqueeze(1), valid.sum(1, keepdim=True)
    means = features.masked_fill(~cells, 0).sum(2) / number.clamp(min=1)
    largest = features.masked_fill(~cells, -torch.inf).amax(2)
    return torch.cat([means, torch.where(number > 0, largest, 0)], 1)


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
        >>> vectors = torch.tensor([[4.0, 4.5], [1.0, 1.5], [3.8, 4.4], [1.1, 1.6]])
        >>> model.fit(vectors, torch.tensor([[True, False], [False, True]] * 2))
        >>> (model.scores(torch.full((1, 1, 1), 4.0)) > 0).tolist()  # like the first
        [[True, False]]
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
                all processes count. Like neighbours, such as the frames of a film, in a row.
            shown: classes that each image shows.

        Raises:
            InputError: if a shape or type does not fit.
        """
        classes, width = self.axes.shape
        if vectors.shape[1:] != (width,) or not vectors.is_floating_point():
            raise InputError(
                f"vectors: expected a float type and shape (images, {width}), got {vectors.dtype} "
                f"of shape {tuple(vectors.shape)}; pass those of image_vectors"
            )
        if shown.shape != (len(vectors), classes) or shown.dtype != torch.bool:
            raise InputError(
                f"shown: expected torch.bool of shape {(len(vectors), classes)}, got "
                f"{shown.dtype} of shape {tuple(shown.shape)}; pass a row for each vector and a "
                "column for each class"
            )
        wide = vectors.dtype if vectors.device.type == "mps" else torch.float64
        vectors, named = vectors.detach().to(wide), shown.to(wide)
        middle = (len(vectors) + 1) // 2
        parts = [(vectors[:middle], named[:middle]), (vectors[middle:], named[middle:])]
        halves = [_sums(*part) for part in parts]
        losses = torch.stack(
            [_held_out(*parts[0], halves[1]), _held_out(*parts[1], halves[0])]
        ).sum(0)
        (losses,) = sum_over_ranks(losses)
        everything = ImageSums(*(one + other for one, other in zip(*halves, strict=True)))
        helps = losses[0] < losses[1]
        for buffer, value in zip(
            (self.axes, self.offsets), _discriminants(everything), strict=True
        ):
            buffer.copy_(torch.where(helps, value, 0))

    @torch.no_grad()
    def scores(
        self, features: Float[Tensor, "b d n"], valid: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b k"]:
        """Log-odds of every class being in the image.

        Args:
            features: features of the cells.
            valid: cells of the picture (False = padding), None = all.

        Returns:
            Log-odds; 0 for a class of which nothing is known.
        """
        vectors = image_vectors(features, valid).to(self.axes.dtype)
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


def _sums(vectors: Tensor, named: Tensor) -> ImageSums:
    """Sums over the images of all processes."""
    number = vectors.new_full((), len(vectors))
    return ImageSums(
        *sum_over_ranks(
            number, vectors.sum(0), vectors.mT @ vectors, named.sum(0), named.mT @ vectors
        )
    )


def _known(sums: ImageSums) -> Tensor:
    """Classes that some of the images show, and some do not."""
    return (sums.shows > 0) & (sums.shows < sums.number)


def _log_odds(sums: ImageSums) -> Tensor:
    """How often each class is shown, as log-odds; 0 for a class that is not known."""
    share = torch.where(_known(sums), sums.shows / sums.number.clamp(min=1), 0.5)
    return share.log() - (1 - share).log()


def _discriminants(sums: ImageSums) -> tuple[Tensor, Tensor]:
    """Axes and offsets; 0 for a class that is not known."""
    known, number = _known(sums), sums.number.clamp(min=1)
    share = torch.where(known, sums.shows / number, 0.5)
    mean = sums.total / number
    covariance = sums.products / number - mean.outer(mean)
    scale = covariance.diagonal()
    # A channel that is constant but for rounding, such as one that never fires, tells nothing.
    rounding = 1e3 * torch.finfo(scale.dtype).eps * sums.products.diagonal() / number
    constant = (scale <= rounding).to(scale)
    spread = torch.lerp(covariance, scale.diag(), SHRINKAGE) + constant.diag()
    # From images without the class to those with it; without the check for singular matrices,
    # which would wait for an accelerator.
    inside = sums.shown_total / sums.shows.clamp(min=1).unsqueeze(1)
    gap = (inside - mean) / (1 - share).unsqueeze(1)
    axes = torch.linalg.solve_ex(spread, gap.mT)[0].mT
    middle = mean + (0.5 - share).unsqueeze(1) * gap
    offsets = _log_odds(sums) - (middle * axes).sum(1)
    return torch.where(known.unsqueeze(1), axes, 0), torch.where(known, offsets, 0)


def _held_out(vectors: Tensor, named: Tensor, others: ImageSums) -> Tensor:
    """What discriminants, and frequencies, of other images cost on these, `2`, in nats."""
    axes, offsets = _discriminants(others)
    known = _known(others)
    guesses = (vectors @ axes.mT + offsets, _log_odds(others).expand_as(named))
    costs = (
        functional.binary_cross_entropy_with_logits(guess, named, reduction="none")
        for guess in guesses
    )
    return torch.stack([torch.where(known, cost, 0).sum() for cost in costs])
