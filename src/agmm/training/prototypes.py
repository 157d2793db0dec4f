"""Contrast between cells and the prototypes of the classes.

The loss is that of Du et al., *Weakly Supervised Semantic Segmentation by Pixel-to-Prototype
Contrast*, CVPR 2022: InfoNCE of normalised features at temperature 0.1 against one prototype per
class, for every pixel with a (pseudo) label, at the weight of their code, 0.05 per term. The
prototypes are running means of labelled features, as in Zhou et al., *Rethinking Semantic
Segmentation: A Prototype View*, CVPR 2022, one per class. Ours: prototypes come from seeds in place
of activation maps; pseudo labels are the network's own confident predictions among the candidates,
with a warm-up; the features are the decoder's, without a projection; no mining of hard examples;
and a momentum of 0.9 in place of 0.999, which would remember more steps than a short training has.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from agmm.errors import ConfigError
from agmm.mixture import ObjectiveOutput, partial_cross_entropy
from agmm.mixture.grid import Grid, reduce_to_grid
from agmm.mixture.inputs import Batch, check_sizes
from agmm.mixture.losses import masked_mean, soft_cross_entropy, warmup_factor
from agmm.mixture.online_em import sum_over_ranks
from agmm.tensors import Features, Logits, Masks, ValidPixels
from agmm.training.baselines import Candidates, output_of

SHORTEST = 1e-2
"""Features shorter than this are not made longer: the gradient of a zero would not be finite."""


class PrototypeContrastLoss(nn.Module):
    """Cross-entropy on the labelled pixels, contrast with prototypes on the cells.

    ``CE(seeds, p) + contrast·NCE(labelled cells) + pseudo·w(t)·NCE(confident unlabelled cells)``.
    In training mode every call first moves the prototypes towards the mean of the batch's labelled
    cells, ``m_k ← momentum·m_k + (1 − momentum)·mean``; a class counts from its first seed on.

    Args:
        num_classes: Number of classes, 2 to 255, the background included.
        feature_channels: Number of feature channels.
        contrast: Weight of the term on labelled cells.
        pseudo: Weight of the term on unlabelled cells, after the warm-up.
        threshold: Least probability of a network's prediction to be a pseudo label, 0 to 1.
        temperature: Divisor of the cosines, above 0.
        momentum: Share of the old prototype that stays, 0 to below 1.
        warmup_steps: Training steps over which the pseudo labels' weight rises from 0; 0 is none.

    Raises:
        ConfigError: If an option is out of its range.

    Example:
        >>> loss = PrototypeContrastLoss(num_classes=2, feature_channels=3)
        >>> out = loss(torch.zeros(1, 2, 1, 2), torch.ones(1, 3, 1, 2), torch.tensor([[[0, 1]]]))
        >>> round(out.terms["contrast"].item() / 0.05, 4)  # both classes look the same
        0.6931
    """

    means: Tensor
    seen: Tensor
    step: Int64[Tensor, ""]

    def __init__(
        self,
        num_classes: int,
        feature_channels: int,
        *,
        contrast: float = 0.05,
        pseudo: float = 0.05,
        threshold: float = 0.9,
        temperature: float = 0.1,
        momentum: float = 0.9,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        check_sizes(num_classes, feature_channels)
        for name, weight in (("contrast", contrast), ("pseudo", pseudo)):
            if not 0 <= weight < float("inf"):
                raise ConfigError(
                    f"{name}: expected a weight of at least 0, got {weight}; 0 is off"
                )
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold: expected 0 to 1, got {threshold}; try 0.9")
        if not 0 < temperature < float("inf"):
            raise ConfigError(f"temperature: expected above 0, got {temperature}; try 0.1")
        if not 0 <= momentum < 1:
            raise ConfigError(f"momentum: expected 0 to below 1, got {momentum}; try 0.9")
        self.contrast, self.pseudo, self.threshold = contrast, pseudo, threshold
        self.temperature, self.momentum = temperature, momentum
        self.warmup_steps = warmup_steps
        self.register_buffer("means", torch.zeros(num_classes, feature_channels))
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.bool))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

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
            grid = reduce_to_grid(logits, features.float(), seeds, candidates, valid)
            if self.training:
                self._move(grid)
            guessed, confident = pseudo_shares(grid, self.threshold)
            prototypes = nn.functional.normalize(self.means, dim=1)
            log_nearest = log_similarity(grid.features, prototypes, self.seen, self.temperature)
            warmup = warmup_factor(self.step, self.warmup_steps)
            terms = {
                "partial_cross_entropy": partial_cross_entropy(logits, seeds, valid),
                "contrast": self.contrast * self._nce(log_nearest, grid.shares, grid.labelled),
                "pseudo": self.pseudo * warmup * self._nce(log_nearest, guessed, confident),
            }
        if self.training:
            self.step += 1
        return output_of(terms, Batch(logits, features, seeds, candidates, valid))

    def _nce(self, log_nearest: Tensor, shares: Tensor, cells: Tensor) -> Tensor:
        """Mean over the cells all of whose classes have a prototype."""
        unseen = (shares > 0) & ~self.seen.unsqueeze(1)
        values = soft_cross_entropy(shares.masked_fill(unseen, 0), log_nearest)
        return masked_mean(values, cells & ~unseen.any(1))

    @torch.no_grad()
    def _move(self, grid: Grid) -> None:
        """Take in the batch's labelled cells (of all processes together)."""
        shares, features = grid.shares, grid.features
        weights = shares / features.norm(dim=1, keepdim=True).clamp(min=SHORTEST)
        sums = torch.einsum("bkn,bdn->kd", weights, features)
        mass, sums = sum_over_ranks(shares.sum((0, 2)), sums)
        present = mass > 0
        target = sums / torch.where(present, mass, 1).unsqueeze(1)
        gain = torch.where(self.seen, 1 - self.momentum, 1.0) * present
        self.means.lerp_(target.to(self.means.dtype), gain.to(self.means.dtype).unsqueeze(1))
        self.seen |= present


def pseudo_shares(
    grid: Grid, threshold: float
) -> tuple[Float[Tensor, "b k n"], Bool[Tensor, "b n"]]:
    """The network's confident predictions among the candidates, as labels of unlabelled cells.

    Args:
        grid: The batch on the grid of the features.
        threshold: Least probability, after those of the other classes were removed.

    Returns:
        A 1 for the class of each cell, without gradient; and the unlabelled, valid cells whose
        class is that probable.

    Example:
        >>> seeds = torch.full((1, 1, 1), 255)
        >>> logits = torch.tensor([3.0, 0.0, 9.0]).view(1, 3, 1, 1)
        >>> allowed = torch.tensor([[True, True, False]])
        >>> grid = reduce_to_grid(logits, torch.zeros(1, 2, 1, 1), seeds, allowed)
        >>> shares, cells = pseudo_shares(grid, 0.9)
        >>> shares.flatten().tolist(), cells.item()
        ([1.0, 0.0, 0.0], True)
    """
    probs = grid.logits.detach().masked_fill(~grid.candidates, -torch.inf).softmax(1)
    best, index = probs.max(1, keepdim=True)
    shares = torch.zeros_like(probs).scatter_(1, index, 1.0)
    return shares, (best.squeeze(1) >= threshold) & grid.valid & ~grid.labelled


def log_similarity(
    features: Float[Tensor, "b d n"],
    prototypes: Float[Tensor, "k d"],
    seen: Bool[Tensor, " k"],
    temperature: float,
) -> Float[Tensor, "b k n"]:
    """Log-softmax over the prototypes of ``cosine / temperature``.

    Args:
        features: Features of the cells.
        prototypes: Prototypes of length 1.
        seen: Classes that have a prototype; the others do not take part.
        temperature: Divisor, above 0.

    Returns:
        Log-probabilities; −∞ for classes without a prototype, all alike if none has one.

    Example:
        >>> two, seen = torch.eye(2), torch.tensor([True, True])
        >>> features = torch.tensor([[[5.0], [0.0]]])  # in the direction of the first
        >>> log_similarity(features, two, seen, 1.0).exp().flatten()
        tensor([0.7311, 0.2689])
    """
    length = features.norm(dim=1, keepdim=True).clamp(min=SHORTEST)
    cosines = torch.einsum("kd,bdn->bkn", prototypes.to(features.dtype), features) / length
    out = ~seen & seen.any()
    scores: Tensor = (cosines / temperature).masked_fill(out.unsqueeze(1), -torch.inf)
    return scores.log_softmax(1)
