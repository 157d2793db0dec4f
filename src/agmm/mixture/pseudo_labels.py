"""Pseudo labels: the posterior of the mixture and the network's probabilities, put together."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agmm.errors import InputError
from agmm.mixture.inputs import check_candidates
from agmm.mixture.pooling import enlarge
from agmm.shapes import IGNORE_INDEX


class PseudoLabels(NamedTuple):
    """Pseudo labels of a batch.

    Attributes:
        masks: class of each pixel, `b H W`, int64; 255 = not confident enough.
        confidence: of the best class among the candidates, `b H W`, 0 to 1.
    """

    masks: Tensor
    confidence: Tensor


def joint_probabilities(
    probs: Float[Tensor, "b k H W"], posterior: Float[Tensor, "b k h w"]
) -> Float[Tensor, "b k H W"]:
    """Probabilities `p·γ / Σ p·γ`.

    Args:
        probs: softmax of the network.
        posterior: posterior of the mixture (`ObjectiveOutput.posterior`), at the size of `probs` or
            on the grid of the features; it is enlarged.

    Returns:
        Probabilities of the classes; `p` itself where no class has any.

    Raises:
        InputError: if a shape does not fit.

    Example:
        >>> probs, posterior = torch.full((1, 2, 1, 1), 0.5), torch.tensor([[[[0.25]], [[0.75]]]])
        >>> joint_probabilities(probs, posterior).flatten().tolist()
        [0.25, 0.75]
    """
    _check_maps("posterior", posterior, probs)
    scores = _product(probs, posterior)
    total = scores.sum(1, keepdim=True)
    return torch.where(total > 0, scores / total.clamp(min=torch.finfo(scores.dtype).tiny), probs)


@torch.no_grad()
def pseudo_labels(
    probs: Float[Tensor, "b k H W"],
    posterior: Float[Tensor, "b k h w"],
    candidates: Bool[Tensor, "b k"] | Bool[Tensor, "b k H W"] | None = None,
    *,
    support: Float[Tensor, "b k rows columns"] | None = None,
    threshold: float = 0.0,
) -> PseudoLabels:
    """Class = argmax over the candidates of `p·γ`; confidence = its share `p·γ / Σ p·γ`.

    With `support`, the confidence is that of the class times `allowed_mass`, which is better
    calibrated.

    Our reading of "the mixture gives better pseudo labels" (2025).

    Args:
        probs: softmax of the network, at the size that the labels shall have.
        posterior: posterior of the mixture (`ObjectiveOutput.posterior`), at the size of `probs` or
            on the grid of the features; it is enlarged.
        candidates: classes that the labels allow in the image or at each pixel, None = all.
        support: what the neighbours say of the classes (`ObjectiveOutput.support`), enlarged alike.
        threshold: pixels with less confidence become 255; 0 to 1.

    Returns:
        Masks and confidence. A pixel where no candidate has any probability, or one is NaN, is 255,
        confidence 0.

    Raises:
        InputError: if a shape or type, or the threshold, does not fit.

    Example:
        >>> probs, posterior = torch.full((1, 2, 1, 1), 0.5), torch.tensor([[[[0.2]], [[0.8]]]])
        >>> labels = pseudo_labels(probs, posterior)
        >>> labels.masks.item(), round(labels.confidence.item(), 4)
        (1, 0.8)
    """
    _check_maps("posterior", posterior, probs)
    if support is not None:
        _check_maps("support", support, probs)
    check_candidates(candidates, probs)
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold: expected 0 to 1, got {threshold}; try 0.8")
    scores = _product(probs, posterior)
    if candidates is not None:
        scores = scores.masked_fill(~_planes(candidates), 0)
    best, masks = scores.max(1)
    confidence = best / scores.sum(1).clamp(min=torch.finfo(scores.dtype).tiny)
    if support is not None:
        opinion = enlarge(support, (probs.shape[2], probs.shape[3]))
        confidence = opinion.gather(1, masks.unsqueeze(1)).squeeze(1)
        if candidates is not None:
            confidence = confidence * allowed_mass(probs, candidates)
    nothing = ~(best > 0)  # as where a probability is NaN
    confidence = confidence.masked_fill(nothing, 0)
    unsure = (confidence < threshold) | nothing
    return PseudoLabels(masks.masked_fill(unsure, IGNORE_INDEX), confidence)


def allowed_mass(
    probs: Float[Tensor, "b k H W"], candidates: Bool[Tensor, "b k"] | Bool[Tensor, "b k H W"]
) -> Float[Tensor, "b 1 1"]:
    """How much of its probability the network gives to classes that the labels allow.

    Ours. What it gives to the others is wrong for certain, and tells how far it is to be believed
    in this image; that the labels rule them out makes it no surer of the rest.

    Args:
        probs: softmax of the network.
        candidates: classes that the labels allow in the image or at each pixel.

    Returns:
        Mean over the pixels of each image, 0 to 1.

    Example:
        >>> probs = torch.tensor([[[[0.5]], [[0.25]], [[0.25]]]])
        >>> allowed_mass(probs, torch.tensor([[True, True, False]])).item()
        0.75
    """
    return (probs * _planes(candidates)).sum(1).mean((1, 2), keepdim=True).clamp(max=1)


def _check_maps(name: str, maps: Tensor, probs: Tensor) -> None:
    """Refuse maps that are not of the images and classes of the probabilities."""
    if probs.ndim != 4:
        raise InputError(
            f"probs: expected shape (batch, classes, rows, columns), got {tuple(probs.shape)}; "
            "pass the softmax of the logits"
        )
    if maps.ndim != 4 or maps.shape[:2] != probs.shape[:2]:
        raise InputError(
            f"{name}: expected the images and classes of probs {tuple(probs.shape[:2])}, each a "
            f"map, got shape {tuple(maps.shape)}; pass both of the same batch and model"
        )


def _planes(candidates: Tensor) -> Tensor:
    """Candidates as `b k 1 1` where they are those of the image, else `b k H W`."""
    return candidates[:, :, None, None] if candidates.ndim == 2 else candidates


def _product(probs: Tensor, posterior: Tensor) -> Tensor:
    """`p·γ` at the size of `p`, in 32 bits or more."""
    posterior = enlarge(posterior, (probs.shape[2], probs.shape[3]))
    return probs.to(torch.promote_types(probs.dtype, torch.float32)) * posterior
