"""How frequent the classes are among the labels, and what the network makes of it.

A network trained by cross-entropy takes the frequencies of the labels for those of the classes:
what is rare is hardly ever its first choice. Here the cross-entropy is that of the logits plus
`log π_labels − log π` (logit adjustment, Menon et al., ICLR 2021, arXiv 2007.07314), so that its
own `p` has the prior `π`. Ours is `π`: the frequencies of the labels, to the power at which they
are even enough (Pielou's evenness, J. Theor. Biol. 1966, doi 10.1016/0022-5193(66)90013-0).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agmm.mixture.online_em import sum_over_ranks

MEMORY = 0.98
"""What is kept of the counts at each step: they are those of some 50 batches."""
POWERS = 101
"""Powers that are looked at, from 1 down to 0."""


class ClassPrior(nn.Module):
    """Running counts of the labelled cells by class, and the adjustment of the cross-entropy.

    Args:
        num_classes: number of classes.
        evenness: least evenness of the prior of `p`, 0 to 1; 0 = that of the labels.

    Attributes:
        counts: labelled cells of each class, `k`.

    Example:
        >>> prior = ClassPrior(3, evenness=1.0)
        >>> prior.update(torch.tensor([8.0, 2.0, 0.0]))
        >>> [round(value, 4) for value in prior.adjustment().exp().tolist()]
        [0.8, 0.2, 1.0]
    """

    counts: Tensor

    def __init__(self, num_classes: int, evenness: float) -> None:
        super().__init__()
        self.evenness = evenness
        self.register_buffer("counts", torch.zeros(num_classes))

    def adjustment(self) -> Float[Tensor, " k"] | None:
        """What is added to the logits before the cross-entropy: `log π_labels − log π`.

        Returns:
            The adjustment of every class, up to a constant; 0 for classes without labels so far.
            None if there never is any.
        """
        if self.evenness == 0:
            return None
        return log_adjustment(self.counts, self.evenness)

    @torch.no_grad()
    def update(self, counts: Float[Tensor, " k"]) -> None:
        """Take in a batch (of all processes together).

        The buffer is replaced for the reason of `RunningMixture.update`.

        Args:
            counts: labelled cells of each class.
        """
        (counts,) = sum_over_ranks(counts.to(self.counts.dtype))
        self.counts = MEMORY * self.counts + counts


def log_adjustment(counts: Float[Tensor, " k"], evenness: float) -> Float[Tensor, " k"]:
    """`(1 − τ) log π_labels` with the highest power τ ≤ 1 at which `π ∝ π_labels^τ` is even enough.

    The evenness of a distribution is its entropy over that of the uniform one, here over the
    classes that have labels.

    Args:
        counts: labels of each class.
        evenness: least evenness of π, 0 to 1.

    Returns:
        The adjustment, to a hundredth of τ; 0 for classes without labels.

    Example:
        >>> log_adjustment(torch.tensor([4.0, 4.0, 0.0]), 1.0).exp().tolist()  # they are even
        [1.0, 1.0, 1.0]
    """
    seen = counts > 0
    log_labels = torch.where(seen, counts, 1).log() - counts.sum().clamp(min=1).log()
    powers = torch.linspace(1, 0, POWERS, dtype=counts.dtype, device=counts.device)
    log_priors = (powers[:, None] * log_labels).masked_fill(~seen, -torch.inf).log_softmax(1)
    entropies = -(log_priors.exp() * log_priors.masked_fill(~seen, 0)).sum(1)
    # The entropy rises from power to power. Where no class has labels it is NaN, and below nothing.
    too_uneven = (entropies < evenness * seen.sum().log()).sum().clamp(max=POWERS - 1)
    return torch.where(seen, too_uneven / (POWERS - 1) * log_labels, 0)
