"""The components of the mixture and how well they explain each cell, for every choice of centres.

The default and the choices beside it, which the ablation measures:

- `centres`: the seeds of the image (published in 2023), of the batch, of the past (`running`), or
  every labelled cell of the image as a component of its own (`pixels`, a kernel density);
- `variance`: of each class, shared by all, or fixed at 1;
- `components`: several per class, which share its labelled cells equally (GMMSeg, Liang et al.,
  NeurIPS 2022).

Where a class has no seeds in the image (or batch), its running centre stands in.
"""

from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agmm.errors import ConfigError
from agmm.mixture.compact import Classes
from agmm.mixture.gaussian import (
    allowed_classes,
    log_likelihood,
    squared_distances,
    weighted_means,
)
from agmm.mixture.kernels import image_mixture
from agmm.mixture.online_em import RunningMixture

Centres = Literal["image", "batch", "running", "pixels"]
Variance = Literal["class", "shared", "fixed"]

MAX_PIXELS = 64
"""Labelled cells of a class and image that `pixels` makes components of, evenly spaced."""


class Choices(NamedTuple):
    """How the mixture is built; see the head of this module.

    Attributes:
        centres: which cells a centre is the mean of.
        variance: whose variance a component has.
        components: number of components of a class, at least 1; more need `running` centres.
        variance_floor: smallest variance.
        temperature: T, above 0; components and posterior are those of `N^(1/T)`.
    """

    centres: Centres
    variance: Variance
    components: int
    variance_floor: float
    temperature: float

    def check(self) -> None:
        """Refuse what does not exist.

        Raises:
            ConfigError: if a choice is unknown or out of range.
        """
        for name, kind in (("centres", Centres), ("variance", Variance)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(
                    f"{name}: expected one of {', '.join(get_args(kind))}, got "
                    f"{getattr(self, name)!r}; leave out the default"
                )
        for name in ("variance_floor", "temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(
                    f"{name}: expected above 0, got {getattr(self, name)}; leave out the default"
                )
        if self.components < 1:
            raise ConfigError(f"components: expected at least 1, got {self.components}")
        if self.components > 1 and self.centres != "running":
            raise ConfigError(
                f"components: {self.components} per class need running centres, got centres "
                f"{self.centres!r}; set centres to running or components to 1"
            )


class Components(NamedTuple):
    """The mixture of each image; its classes are those of the grid.

    Attributes:
        image_means: centres of the image's own seeds, `b k d`.
        present: classes of which the image has seeds, `b k`.
        known: classes that have a centre, from the image or from past ones, `b k`.
        distances: mean squared distances to each component, `b k·m n`.
        likelihood: log-likelihood of the classes, `b k n`; 0 for unknown ones.
        shares: share of each component in its class, `b k m n`; None if a class is one component.
        allowed: classes over which a cell's posterior is spread, `b k n`.
    """

    image_means: Tensor
    present: Tensor
    known: Tensor
    distances: Tensor
    likelihood: Tensor
    shares: Tensor | None
    allowed: Tensor


def image_components(
    features: Float[Tensor, "b d n"],
    shares: Float[Tensor, "b k n"],
    candidates: Bool[Tensor, "b k n"],
    mixture: RunningMixture,
    choices: Choices,
    chosen: Int64[Tensor, "b k"] | None = None,
) -> Components:
    """Centres of every image and how well they explain its cells.

    Args:
        features: features of the cells.
        shares: share of each class among the labelled pixels of the cell.
        candidates: classes that the labels allow at each cell.
        mixture: the running means, variances and masses, `k·m` of them.
        choices: how the mixture is built.
        chosen: which classes these are in each image; None = all, in order.

    Returns:
        The mixture of each image.

    Example:
        >>> choices = Choices("image", "fixed", 1, variance_floor=1e-4, temperature=1.0)
        >>> features, shares = torch.tensor([[[2.0, 4.0]]]), torch.tensor([[[1.0, 0.0]]])
        >>> mixture, every = RunningMixture(1, 1), torch.ones(1, 1, 2) > 0
        >>> image_components(features, shares, every, mixture, choices).likelihood.neg().tolist()
        [[[0.0, 2.0]]]
    """
    index = slice(None) if chosen is None else component_rows(chosen, choices.components)
    # A copy, as the means change in place before the backward pass.
    running = mixture.means[index].to(features.dtype, copy=True)
    running = running.expand(len(features), *running.shape[-2:])
    seen = mixture.mass[index] > 0
    seen = seen.expand(len(features), seen.shape[-1])
    present = (shares > 0).any(2)
    if choices.centres == "image":
        image_means, distances = image_mixture(features, shares, running)
        known = present | seen
    else:
        image_means = weighted_means(shares, features)[0]
        means, known = running, seen
        if choices.components == 1:  # until a class has a past, the image stands in
            means = torch.where(seen.unsqueeze(2), running, image_means)
            known = present | seen
        if choices.centres == "batch":
            means, known = _batch_means(features, shares, running, seen, chosen, len(mixture.mass))
        elif choices.centres == "pixels":
            means = torch.where(present.unsqueeze(2), image_means, running)
        distances = squared_distances(features, means)
    spread = _variances(mixture, index, choices).to(features.dtype)
    likelihood = log_likelihood(distances, spread)
    split = None
    if choices.centres == "pixels":
        density = _kernel_density(features, shares, spread, choices.temperature)
        likelihood = torch.where(present.unsqueeze(2), density, likelihood)
    elif choices.components > 1:
        likelihood, split, known = _of_classes(likelihood, known, choices)
    # A class without a centre has no likelihood; 0 keeps it finite where nothing else is left.
    likelihood = likelihood.masked_fill(~known.unsqueeze(2), 0)
    allowed = allowed_classes(candidates, known)
    return Components(image_means, present, known, distances, likelihood, split, allowed)


def component_rows(chosen: Int64[Tensor, "b k"], components: int) -> Int64[Tensor, "b c"]:
    """Rows of the running mixture that hold the components of each image's classes.

    Args:
        chosen: the classes of each image.
        components: number of components of a class.

    Returns:
        Rows, the components of a class one after the other.

    Example:
        >>> component_rows(torch.tensor([[2, 0]]), 2).tolist()
        [[4, 5, 0, 1]]
    """
    offsets = torch.arange(components, device=chosen.device)
    return (chosen.unsqueeze(2) * components + offsets).flatten(1)


def spread_over_components(
    weights: Float[Tensor, "b k n"],
    features: Float[Tensor, "b d n"],
    labelled: Bool[Tensor, "b n"],
    mixture: Components,
    classes: Classes | None,
) -> Float[Tensor, "b c n"]:
    """Weights of the cells for the components: of equal mass on labelled cells, else by share.

    A class whose components are all unknown has them split along fixed random directions first.

    Args:
        weights: weights of the cells for the classes.
        features: features of the cells.
        labelled: cells with a label.
        mixture: the mixture of each image.
        classes: which classes these are; None = all.

    Returns:
        Weights for each component; those of a class sum up to its own. No gradient.

    Example:
        >>> one = torch.ones(1, 1, 2)
        >>> mixture = Components(one, one > 0, one > 0, one, one, None, one > 0)
        >>> spread_over_components(one, one, one[0] > 0, mixture, None).tolist()
        [[[1.0, 1.0]]]
    """
    if mixture.shares is None:
        return weights.detach()
    by_share = weights.unsqueeze(2) * mixture.shares  # b k m n
    scores = mixture.shares.clamp(min=torch.finfo(weights.dtype).tiny).log()
    scores = (
        scores
        + _directions(features, scores.shape[2]).unsqueeze(1) * ~mixture.known[..., None, None]
    )
    counted = weights * labelled.unsqueeze(1)
    if classes is not None:
        scores = classes.put(scores.flatten(2)).reshape(len(scores), -1, *scores.shape[2:])
        counted = classes.put(counted)
    # All labelled cells of a class, of all images, share its components: k m (b n).
    plan = equipartition(scores.permute(1, 2, 0, 3).flatten(2), counted.transpose(0, 1).flatten(1))
    plan = plan.view(*plan.shape[:2], len(weights), -1).permute(2, 0, 1, 3)
    if classes is not None:
        plan = classes.take(plan)
    return torch.where(labelled[:, None, None], plan, by_share).flatten(1, 2).detach()


def equipartition(
    scores: Float[Tensor, "k m n"], weights: Float[Tensor, "k n"], iterations: int = 3
) -> Float[Tensor, "k m n"]:
    """Spread the cells of a class over its components so that each gets the same mass.

    Sinkhorn-Knopp as in GMMSeg (Liang et al., NeurIPS 2022): `exp(scores)` is scaled in turn to
    components of equal mass and to the weights of the cells, the latter last. No gradient.

    Args:
        scores: how well each component explains each cell, in nats.
        weights: weight of each cell for each class, at least 0.
        iterations: number of times that both are done.

    Returns:
        Weights of the cells, spread over the components; their sum over these is `weights`.

    Example:
        >>> scores = torch.tensor([[[9.0, 1.0], [0.0, 0.0]]])
        >>> equipartition(scores, torch.ones(1, 2)).round().tolist()
        [[[1.0, 0.0], [0.0, 1.0]]]
    """
    log_plan, log_weights = scores.detach(), weights.detach().log().unsqueeze(1)
    lowest = torch.finfo(scores.dtype).min
    for _ in range(iterations):
        mass = (log_plan + log_weights).logsumexp(2, keepdim=True)
        log_plan = log_plan - mass.clamp(min=lowest)
        log_plan = log_plan.log_softmax(1)
    return (log_plan + log_weights).exp()


def _variances(mixture: RunningMixture, index: Tensor | slice, choices: Choices) -> Tensor:
    if choices.variance == "fixed":
        return torch.ones_like(mixture.variances[index])
    variances = mixture.variances
    if choices.variance == "shared":
        mass = mixture.mass
        mean = (mass * variances).sum() / torch.where(mass.any(), mass.sum(), 1)
        variances = torch.where(mass.any(), mean, 1).expand_as(variances)
    return variances[index].clamp(min=choices.variance_floor)


def _batch_means(
    features: Tensor,
    shares: Tensor,
    running: Tensor,
    seen: Tensor,
    chosen: Tensor | None,
    num_classes: int,
) -> tuple[Tensor, Tensor]:
    """Means over the seeds of all images, or the running ones; and which classes have either."""
    sums, mass = shares @ features.mT, shares.sum(2)
    if chosen is None:
        chosen = torch.arange(num_classes, device=features.device).expand_as(mass)
    names = chosen.flatten()
    total = mass.new_zeros(num_classes).index_add(0, names, mass.flatten())[chosen]
    means = sums.new_zeros(num_classes, sums.shape[2]).index_add(0, names, sums.flatten(0, 1))
    given = total > 0
    means = means[chosen] / torch.where(given, total, 1).unsqueeze(2)
    return torch.where(given.unsqueeze(2), means, running), given | seen


def _kernel_density(
    features: Tensor, shares: Tensor, variances: Tensor, temperature: float
) -> Tensor:
    """`T log Σ_j w_kj N(f_n; f_j, σ²_k)^(1/T)` over the image's own labelled cells j, `b k n`."""
    kept = _evenly_spaced(shares > 0)
    number = min(shares.shape[2], MAX_PIXELS * shares.shape[1])
    cells = kept.any(1).to(torch.uint8).topk(number, dim=1).indices  # b j, the kept ones first
    weights = (shares * kept).gather(2, cells.unsqueeze(1).expand(-1, shares.shape[1], -1))
    centres = features.gather(2, cells.unsqueeze(1).expand(-1, features.shape[1], -1)).mT
    distances = squared_distances(features, centres)  # b j n
    weights = weights / weights.sum(2, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    spread = variances.expand(len(features), -1)
    densities = []
    for k in range(shares.shape[1]):
        exponent = -distances / (2 * temperature * spread[:, k, None, None])
        log_weights = weights[:, k].log().clamp(min=torch.finfo(weights.dtype).min / 2)
        density = (exponent + log_weights.unsqueeze(2)).logsumexp(1)
        densities.append(temperature * density - 0.5 * spread[:, k, None].log())
    return torch.stack(densities, 1)


def _evenly_spaced(cells: Bool[Tensor, "b k n"]) -> Bool[Tensor, "b k n"]:
    """At most `MAX_PIXELS` of the cells of every class, evenly spaced."""
    rank = cells.cumsum(2)
    number = rank[:, :, -1:].clamp(min=MAX_PIXELS)
    return cells & (rank * MAX_PIXELS // number != (rank - 1) * MAX_PIXELS // number)


def _of_classes(
    likelihood: Tensor, known: Tensor, choices: Choices
) -> tuple[Tensor, Tensor, Tensor]:
    """Likelihood of the classes, shares of their components, and known classes."""
    batch, rows, cells = likelihood.shape
    parts = likelihood.view(batch, -1, choices.components, cells) / choices.temperature
    known = known.reshape(batch, rows // choices.components, choices.components)
    floor = torch.finfo(parts.dtype).min / 2
    parts = parts.masked_fill(~known.unsqueeze(3), floor)
    number = known.sum(2).clamp(min=1)
    mean = parts.logsumexp(2) - number.log().unsqueeze(2)
    return choices.temperature * mean, parts.softmax(2), known.any(2)


def _directions(features: Tensor, number: int) -> Tensor:
    """Scores of the cells along fixed, as good as random directions, `b m n`, deviation 10."""
    index = torch.arange(1, number * features.shape[1] + 1, device=features.device)
    directions = index.to(features.dtype).square().sin().view(number, -1)
    scores = directions @ features
    spread = scores.std(correction=0).clamp(min=torch.finfo(scores.dtype).tiny)
    return 10 * scores / spread
