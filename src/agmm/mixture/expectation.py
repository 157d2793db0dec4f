"""What the E step of a batch knows, and the terms of the objective that follow from it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from agmm.mixture import losses
from agmm.mixture.compact import CompactGrid
from agmm.mixture.components import Components
from agmm.mixture.gaussian import log_posterior
from agmm.mixture.losses import Confidence


class Teacher(NamedTuple):
    """What the E step and the M step follow.

    Attributes:
        scores: logits of the grid's classes, `b k n`; used up to a constant per cell.
        features: features, `b d n`.
    """

    scores: Tensor
    features: Tensor


class Expectation(NamedTuple):
    """The E step of a batch, for the j classes of each image.

    Attributes:
        teacher: whom it follows: the network itself, if there is no other.
        ours: the mixture of the network's features.
        theirs: the mixture of the teacher's features.
        alone: log-posterior of each cell alone, before it looks at its neighbours, `b j n`.
        affinities: weights of the neighbours, `b o h w`; None where cells stand alone.
        posterior: that of mixture and neighbours, without the network's `p`, `b j n`.
        gamma: responsibilities, `b j n`.
        cells: the cells that the mixture knows something of, `b n`.
    """

    teacher: Teacher
    ours: Components
    theirs: Components
    alone: Tensor
    affinities: Tensor | None
    posterior: Tensor
    gamma: Tensor
    cells: Tensor


def objective_terms(
    grid: CompactGrid,
    known: Expectation,
    log_probs: Float[Tensor, "b j n"],
    absent: Float[Tensor, "b n"],
    weights: Mapping[str, float],
    kind: Confidence,
    label_worth: float,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All terms, unweighted, by the names of their weights.

    Args:
        grid: the batch.
        known: its E step.
        log_probs: log-softmax of the network, see `softmax_terms`.
        absent: what the network gives to classes that are ruled out, see `softmax_terms`.
        weights: weights of the terms; one that weighs nothing is not computed, and 0.
        kind: what an unlabelled cell counts by.
        label_worth: how many cells a labelled one is worth in the mutual terms.

    Returns:
        The terms, and of how many pixels, cells or pairs each is the mean.
    """
    ours, gamma = known.ours, known.gamma
    confidence = losses.confidence(gamma, log_probs, grid.labelled, kind)
    unlabelled, number = known.cells & ~grid.labelled, known.cells.sum()
    # Each image by itself: one with many labels has little to learn besides.
    cells = known.cells.sum(1, keepdim=True).to(confidence.dtype)
    labels = label_worth * (known.cells & grid.labelled).sum(1, keepdim=True)
    need = cells / torch.maximum(cells, labels.to(cells.dtype)).clamp(min=1)
    taught = confidence * need.square()
    present = ours.present.sum(1)
    nothing = confidence.new_zeros(())
    log_gamma = nothing
    if weights["mixture_likelihood"] or weights["mutual_features"]:
        log_gamma = log_posterior(ours.evidence, ours.allowed)

    makers: dict[str, Callable[[], Tensor]] = {
        "mixture_likelihood": lambda: losses.mixture_likelihood(
            log_gamma, grid.shares, grid.labelled
        ),
        "mutual": lambda: losses.mutual(log_probs, gamma, unlabelled, taught, number),
        "mutual_features": lambda: losses.mutual_features(
            log_gamma, known.teacher.scores, unlabelled, taught, number
        ),
        "maximisation": lambda: losses.maximisation(
            ours.likelihood, gamma, known.cells, confidence
        ),
        "separation": lambda: losses.separation(ours.image_means, ours.present),
        "absent_class": lambda: losses.masked_mean(absent, grid.valid),
    }
    terms = {name: make() if weights[name] else nothing for name, make in makers.items()}
    terms["partial_cross_entropy"] = grid.cross_entropy
    counts = {
        "partial_cross_entropy": grid.labelled_pixels,
        "mixture_likelihood": grid.labelled.sum(),
        "mutual": number,
        "mutual_features": number,
        "maximisation": number,
        "separation": (present * (present - 1) // 2).sum(),
        "absent_class": grid.valid.sum(),
    }
    return terms, counts
