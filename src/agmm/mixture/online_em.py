"""Online expectation-maximisation of the class mixture: E step, M step, running statistics.

Our reading: the 2025 paper (doi 10.1109/TPAMI.2025.3557047) names an online EM; its equations could
not be read. This is stepwise EM (Cappé & Moulines 2009, doi 10.1111/j.1467-9868.2009.00698.x): the
sufficient statistics of the batches are averaged with a step size, and the parameters follow from
the average.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from agmm.mixture import inputs
from agmm.mixture.gaussian import squared_norms


class SufficientStatistics(NamedTuple):
    """What the M step needs to know of the data.

    Attributes:
        mass: `Σ γ`, shape `k`.
        sums: `Σ γ f`, shape `k d`.
        squares: `Σ γ ‖f‖² / d`, shape `k`.
    """

    mass: Tensor
    sums: Tensor
    squares: Tensor


def e_step(
    log_gamma: Float[Tensor, "b k n"],
    shares: Float[Tensor, "b k n"],
    labelled: Bool[Tensor, "b n"],
) -> Float[Tensor, "b k n"]:
    """Responsibilities: the labels on labelled cells, else the posterior. No gradient.

    Args:
        log_gamma: log-posterior of the mixture.
        shares: share of each class among the labelled pixels of the cell.
        labelled: cells with a label.

    Returns:
        Responsibilities, which sum to 1 over the classes.

    Example:
        >>> half = torch.full((1, 2, 1), 0.5)
        >>> e_step(half.log(), half, torch.tensor([[True]])).flatten().tolist()
        [0.5, 0.5]
    """
    return torch.where(labelled.unsqueeze(1), shares, log_gamma.exp()).detach()


def sufficient_statistics(
    responsibilities: Float[Tensor, "b k n"],
    features: Float[Tensor, "b d n"],
    classes: Int64[Tensor, "b k"] | None = None,
    num_classes: int | None = None,
) -> SufficientStatistics:
    """Sums over all cells of the batch: `Σγ`, `Σγ f`, `Σγ ‖f‖²/d`. No gradient.

    Args:
        responsibilities: weight of every cell for every class, 0 for cells that do not count.
        features: features of the cells.
        classes: which classes these are in each image; None = all of them, in order.
        num_classes: number of all classes, given with `classes`.

    Returns:
        The statistics, summed over images and cells.

    Example:
        >>> ones = torch.ones(1, 1, 2)
        >>> sufficient_statistics(ones, torch.tensor([[[1.0, 3.0]]])).sums.item()
        4.0
    """
    weights, features = responsibilities.detach(), features.detach()
    # The variance is a small difference of large sums, so these are wider; image by image, as no
    # copy of all features shall be held.
    wide = features.dtype if features.device.type == "mps" else torch.float64
    mass, parts = weights.sum(2), []
    for weight, feature in zip(weights, features, strict=True):
        used, cells = weight.any(0), None
        if inputs.readable(used) and 2 * used.count_nonzero() < len(used):
            cells = used.nonzero().squeeze(1)  # often a few labelled ones
        counted, exact = (
            (part if cells is None else part[:, cells]).to(wide) for part in (weight, feature)
        )
        squares = squared_norms(exact.unsqueeze(0)).squeeze(0) / len(exact)
        parts.append((counted @ exact.mT, counted @ squares))
    sums, spread = (torch.stack(part) for part in zip(*parts, strict=True))  # b k d, b k
    if classes is None or num_classes is None:
        return SufficientStatistics(*(part.sum(0) for part in (mass, sums, spread)))
    return SufficientStatistics(
        *(
            part.new_zeros(num_classes, *part.shape[2:]).index_add_(
                0, classes.flatten(), part.flatten(0, 1)
            )
            for part in (mass, sums, spread)
        )
    )


def m_step(
    statistics: SufficientStatistics,
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """Parameters of highest likelihood: `μ = Σγf / Σγ`, `σ² = Σγ‖f − μ‖² / (d Σγ)`.

    Args:
        statistics: sums over the data.

    Returns:
        Means and variances; 0 for a class without mass.

    Example:
        >>> one = torch.ones(1)
        >>> means, variances = m_step(SufficientStatistics(2 * one, torch.ones(1, 3), one))
        >>> means.tolist(), variances.tolist()
        ([[0.5, 0.5, 0.5]], [0.25])
    """
    mass = torch.where(statistics.mass > 0, statistics.mass, 1)
    means = statistics.sums / mass.unsqueeze(1)
    return means, (statistics.squares / mass - means.square().mean(1)).clamp(min=0)


def sum_over_ranks(*parts: Tensor) -> list[Tensor]:
    """Sums of some tensors over all processes, in one message; unchanged in a single process.

    Args:
        *parts: tensors, of the same shapes and types in every process.

    Returns:
        Their sums over the processes; where there are several, in the widest of their types.

    Example:
        >>> [part.item() for part in sum_over_ranks(torch.ones(1), torch.zeros(1, 1))]
        [1.0, 0.0]
    """
    if not (dist.is_available() and dist.is_initialized()):
        return list(parts)
    message = torch.cat([part.flatten() for part in parts])
    dist.all_reduce(message)
    sums = torch.split(message, [part.numel() for part in parts])
    return [total.view_as(part) for total, part in zip(sums, parts, strict=True)]


def rank_shares(counts: Int64[Tensor, " t"]) -> Float[Tensor, " t"]:
    """Factors by which the mean over the processes becomes the mean over what all of them count.

    A process has the mean over its own `n` of `N` pixels, cells or pairs. `DistributedDataParallel`
    takes the plain mean over the `r` processes; with the factor `r·n/N` on each of them it is the
    mean over all.

    Args:
        counts: `n` of every term in this process's batch.

    Returns:
        `r·n/N` of every term, 1 where N is 0; 1 in a single process.

    Example:
        >>> rank_shares(torch.tensor([3, 0])).tolist()
        [1.0, 1.0]
    """
    if not (dist.is_available() and dist.is_initialized()):
        return torch.ones(counts.shape, device=counts.device)
    total = counts.clone()
    dist.all_reduce(total)
    return torch.where(total > 0, dist.get_world_size() * counts / total.clamp(min=1), 1)


class RunningMixture(nn.Module):
    """Means and variances of all classes, carried on over the iterations by stepwise EM.

    The averaged statistics `S ← (1 − η)·S + η·S_batch` are kept as parameters and mass, which is
    the same without dividing small numbers by small numbers: with
    `η_k = η·m_k / ((1 − η)·M_k + η·m_k)` the means move by `μ_k ← μ_k + η_k·(μ_batch − μ_k)`, and
    `σ²_k ← (1 − η_k)·(σ²_k + η_k·‖μ_batch − μ_k‖²/d) + η_k·σ²_batch`.
    A class without mass in the batch, or whose sums are not finite, keeps everything exactly; its
    first batch is taken as it is.

    Args:
        num_classes: number of classes.
        feature_channels: number of feature channels.

    Attributes:
        means: centres, `k d`; 0 before a class was seen.
        variances: variances, `k`; 1 before a class was seen.
        mass: averaged `Σγ` of a batch, `k`; 0 = the class was never seen.

    Example:
        >>> mixture = RunningMixture(1, 1)
        >>> batch = SufficientStatistics(torch.ones(1), torch.tensor([[2.0]]), torch.ones(1))
        >>> mixture.update(batch, step_size=0.5)
        >>> mixture.means.item()
        2.0
    """

    means: Tensor
    variances: Tensor
    mass: Tensor

    def __init__(self, num_classes: int, feature_channels: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(num_classes, feature_channels))
        self.register_buffer("variances", torch.ones(num_classes))
        self.register_buffer("mass", torch.zeros(num_classes))

    @torch.no_grad()
    def update(self, statistics: SufficientStatistics, step_size: float) -> None:
        """Take in the statistics of one batch (of all processes together).

        The buffers are replaced and not changed: a compiled graph may compute again, in its
        backward pass, what it had from the old ones.

        Args:
            statistics: sums over this process's batch.
            step_size: η, above 0, at most 1; 1 forgets everything before.
        """
        statistics = SufficientStatistics(*sum_over_ranks(*statistics))
        # In the type of the sums, whose difference the variance is.
        means, variances = (part.to(self.mass.dtype) for part in m_step(statistics))
        new = statistics.mass.to(self.mass.dtype)
        # What overflowed in half precision would stay for ever.
        finite = new.isfinite() & means.isfinite().all(1) & variances.isfinite()
        new, variances = (torch.where(finite, part, 0) for part in (new, variances))
        means = torch.where(finite.unsqueeze(1), means, 0)
        seen = new > 0
        mass = torch.where(self.mass > 0, torch.lerp(self.mass, new, step_size), new)
        gain = torch.where(self.mass > 0, step_size * new, new)
        share = torch.where(seen, gain / torch.where(seen, mass, 1), 0)
        between = share * (means - self.means).square().mean(1)
        self.means = torch.lerp(self.means, means, share.unsqueeze(1))
        self.variances = torch.lerp(self.variances + between, variances, share)
        self.mass = torch.where(seen, mass, self.mass)
