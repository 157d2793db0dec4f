"""The losses of the mixture, one pure function each.

Every loss is a mean over the cells (or pixels) that it applies to, and 0 with a gradient path where
there are none. Cells that do not count get exactly zero gradient.

Published in 2023: `partial_cross_entropy`, `absent_class`, and the form of `separation`. Our
reading of the 2025 paper, whose equations could not be read: `mixture_likelihood`, `mutual`,
`maximisation`.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from agmm.mixture.gaussian import squared_distances
from agmm.mixture.softmax import softmax_terms
from agmm.shapes import IGNORE_INDEX

Confidence = Literal["largest", "agreement", "none"]
"""What an unlabelled cell counts by."""


def masked_mean(
    values: Float[Tensor, "*cells"], cells: Bool[Tensor, "*cells"], count: Tensor | None = None
) -> Float[Tensor, ""]:
    """Mean of the values over some cells; 0 with a gradient path if there are none.

    Args:
        values: one value per cell.
        cells: the cells that count.
        count: what to divide by, if not the number of cells.

    Returns:
        The mean.

    Example:
        >>> masked_mean(torch.tensor([1.0, 5.0]), torch.tensor([True, False])).item()
        1.0
    """
    total = cells.sum() if count is None else count
    return values.masked_fill(~cells, 0).sum() / total.clamp(min=1)


def warmup_factor(step: Int64[Tensor, ""], warmup_steps: int) -> Tensor:
    """Factor of a term that rises from 0 over the first steps, and is 1 then.

    Args:
        step: Steps taken so far.
        warmup_steps: Steps until it is 1; 0 is no warm-up.

    Returns:
        The factor, 0 to 1.

    Example:
        >>> warmup_factor(torch.tensor(3), 4).item(), warmup_factor(torch.tensor(9), 4).item()
        (0.75, 1.0)
    """
    if warmup_steps == 0:
        return torch.ones_like(step)
    return (step / warmup_steps).clamp(max=1)


def soft_cross_entropy(
    targets: Float[Tensor, "b k n"], log_probs: Float[Tensor, "b k n"]
) -> Float[Tensor, "b n"]:
    """Cross-entropy `−Σ_k t_k log q_k` of every cell, where a class with `t_k = 0` does not count.

    Args:
        targets: target probabilities, without gradient.
        log_probs: log-probabilities; −∞ is allowed where the target is 0.

    Returns:
        Cross-entropy of every cell, in nats.

    Example:
        >>> targets, log_probs = torch.tensor([[[1.0], [0]]]), torch.tensor([[[0.0], [-torch.inf]]])
        >>> soft_cross_entropy(targets, log_probs).abs().item()
        0.0
    """
    return -(targets * log_probs.masked_fill(targets == 0, 0)).sum(1)


def confidence(
    gamma: Float[Tensor, "b k n"],
    log_probs: Float[Tensor, "b k n"],
    labelled: Bool[Tensor, "b n"],
    kind: Confidence,
) -> Float[Tensor, "b n"]:
    """How much each cell counts: a labelled one 1, the others as the kind says. No gradient.

    Args:
        gamma: responsibilities.
        log_probs: log-softmax of the network.
        labelled: cells with a label.
        kind: the `largest` responsibility; the `agreement` with the network, `Σ_k r_k p_k`; or
            `none`, 1.

    Returns:
        Confidence, 0 to 1.

    Example:
        >>> gamma, unlabelled = torch.tensor([[[0.75], [0.25]]]), torch.tensor([[False]])
        >>> confidence(gamma, torch.tensor([[[0.5], [0.5]]]).log(), unlabelled, "agreement").item()
        0.5
    """
    if kind == "none":
        return torch.ones_like(gamma[:, 0])
    sure = (gamma * log_probs.detach().exp()).sum(1) if kind == "agreement" else gamma.amax(1)
    return torch.where(labelled, 1, sure)


def partial_cross_entropy(
    logits: Float[Tensor, "b k H W"],
    seeds: Int64[Tensor, "b H W"],
    valid: Bool[Tensor, "b H W"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of the logits on the labelled pixels.

    Args:
        logits: logits of the network.
        seeds: class of each pixel, 255 = unlabelled.
        valid: pixels that count, None = all.

    Returns:
        Mean over the labelled, valid pixels, in nats.

    Example:
        >>> seeds = torch.tensor([[[0, 255]]])
        >>> round(partial_cross_entropy(torch.zeros(1, 2, 1, 2), seeds).item(), 4)
        0.6931
    """
    if valid is not None:
        seeds = seeds.masked_fill(~valid, IGNORE_INDEX)
    # Summed here and not by `reduction`, whose kernel on CUDA is not deterministic.
    pixels = functional.cross_entropy(logits, seeds, ignore_index=IGNORE_INDEX, reduction="none")
    return pixels.sum() / (seeds != IGNORE_INDEX).sum().clamp(min=1)


def mixture_likelihood(
    log_gamma: Float[Tensor, "b k n"],
    shares: Float[Tensor, "b k n"],
    labelled: Bool[Tensor, "b n"],
) -> Float[Tensor, ""]:
    """The mixture must explain the labels: cross-entropy of its posterior against the seeds.

    Our reading.

    Args:
        log_gamma: log-posterior of the mixture.
        shares: share of each class among the labelled pixels of the cell.
        labelled: cells with a label.

    Returns:
        Mean over the labelled cells, in nats.

    Example:
        >>> half = torch.full((1, 2, 1), 0.5)
        >>> shares = torch.tensor([[[1.0], [0.0]]])
        >>> round(mixture_likelihood(half.log(), shares, torch.tensor([[True]])).item(), 4)
        0.6931
    """
    return masked_mean(soft_cross_entropy(shares, log_gamma), labelled)


def mutual(
    log_probs: Float[Tensor, "b k n"],
    responsibilities: Float[Tensor, "b k n"],
    cells: Bool[Tensor, "b n"],
    confidence: Float[Tensor, "b n"],
    count: Int64[Tensor, ""],
) -> Float[Tensor, ""]:
    """The mixture teaches the network: `CE(p, sg(γ))`, the first half of the mutual teaching.

    Our reading. What each cell weighs does not depend on how many others have labels: where labels
    cover most of the picture, the few open cells are the doubtful ones and say little.

    Args:
        log_probs: log-softmax of the logits.
        responsibilities: γ of the E step, without gradient.
        cells: unlabelled, valid cells.
        confidence: how much each cell counts, at least 0.
        count: number of all valid cells.

    Returns:
        Confidence-weighted sum over the cells, divided by the number of all, in nats.

    Example:
        >>> half, one = torch.full((1, 2, 1), 0.5), torch.ones(1, 1)
        >>> round(mutual(half.log(), half, one > 0, one, torch.tensor(2)).item(), 4)
        0.3466
    """
    values = confidence * soft_cross_entropy(responsibilities, log_probs)
    return masked_mean(values, cells, count)


def mutual_features(
    log_gamma: Float[Tensor, "b k n"],
    target_scores: Float[Tensor, "b k n"],
    cells: Bool[Tensor, "b n"],
    confidence: Float[Tensor, "b n"],
    count: Int64[Tensor, ""],
) -> Float[Tensor, ""]:
    """The network teaches the mixture: `CE(γ, sg(p))`, the second half, which moves the features.

    Our reading. `p` is restricted to the classes of the posterior and renormalised.

    Args:
        log_gamma: log-posterior of the mixture, −∞ outside the classes it is spread over.
        target_scores: logits of whoever teaches the mixture, without gradient.
        cells: unlabelled, valid cells.
        confidence: how much each cell counts, at least 0.
        count: number of all valid cells.

    Returns:
        Confidence-weighted sum over the cells, divided by the number of all, in nats.

    Example:
        >>> half, one = torch.full((1, 2, 1), 0.5), torch.ones(1, 1)
        >>> round(mutual_features(half.log(), half.log(), one > 0, one, torch.tensor(2)).item(), 4)
        0.3466
    """
    with torch.no_grad():
        probs = target_scores.masked_fill(log_gamma.isneginf(), -torch.inf).softmax(1)
    return mutual(log_gamma, probs, cells, confidence, count)


def maximisation(
    likelihood: Float[Tensor, "b k n"],
    responsibilities: Float[Tensor, "b k n"],
    cells: Bool[Tensor, "b n"],
    confidence: Float[Tensor, "b n"],
) -> Float[Tensor, ""]:
    """Pull every cell to its own component: `−E_γ[log N]` with detached γ.

    Our reading of the 2025 paper's maximisation loss, first half; `separation` is the second. It
    may be negative, since a density may exceed 1.

    Args:
        likelihood: log-likelihood, finite.
        responsibilities: γ of the E step, without gradient.
        cells: the cells that count.
        confidence: how much each cell counts, 0 to 1.

    Returns:
        Confidence-weighted sum over the cells, divided by their number, in nats.

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> maximisation(-2 * one, one, torch.tensor([[True]]), one[0]).item()
        2.0
    """
    return masked_mean(-confidence * (responsibilities * likelihood).sum(1), cells)


def separation(means: Float[Tensor, "b k d"], present: Bool[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Push the components apart: mean over pairs of present classes of `exp(−d²(μ_i, μ_j))`.

    The form is published (2023, there with the mean absolute difference); the mean squared
    difference is our reading.

    Args:
        means: centres of each image.
        present: classes of which the image has seeds.

    Returns:
        Mean over all pairs of all images, 0 to 1.

    Example:
        >>> separation(torch.zeros(1, 2, 4), torch.tensor([[True, True]])).item()
        1.0
    """
    pairs = (present.unsqueeze(1) & present.unsqueeze(2)).triu(1)
    distances = squared_distances(means.mT, means)  # b k k
    return masked_mean((-distances).exp(), pairs)


def absent_class(
    logits: Float[Tensor, "b k *cells"],
    candidates: Bool[Tensor, "b k *#cells"],
    valid: Bool[Tensor, " b *cells"],
) -> Float[Tensor, ""]:
    """A class that the labels rule out must not be predicted: `−Σ_k (1−c_k) log(1−p_k)`.

    Published (Wu et al., CVPR 2023). Computed so that neither value nor gradient overflows for a
    confident network.

    Args:
        logits: logits of the network, at pixels or cells, at least two classes.
        candidates: classes that the labels allow there, at least one.
        valid: pixels or cells that count.

    Returns:
        Mean over the valid pixels or cells, in nats.

    Example:
        >>> candidates = torch.tensor([[[True], [False]]])
        >>> round(absent_class(torch.zeros(1, 2, 1), candidates, torch.tensor([[True]])).item(), 4)
        0.6931
    """
    cells = logits.flatten(2)
    # One choice for the whole image stays one.
    whole = candidates[0, 0].numel() == 1
    allowed = candidates if whole else candidates.expand_as(logits)
    nothing = torch.empty(len(logits), 0, dtype=torch.int64, device=logits.device)
    values = softmax_terms(cells, allowed.flatten(2), nothing)[1]
    return masked_mean(values, valid.flatten(1))


def log_one_minus_softmax(logits: Float[Tensor, "b k *cells"]) -> Float[Tensor, "b k *cells"]:
    """`log(1 − softmax(logits))` over axis 1, exact also where a probability is close to 1.

    At most one probability exceeds ½; for it the others are summed up.

    Args:
        logits: finite logits of at least two classes.

    Returns:
        Log-probability that it is any other class.

    Example:
        >>> log_one_minus_softmax(torch.tensor([[[50.0], [0.0]]])).round().flatten().tolist()
        [-50.0, -0.0]
    """
    log_probs = logits.log_softmax(1)
    probs = log_probs.exp()
    top = probs > 0.5
    others = log_probs.masked_fill(top, -torch.inf).logsumexp(1, keepdim=True)
    return torch.where(top, others, (-probs.masked_fill(top, 0)).log1p())
