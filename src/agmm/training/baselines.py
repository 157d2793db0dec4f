"""What the mixture is compared with: objectives of the same contract, without a mixture.

Their posterior is uniform over the candidates, so that ``p·γ`` is the network's own ``p``.
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from agmm.errors import ConfigError
from agmm.mixture import Need, ObjectiveOutput, absent_class, partial_cross_entropy
from agmm.mixture.grid import cell_candidates, class_counts, class_shares, reduce_to_grid
from agmm.mixture.inputs import Batch
from agmm.mixture.losses import masked_mean, soft_cross_entropy, warmup_factor
from agmm.shapes import IGNORE_INDEX
from agmm.tensors import Features, Logits, Masks, ValidPixels

Candidates = Bool[Tensor, "b k"] | Bool[Tensor, "b k H W"] | None


class PartialCrossEntropyLoss(nn.Module):
    """Cross-entropy on the labelled pixels, alone or with the absent-class term.

    Args:
        absent: Weight of the absent-class term; 0 leaves it out.

    Example:
        >>> loss = PartialCrossEntropyLoss(absent=0.0)
        >>> seeds = torch.tensor([[[0, 255]]])
        >>> out = loss(torch.zeros(1, 2, 1, 2), torch.zeros(1, 3, 1, 1), seeds)
        >>> round(out.loss.item(), 4)
        0.6931
    """

    def __init__(self, *, absent: float) -> None:
        super().__init__()
        self.absent = absent

    def forward(
        self,
        logits: Logits,
        features: Features,
        seeds: Masks,
        candidates: Candidates = None,
        valid: ValidPixels | None = None,
    ) -> ObjectiveOutput:
        """The loss of a batch; shapes as in :meth:`agmm.mixture.AGMMLoss.forward`."""
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            terms = {"partial_cross_entropy": partial_cross_entropy(logits, seeds, valid)}
            if self.absent:
                grid = reduce_to_grid(logits, features.float(), seeds, candidates, valid)
                term = absent_class(grid.logits, grid.candidates, grid.valid)
                terms["absent_class"] = self.absent * term
            return output_of(terms, Batch(logits, features, seeds, candidates, valid))


class EMATeacherLoss(nn.Module):
    """Mean teacher: cross-entropy on the labelled pixels, the teacher's opinion on the others.

    ``CE(seeds, p) + w(t)·mean_unlabelled c·CE(p', p)`` with the teacher's probabilities ``p'``
    restricted to the candidates and its confidence ``c = max_k p'_k`` (Tarvainen & Valpola,
    NeurIPS 2017). The teacher is the network with averaged weights, which the trainer keeps.

    Args:
        consistency: Weight of the teacher's opinion after the warm-up.
        warmup_steps: Training steps over which it rises from 0; 0 is no warm-up.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher"})
    step: Int64[Tensor, ""]

    def __init__(self, *, consistency: float = 1.0, warmup_steps: int = 100) -> None:
        super().__init__()
        if not 0 <= consistency < float("inf"):
            raise ConfigError(
                f"consistency: expected a weight of at least 0, got {consistency}; 0 is off"
            )
        self.consistency, self.warmup_steps = consistency, warmup_steps
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(
        self,
        logits: Logits,
        features: Features,
        seeds: Masks,
        candidates: Candidates = None,
        valid: ValidPixels | None = None,
        *,
        teacher_logits: Logits | None = None,
        teacher_features: Features | None = None,
    ) -> ObjectiveOutput:
        """The loss of a batch; without ``teacher_logits`` only the labelled pixels count."""
        del teacher_features
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            terms = {"partial_cross_entropy": partial_cross_entropy(logits, seeds, valid)}
            if teacher_logits is not None:
                opinion = teacher_opinion(logits, teacher_logits.float(), seeds, candidates, valid)
                warmup = warmup_factor(self.step, self.warmup_steps)
                terms["consistency"] = self.consistency * warmup * opinion
            if self.training:
                self.step += 1
            return output_of(terms, Batch(logits, features, seeds, candidates, valid))


def teacher_opinion(
    logits: Logits,
    teacher_logits: Logits,
    seeds: Masks,
    candidates: Candidates = None,
    valid: ValidPixels | None = None,
) -> Float[Tensor, ""]:
    """Confidence-weighted cross-entropy against a teacher on the unlabelled, valid pixels.

    Args:
        logits: The student's.
        teacher_logits: The teacher's, without gradient.
        seeds: 255 = unlabelled.
        candidates: Classes that the teacher may name; None = all.
        valid: False = padding; None = all.

    Returns:
        Sum over these pixels, each weighted with the teacher's confidence, over their number.
    """
    cells = seeds == IGNORE_INDEX
    if valid is not None:
        cells = cells & valid
    if candidates is not None:
        allowed = candidates if candidates.ndim == 4 else candidates[..., None, None]
        # Padding may have no candidate, and a softmax over nothing would be NaN.
        allowed = allowed | ~allowed.any(1, keepdim=True)
        teacher_logits = teacher_logits.masked_fill(~allowed, -torch.inf)
    targets = teacher_logits.detach().softmax(1)
    confidence = targets.amax(1)
    values = soft_cross_entropy(targets.flatten(2), logits.log_softmax(1).flatten(2))
    return masked_mean(confidence.flatten(1) * values, cells.flatten(1))


def output_of(terms: dict[str, Tensor], batch: Batch) -> ObjectiveOutput:
    """The sum of the terms, and a posterior that leaves everything to the network.

    Args:
        terms: Terms by name, weighted.
        batch: What the objective was called with.

    Returns:
        Loss, detached terms, and the posterior that is uniform over the candidates of each cell.
    """
    size = (batch.features.shape[2], batch.features.shape[3])
    seeds = batch.seeds
    if batch.valid is not None:
        seeds = seeds.masked_fill(~batch.valid, IGNORE_INDEX)
    shares = class_shares(class_counts(seeds, batch.logits.shape[1], size))
    allowed = cell_candidates(batch.candidates, batch.valid, shares, size).float()
    uniform = allowed / allowed.sum(1, keepdim=True)
    total = torch.stack(list(terms.values())).sum()
    detached = {name: term.detach() for name, term in terms.items()}
    return ObjectiveOutput(total, detached, torch.unflatten(uniform, 2, size))
