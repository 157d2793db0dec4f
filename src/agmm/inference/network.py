"""How a network and its objective are called outside of training."""

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms

from agmm.data.transforms import normalise
from agmm.models.segmenter import Segmenter
from agmm.shapes import ImageArray


@contextlib.contextmanager
def eval_mode(model: nn.Module | None) -> Iterator[None]:
    """A network in eval mode; the mode of every submodule is restored afterwards.

    Args:
        model: The network; None is let through.

    Example:
        >>> model = nn.Dropout()
        >>> with eval_mode(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    # train() would also wake submodules that the training keeps frozen in eval mode.
    training = [] if model is None else [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def whole_input(
    model: Segmenter, image: ImageArray, image_scale: float
) -> Float[Tensor, "1 3 h w"]:
    """A whole picture as the network takes it.

    Args:
        model: The network.
        image: RGB picture, ``H W 3``, uint8.
        image_scale: Factor on the picture's size that the network was trained with.

    Returns:
        The picture resized and normalised, on the CPU.

    Example:
        >>> import numpy as np
        >>> from agmm.models.segmenter import build_segmenter
        >>> model = build_segmenter("fpn", "resnet18", "none", num_classes=3)
        >>> whole_input(model, np.zeros((40, 60, 3), np.uint8), 0.5).shape
        torch.Size([1, 3, 20, 30])
    """
    size = [max(1, round(side * image_scale)) for side in image.shape[:2]]
    picture = torch.from_numpy(image.copy()).permute(2, 0, 1)
    resized = transforms.resize(picture, size, antialias=True)
    return normalise(resized, model.mean, model.std)[None]


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
