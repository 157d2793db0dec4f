"""The gated CRF loss: neighbours of the same colour shall have the same class.

Obukhov, Georgoulis, Dai & Van Gool, *Gated CRF Loss for Weakly Supervised Semantic Image
Segmentation*, 2019 (arXiv 1906.04651), and the settings of the code released with it: one kernel
of colour and position (σ 0.1 and 6), radius 5, weight 0.1, Potts, on a quarter of the resolution,
cells that touch padding gated out. What differs here: a gated cell neither sends nor receives
(there it does not send); the loss is on from the first step (there after 0.5 % of them); and the
kernel is never unfolded, so that the memory does not grow with the window.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from agmm.errors import ConfigError
from agmm.mixture import Need, ObjectiveOutput, partial_cross_entropy
from agmm.mixture.grid import reduce_to_grid
from agmm.mixture.inputs import Batch
from agmm.mixture.pooling import area_average
from agmm.tensors import Features, Images, Logits, Masks, ValidPixels
from agmm.training.baselines import Candidates, output_of

Window = tuple[slice, slice]


class GatedCRFLoss(nn.Module):
    """Cross-entropy on the labelled pixels, the gated CRF loss on all.

    ``CE(seeds, p) + weight·gated_crf(p, picture)``, the second on the grid of the features, with
    the softmax of the mean logits and the mean colours of each cell. Colours are in the units of
    the network's input, standard deviations of its pretraining, as in the released code.

    Args:
        weight: Weight of the gated CRF loss.
        sigma_rgb: Difference of colour that two cells of one class may have.
        sigma_xy: Distance over which neighbours matter, in cells.
        radius: Cells to each side of the window in which pairs are looked at.

    Raises:
        ConfigError: If an option is out of its range.

    Example:
        >>> loss = GatedCRFLoss()
        >>> seeds, images = torch.tensor([[[0, 255]]]), torch.zeros(1, 3, 1, 2)
        >>> out = loss(torch.zeros(1, 2, 1, 2), torch.zeros(1, 3, 1, 2), seeds, images=images)
        >>> sorted(out.terms)
        ['gated_crf', 'partial_cross_entropy']
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"images"})

    def __init__(
        self,
        *,
        weight: float = 0.1,
        sigma_rgb: float = 0.1,
        sigma_xy: float = 6.0,
        radius: int = 5,
    ) -> None:
        super().__init__()
        if not 0 <= weight < float("inf"):
            raise ConfigError(f"weight: expected a weight of at least 0, got {weight}; 0 is off")
        for name, sigma in (("sigma_rgb", sigma_rgb), ("sigma_xy", sigma_xy)):
            if not 0 < sigma < float("inf"):
                raise ConfigError(f"{name}: expected above 0, got {sigma}; leave out the default")
        if radius < 1:
            raise ConfigError(f"radius: expected at least 1 cell, got {radius}; try 5")
        self.weight, self.sigma_rgb, self.sigma_xy = weight, sigma_rgb, sigma_xy
        self.radius = radius

    def forward(
        self,
        logits: Logits,
        features: Features,
        seeds: Masks,
        candidates: Candidates = None,
        valid: ValidPixels | None = None,
        *,
        images: Images | None = None,
    ) -> ObjectiveOutput:
        """The loss of a batch; without ``images`` only the labelled pixels count."""
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            terms = {"partial_cross_entropy": partial_cross_entropy(logits, seeds, valid)}
            grid = reduce_to_grid(logits, features.float(), seeds, candidates, valid)
            if images is not None:
                size = (features.shape[2], features.shape[3])
                term = gated_crf(
                    grid.logits.softmax(1).reshape(*grid.logits.shape[:2], *size),
                    area_average(images.float(), size),
                    _whole_cells(valid, seeds, size),
                    sigma_rgb=self.sigma_rgb,
                    sigma_xy=self.sigma_xy,
                    radius=self.radius,
                )
                terms["gated_crf"] = self.weight * term
        return output_of(terms, Batch(logits, features, seeds, candidates, valid))


def gated_crf(
    probs: Float[Tensor, "b k h w"],
    colors: Float[Tensor, "b c h w"],
    gate: Bool[Tensor, "b h w"],
    *,
    sigma_rgb: float = 0.1,
    sigma_xy: float = 6.0,
    radius: int = 5,
) -> Float[Tensor, ""]:
    """Energy of a CRF with the Potts model in local windows, per cell.

    ``Σ_i Σ_{j≠i} K_ij (1 − p_i·p_j) / number of cells`` over ordered pairs of open cells at most
    ``radius`` apart in each direction, with
    ``K_ij = exp(−‖x_i − x_j‖² / 2σ_xy² − ‖c_i − c_j‖² / 2σ_rgb²)``.

    Args:
        probs: Probabilities of the classes.
        colors: Colours of the cells; no gradient goes through them.
        gate: Cells that count, as sender and as receiver.
        sigma_rgb: Width of the kernel in the units of the colours.
        sigma_xy: Width of the kernel in cells.
        radius: Cells to each side of the window.

    Returns:
        The energy over the number of open cells, at least 0; 0 if there is none.

    Example:
        >>> probs = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])  # two cells, two classes
        >>> gate, same = torch.tensor([[[True, True]]]), torch.zeros(1, 3, 1, 2)
        >>> round(gated_crf(probs, same, gate, sigma_xy=1.0).item(), 4)  # exp(-1/2)
        0.6065
    """
    energy: Tensor = _PottsEnergy.apply(probs, colors.detach() / sigma_rgb, gate, sigma_xy, radius)
    return energy / gate.sum().clamp(min=1)


class _PottsEnergy(torch.autograd.Function):
    """Sum over pairs of `K_ij (1 − p_i·p_j)`, one offset of the window at a time.

    As the kernel is symmetric, half of the offsets suffice, and the gradient is `−2 Σ_j K_ij p_j`,
    which the forward pass gathers anyway. Beside that, no more than one offset is in memory.
    """

    @staticmethod
    def forward(
        ctx: Any, probs: Tensor, colors: Tensor, gate: Tensor, sigma_xy: float, radius: int
    ) -> Tensor:
        messages = torch.zeros_like(probs)  # Σ_j K_ij p_j
        total = probs.new_zeros(())  # Σ_ij K_ij
        height, width = gate.shape[1:]
        for here, there, squared in _offsets(height, width, radius):
            exponent = (colors[:, :, *here] - colors[:, :, *there]).square().sum(1)
            kernel = (-0.5 * (exponent + squared / sigma_xy**2)).exp().to(probs.dtype)
            kernel = (kernel * (gate[:, *here] & gate[:, *there])).unsqueeze(1)
            messages[:, :, *here].addcmul_(kernel, probs[:, :, *there])
            messages[:, :, *there].addcmul_(kernel, probs[:, :, *here])
            total += 2 * kernel.sum()
        ctx.save_for_backward(messages)
        return total - (probs * messages).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (messages,) = ctx.saved_tensors
        return -2 * gradient * messages, None, None, None, None


def _offsets(height: int, width: int, radius: int) -> Iterator[tuple[Window, Window, int]]:
    """Half of the window: the cells that have a neighbour at an offset, these, and distance²."""
    for down in range(min(radius, height - 1) + 1):
        for right in range(-min(radius, width - 1), min(radius, width - 1) + 1):
            if down == 0 and right <= 0:
                continue
            rows = slice(0, height - down), slice(down, height)
            columns = slice(0, width - right), slice(right, width)
            if right < 0:
                columns = slice(-right, width), slice(0, width + right)
            yield (rows[0], columns[0]), (rows[1], columns[1]), down**2 + right**2


def _whole_cells(
    valid: ValidPixels | None, like: Masks, size: tuple[int, int]
) -> Bool[Tensor, "b h w"]:
    """Cells that touch no padding."""
    if valid is None:
        return torch.ones(len(like), *size, dtype=torch.bool, device=like.device)
    return area_average((~valid).unsqueeze(1).float(), size).squeeze(1) == 0
