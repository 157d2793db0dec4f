"""Colour and position of the cells as further channels of the features."""

import torch
from jaxtyping import Float
from torch import Tensor

from agmm.mixture.kernels import area_average

APPEARANCE_CHANNELS = 5
"""Three of colour, two of position."""


def with_appearance(
    features: Float[Tensor, "b d n"],
    images: Float[Tensor, "b 3 H W"],
    size: tuple[int, int],
    weight: float,
) -> Float[Tensor, "b e n"]:
    """Features with the mean colour and the place of each cell beside them.

    The new channels are scaled so that the mean squared distance over all channels is about that
    of the features plus `weight²` times that of colour and position.

    Args:
        features: features of the cells.
        images: what the network saw, in its units (about 1 per standard deviation of a colour).
        size: rows and columns of the grid, n cells in all.
        weight: weight of colour and position, at least 0. Positions run from −1 to 1.

    Returns:
        Features and five more channels.

    Example:
        >>> features, images = torch.zeros(1, 5, 2), torch.ones(1, 3, 4, 8)
        >>> with_appearance(features, images, (1, 2), weight=1.0)[0, 5:].T.tolist()
        [[1.0, 1.0, 1.0, 0.0, -0.5], [1.0, 1.0, 1.0, 0.0, 0.5]]
    """
    rows, columns = size
    colour = area_average(images.detach().to(features.dtype), size)
    down, right = (
        (2 * torch.arange(cells, device=features.device, dtype=features.dtype) + 1) / cells - 1
        for cells in size
    )
    position = torch.stack([down[:, None].expand(size), right.expand(size)])
    position = position.expand(len(features), 2, rows, columns)
    scale = weight * (features.shape[1] / APPEARANCE_CHANNELS) ** 0.5
    return torch.cat([features, scale * torch.cat([colour, position], 1).flatten(2)], 1)
