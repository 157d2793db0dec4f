"""What an objective asks for beside logits, features and labels."""

from jaxtyping import Float
from torch import Tensor, nn


def needed_arguments(objective: nn.Module, images: Float[Tensor, "b 3 H W"]) -> dict[str, Tensor]:
    """The arguments that an objective declares in ``needs``, but for those of a teacher.

    Args:
        objective: With the contract of :class:`agmm.mixture.AGMMLoss`; most need nothing.
        images: The network's input.

    Returns:
        The arguments by name.

    Example:
        >>> import torch
        >>> from agmm.mixture import AGMMLoss
        >>> objective = AGMMLoss(num_classes=2, feature_channels=3)
        >>> list(needed_arguments(objective, torch.zeros(1, 3, 8, 8)))
        ['images']
    """
    return {"images": images} if "images" in getattr(objective, "needs", ()) else {}
