"""Several components of a class, which share its labelled cells equally."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agmm.mixture.compact import Classes
from agmm.mixture.components import Components


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


def _directions(features: Tensor, number: int) -> Tensor:
    """Scores of the cells along fixed, as good as random directions, `b m n`, deviation 10."""
    index = torch.arange(1, number * features.shape[1] + 1, device=features.device)
    directions = index.to(features.dtype).square().sin().view(number, -1)
    scores = directions @ features
    spread = scores.std(correction=0).clamp(min=torch.finfo(scores.dtype).tiny)
    return 10 * scores / spread
