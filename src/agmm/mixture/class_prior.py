"""How frequent the classes are among the labels, and what the network makes of it.

A network trained by cross-entropy takes the frequencies of the labels for those of the classes, and
what is very rare is hardly ever its first choice. Here the cross-entropy is that of the logits plus
`log π_labels − log π` (logit adjustment, Menon et al., ICLR 2021, arXiv 2007.07314), so that its
own `p` has the prior `π`. That `π` are the frequencies of the labels with a floor is ours.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from agmm.mixture.online_em import sum_over_ranks

MEMORY = 0.98
"""What is kept of the counts at each step: they are those of some 50 batches."""


class ClassPrior(nn.Module):
    """Running counts of the labelled pixels by class, and the adjustment of the cross-entropy.

    Args:
        num_classes: number of classes.
        floor: lowest frequency that `p` assumes of a class, relative to the mean; 0 = none.

    Attributes:
        counts: labelled pixels of each class, `k`.

    Example:
        >>> prior = ClassPrior(3, floor=0.5)
        >>> prior.update(torch.tensor([9.0, 1.0, 0.0]))
        >>> [round(value, 4) for value in prior.adjustment().exp().tolist()]
        [1.0, 0.4, 1.0]
    """

    counts: Tensor

    def __init__(self, num_classes: int, floor: float) -> None:
        super().__init__()
        self.floor = floor
        self.register_buffer("counts", torch.zeros(num_classes))

    def adjustment(self) -> Float[Tensor, " k"] | None:
        """What is added to the logits before the cross-entropy.

        Returns:
            The adjustment of every class, see `log_adjustment`; None if there never is any.
        """
        return log_adjustment(self.counts, self.floor) if self.floor else None

    @torch.no_grad()
    def update(self, counts: Shaped[Tensor, " k"]) -> None:
        """Take in a batch (of all processes together); without a floor nothing is counted.

        The buffer is replaced for the reason of `RunningMixture.update`.

        Args:
            counts: labelled pixels of each class.
        """
        if not self.floor:
            return
        (counts,) = sum_over_ranks(counts.to(self.counts.dtype))
        self.counts = MEMORY * self.counts + counts


def log_adjustment(counts: Float[Tensor, " k"], floor: float) -> Float[Tensor, " k"]:
    """`log π_labels − log π` with `π ∝ max(π_labels, floor / K')`, K' classes having labels.

    Args:
        counts: labels of each class.
        floor: lowest frequency of a class in π, relative to the mean of the classes that have
            labels; above 0. Above that of the most frequent class, π is uniform.

    Returns:
        The adjustment, up to a constant: at most 0, and 0 for classes without labels.

    Example:
        >>> log_adjustment(torch.tensor([6.0, 2.0, 0.0]), 1.0).exp().tolist()  # 0.75 and 0.25
        [1.0, 0.5, 1.0]
    """
    seen = counts > 0
    relative = counts * seen.sum() / counts.sum().clamp(min=torch.finfo(counts.dtype).tiny)
    return torch.where(seen, relative / floor, 1).clamp(max=1).log()
