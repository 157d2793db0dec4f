"""The components of the mixture and how well they explain each cell, for every choice of centres.

The default and the choices beside it, which the ablation measures:

- `centres`: the seeds of the image (published in 2023), of the batch, of the past (`running`), or
  every labelled cell of the image as a component of its own (`pixels`, a kernel density);
- `variance`: of each class, shared by all, or fixed at 1;
- `components`: several per class, which share its labelled cells equally (GMMSeg, Liang et al.,
  NeurIPS 2022).

Where a class has no seeds in the batch, its running centre stands in. Beside the components of an
image's own seeds (`image`, `pixels`) the running centre is one more component of each class, with a
share of its weight; a class without seeds in the image has this component alone.
"""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agmm.errors import ConfigError
from agmm.mixture import inputs
from agmm.mixture.gaussian import (
    allowed_classes,
    image_mixture,
    log_likelihood,
    squared_distances,
    weighted_means,
)
from agmm.mixture.inputs import check_choice
from agmm.mixture.kernel_density import kernel_density
from agmm.mixture.online_em import RunningMixture

Centres = Literal["image", "batch", "running", "pixels"]
Variance = Literal["class", "shared", "fixed"]


class Choices(NamedTuple):
    """How the mixture is built; see the head of this module.

    Attributes:
        centres: which cells a centre is the mean of.
        variance: whose variance a component has.
        components: number of components of a class, at least 1; more need `running` centres.
        running_share: weight of the running centre beside the components of the image, 0 to below
            1; at 0 it only stands in, with its full weight, for classes without seeds in the image.
        variance_floor: smallest variance.
        temperature: T, above 0; components and posterior are those of `N^(1/T)`.
        prediction_temperature: the same for images without seeds.
    """

    centres: Centres
    variance: Variance
    components: int
    running_share: float
    variance_floor: float
    temperature: float
    prediction_temperature: float

    def check(self) -> None:
        """Refuse what does not exist.

        Raises:
            ConfigError: if a choice is unknown or out of range.
        """
        check_choice("centres", self.centres, Centres)
        check_choice("variance", self.variance, Variance)
        for name in ("variance_floor", "temperature", "prediction_temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(
                    f"{name}: expected above 0, got {getattr(self, name)}; leave out the default"
                )
        if not 0 <= self.running_share < 1:
            raise ConfigError(
                f"running_share: expected 0 to below 1, got {self.running_share}; for 1 set "
                "centres to running"
            )
        if self.components < 1:
            raise ConfigError(
                f"components: expected at least 1, got {self.components}; leave out the default"
            )
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
        likelihood: log-likelihood of the classes, `b k n`; 0 for unknown ones.
        temperature: T of each image, `b 1 1`.
        shares: share of each component in its class, `b k m n`; None if a class is one component.
        allowed: classes over which a cell's posterior is spread, `b k n`.
    """

    image_means: Tensor
    present: Tensor
    known: Tensor
    likelihood: Tensor
    temperature: Tensor
    shares: Tensor | None
    allowed: Tensor

    @property
    def evidence(self) -> Tensor:
        """Log-likelihood of a few channels together; `likelihood` is that of their mean."""
        return self.likelihood / self.temperature


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
        >>> choices = Choices("image", "fixed", 1, 0.0, 1e-4, 1.0, prediction_temperature=1.0)
        >>> features, shares = torch.tensor([[[2.0, 4.0]]]), torch.tensor([[[1.0, 0.0]]])
        >>> mixture, every = RunningMixture(1, 1), torch.ones(1, 1, 2) > 0
        >>> image_components(features, shares, every, mixture, choices).likelihood.neg().tolist()
        [[[0.0, 2.0]]]
    """
    index = slice(None) if chosen is None else component_rows(chosen, choices.components)
    running = mixture.means[index].to(features.dtype)
    running = running.expand(len(features), *running.shape[-2:])
    seen = mixture.mass[index] > 0
    seen = seen.expand(len(features), seen.shape[-1])
    present = (shares > 0).any(2)
    temperature = torch.where(
        present.any(1),
        features.new_full((), choices.temperature),
        features.new_full((), choices.prediction_temperature),
    )[:, None, None]
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
        density = kernel_density(features, shares, spread, choices.temperature)
        likelihood = torch.where(present.unsqueeze(2), density, likelihood)
    elif choices.components > 1:
        likelihood, split, known = _of_classes(likelihood, known, choices, temperature)
    if choices.centres in ("image", "pixels") and choices.running_share:
        past = likelihood  # which is that of the running centres where no image has seeds
        if not inputs.readable(present) or bool(present.any()):
            past = log_likelihood(squared_distances(features, running), spread)
        likelihood = _with_running(likelihood, past, present, seen, choices, temperature)
    # A class without a centre has no likelihood; 0 keeps it finite where nothing else is left.
    likelihood = likelihood.masked_fill(~known.unsqueeze(2), 0)
    allowed = allowed_classes(candidates, known)
    return Components(image_means, present, known, likelihood, temperature, split, allowed)


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


def _with_running(
    likelihood: Tensor,
    past: Tensor,
    present: Tensor,
    seen: Tensor,
    choices: Choices,
    temperature: Tensor,
) -> Tensor:
    """Likelihood of the classes with the running centre as one more component."""
    share = choices.running_share
    own, past = likelihood / temperature, past / temperature + math.log(share)
    both = torch.logaddexp(own + math.log1p(-share), past)
    mixed = torch.where(present.unsqueeze(2), both, past)
    return temperature * torch.where(seen.unsqueeze(2), mixed, own)


def _of_classes(
    likelihood: Tensor, known: Tensor, choices: Choices, temperature: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Likelihood of the classes, shares of their components, and known classes."""
    batch, rows, cells = likelihood.shape
    parts = likelihood.view(batch, -1, choices.components, cells) / temperature.unsqueeze(1)
    known = known.reshape(batch, rows // choices.components, choices.components)
    floor = torch.finfo(parts.dtype).min / 2
    parts = parts.masked_fill(~known.unsqueeze(3), floor)
    number = known.sum(2).clamp(min=1)
    mean = parts.logsumexp(2) - number.log().unsqueeze(2)
    return temperature * mean, parts.softmax(2), known.any(2)
