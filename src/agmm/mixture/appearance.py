"""Colour and position of the cells as further channels of the features."""

import torch
from jaxtyping import Float
from torch import Tensor

APPEARANCE_CHANNELS = 5
"""Three of colour, two of position."""


def with_appearance(
    features: Float[Tensor, "b d n"],
    colours: Float[Tensor, "b 3 h w"],
    weight: float,
) -> Float[Tensor, "b e n"]:
    """Features with the mean colour and the place of each cell beside them.

    The new channels are scaled so that the mean squared distance over all channels is about that
    of the features plus `weight²` times that of colour and position.

    Args:
        features: features of the cells.
        colours: colours of the cells, in the units of the network's input (about 1 per standard
            deviation of a colour).
        weight: weight of colour and position, at least 0. Positions run from −1 to 1.

    Returns:
        Features and five more channels.

    Example:
        >>> features, colours = torch.zeros(1, 5, 2), torch.ones(1, 3, 1, 2)
        >>> with_appearance(features, colours, weight=1.0)[0, 5:].T.tolist()
        [[1.0, 1.0, 1.0, 0.0, -0.5], [1.0, 1.0, 1.0, 0.0, 0.5]]
    """
    rows, columns = size = colours.shape[2:]
    colours = colours.detach().to(features.dtype)
    down, right = (
        (2 * torch.arange(cells, device=features.device, dtype=features.dtype) + 1) / cells - 1
        for cells in size
    )
    position = torch.stack([down[:, None].expand(size), right.expand(size)])
    position = position.expand(len(features), 2, rows, columns)
    scale = weight * (features.shape[1] / APPEARANCE_CHANNELS) ** 0.5
    return torch.cat([features, scale * torch.cat([colours, position], 1).flatten(2)], 1)
