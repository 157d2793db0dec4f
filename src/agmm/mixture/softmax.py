"""What the losses need of the network's softmax, in one pass over the logits of the cells.

Only the log-probabilities of the classes that matter and one number per cell come out, and the
backward pass writes one gradient. On a CPU the cells are taken in parts that stay in the cache:
memory beside input, gradient and result does not grow with the grid or the classes.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agmm.mixture import inputs

PART = 2**19
"""Logits of a part on a CPU (2 MiB in float32; a quarter of it takes a fifth longer, measured)."""


class _SoftmaxTerms(torch.autograd.Function):
    # At most one probability exceeds ½. With t the class of the largest, q the softmax of the
    # others alone and u = z_t − log Σ_{k≠t} exp z_k, the probabilities are p_t = sigmoid(u) and
    # p_k = sigmoid(−u)·q_k ≤ ½. No difference of nearly equal numbers is left: −log(1 − p_t) is
    # softplus(u), and for the others log1p is exact.

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, allowed: Tensor | None, classes: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        batch, number, cells = logits.shape
        log_probs = logits.new_empty(batch, number if classes is None else classes.shape[1], cells)
        absent = logits.new_zeros(batch, cells)
        top = torch.empty_like(absent, dtype=torch.int64)
        margin, rest = torch.empty_like(absent), torch.empty_like(absent)
        for where in _parts(logits):
            part, at = logits[where], (where[0], where[2])
            largest, index = part.max(1, keepdim=True)
            others = part.scatter(1, index, -torch.inf)
            second = others.amax(1, keepdim=True)
            others.sub_(second).exp_()
            total = others.sum(1, keepdim=True)
            log_rest = second + total.log()
            u = largest - log_rest
            softplus = torch.logaddexp(u, torch.zeros_like(u))
            log_probs[where] = _take(part, classes, where[0]) - (log_rest + softplus)
            if allowed is not None:
                ruled_in = _cut(allowed, where)
                others.mul_(-torch.sigmoid(-u) / total).masked_fill_(ruled_in, 0)
                value = softplus.masked_fill(_at(ruled_in, index), 0).squeeze(1)
                absent[at] = value - others.log1p_().sum(1)
            top[at], margin[at], rest[at] = index.squeeze(1), u.squeeze(1), log_rest.squeeze(1)
        ctx.save_for_backward(logits, allowed, classes, top, margin, rest)
        return log_probs, absent

    @staticmethod
    def backward(ctx: Any, by_log_probs: Tensor, by_absent: Tensor) -> tuple[Tensor | None, ...]:
        logits, allowed, classes, top, margin, rest = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        for where in _parts(logits):
            at = (where[0], where[2])
            index, u = top[at].unsqueeze(1), margin[at].unsqueeze(1)
            ours, given = by_log_probs[where], by_absent[at].unsqueeze(1)
            largest, others = torch.sigmoid(u), torch.sigmoid(-u)  # p_t and 1 − p_t
            q = (logits[where] - rest[at].unsqueeze(1)).exp_().scatter_(1, index, 0)
            by_top, by_others = -ours.sum(1, keepdim=True), -others * ours.sum(1, keepdim=True)
            part = gradient[where]
            if allowed is None:
                torch.mul(q, by_others, out=part)
            else:  # −log(1 − p_k) by p_k is 1/(1 − p_k); odds = p_k/(1 − p_k)
                ruled_in = _cut(allowed, where)
                probs = q * others
                odds = probs.div_(1 - probs).masked_fill_(ruled_in, 0)
                sum_of_odds = odds.sum(1, keepdim=True)
                top_counts = (~_at(ruled_in, index)).to(u.dtype)
                by_top = by_top + given * (top_counts - sum_of_odds)
                by_others = by_others - given * (top_counts * largest + others * sum_of_odds)
                torch.mul(odds, given, out=part).addcmul_(q, by_others)
            part.scatter_(1, index, largest * by_top)
            if classes is None:
                part.add_(ours)
            else:
                part.scatter_add_(1, classes[where[0]].unsqueeze(2).expand_as(ours), ours)
        return gradient, None, None


Where = tuple[slice, slice, slice]


def _parts(logits: Tensor) -> Iterator[Where]:
    """Images, classes (all) and cells of each part; elsewhere than on a CPU it is one."""
    everything = slice(None)
    if not inputs.readable(logits):
        yield everything, everything, everything
        return
    step = max(1, PART // logits.shape[1])
    for image in range(len(logits)):
        for first in range(0, logits.shape[2], step):
            yield slice(image, image + 1), everything, slice(first, first + step)


def _cut(allowed: Tensor, where: Where) -> Tensor:
    """The part of `b k n` or of `b k 1`."""
    return allowed[where] if allowed.shape[2] > 1 else allowed[where[0]]


def _at(allowed: Tensor, index: Tensor) -> Tensor:
    """Whether the class of each cell is allowed there, `b 1 n`."""
    return allowed.expand(-1, -1, index.shape[2]).gather(1, index)


def _take(part: Tensor, classes: Tensor | None, images: slice) -> Tensor:
    if classes is None:
        return part
    index = classes[images].unsqueeze(2).expand(-1, -1, part.shape[2])
    return part.gather(1, index)


def softmax_terms(
    logits: Float[Tensor, "b k n"],
    allowed: Bool[Tensor, "b k #n"] | None,
    classes: Int64[Tensor, "b j"] | None = None,
) -> tuple[Float[Tensor, "b j n"], Float[Tensor, "b n"]]:
    """Log-probabilities of some classes, and `−Σ_k (1−c_k) log(1−p_k)` of every cell.

    Neither value nor gradient overflows or loses digits for a confident network.

    Args:
        logits: finite logits of at least two classes.
        allowed: classes `c` that are not ruled out, in the image or at the cell; None = all.
        classes: classes of each image whose log-probabilities are wanted; None = all, in order.

    Returns:
        Log-softmax over all classes, at the wanted ones; and the sum over the ruled-out classes, 0
        where there are none.

    Example:
        >>> allowed = torch.tensor([[[True], [False]]])
        >>> log_probs, absent = softmax_terms(torch.tensor([[[0.0], [50.0]]]), allowed)
        >>> log_probs.round().flatten().tolist(), absent.round().item()
        ([-50.0, 0.0], 50.0)
    """
    log_probs, absent = _SoftmaxTerms.apply(logits, allowed, classes)
    return log_probs, absent
