"""Random views of a training picture that never lose a labelled pixel inside the crop."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from agmm.labels.resizing import resize_candidates, resize_seeds
from agmm.shapes import IGNORE_INDEX


class Seeds(tv_tensors.Mask):  # type: ignore[misc]
    """Seeds of a picture; resized so that a single clicked pixel survives."""


class Candidates(tv_tensors.Mask):  # type: ignore[misc]
    """1 where a class may occur, a plane per class; resized so that no seed is excluded."""


class Valid(tv_tensors.Mask):  # type: ignore[misc]
    """1 where a pixel belongs to the picture, 0 where it is padding."""


@v2.functional.register_kernel(functional="resize", tv_tensor_cls=Seeds)  # type: ignore[untyped-decorator]
def _resize_seeds(seeds: Seeds, size: list[int], **_: Any) -> Tensor:
    """Resize by `agmm.labels.resizing.resize_seeds`; interpolation does not apply."""
    height, width = size
    resized = torch.from_numpy(
        resize_seeds(seeds.squeeze(0).numpy().astype(np.uint8), height, width)
    )
    wrapped: Tensor = tv_tensors.wrap(resized[None], like=seeds)
    return wrapped


@v2.functional.register_kernel(functional="resize", tv_tensor_cls=Candidates)  # type: ignore[untyped-decorator]
def _resize_candidates(candidates: Candidates, size: list[int], **_: Any) -> Tensor:
    """Resize by `agmm.labels.resizing.resize_candidates`; interpolation does not apply."""
    resized = resize_candidates(candidates.bool().numpy(), *size)
    wrapped: Tensor = tv_tensors.wrap(torch.from_numpy(resized.view(np.uint8)), like=candidates)
    return wrapped


class RandomScale(v2.Transform):  # type: ignore[misc]
    """Resize by a factor drawn uniformly from a range, the same for height and width."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the factor; the new size is rounded and at least one pixel."""
        height, width = v2.query_size(flat_inputs)
        factor = self.low + (self.high - self.low) * torch.rand(()).item()
        return {"size": [max(1, round(height * factor)), max(1, round(width * factor))]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize one of picture, seeds, candidates and validity to the drawn size."""
        return self._call_kernel(F.resize, inpt, size=params["size"], antialias=True)


class RandomHue(v2.Transform):  # type: ignore[misc]
    """Turn the colours of the picture by a part of the circle drawn uniformly, both ways.

    In place of torchvision's hue, which takes some seven times as long, a third of a view's time.

    Args:
        most: Largest part of the colour circle, 0 to 0.5.
    """

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = most

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002 - v2's own name
        """Draw the part of the circle."""
        return {"part": self.most * (2 * torch.rand(()).item() - 1)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Turn a picture; leave labels and validity."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        return tv_tensors.wrap(turn_hue(inpt.as_subclass(Tensor), params["part"]), like=inpt)


def turn_hue(image: Tensor, part: float) -> Tensor:
    """Turn the colours of a uint8 RGB picture (3, H, W) about the axis of the greys.

    The mean of the three channels stays, and greys stay as they are.

    Args:
        image: The picture.
        part: Part of the circle; a third makes red green.

    Returns:
        The picture in its new colours, rounded and clipped to 0 to 255.

    Example:
        >>> turn_hue(torch.tensor([200, 0, 0], dtype=torch.uint8).view(3, 1, 1), 1 / 3).flatten()
        tensor([  0, 200,   0], dtype=torch.uint8)
    """
    angle = 2 * math.pi * part
    own, other = math.cos(angle), (1 - math.cos(angle)) / 3
    left, right = other - math.sin(angle) / 3**0.5, other + math.sin(angle) / 3**0.5
    rotation = torch.tensor(
        [[own + other, left, right], [right, own + other, left], [left, right, own + other]]
    )
    turned = rotation @ image.flatten(1).float()
    return turned.round_().clamp_(0, 255).to(torch.uint8).view_as(image)


def training_view(
    *, scale: tuple[float, float], crop: tuple[int, int], color_jitter: float
) -> v2.Transform:
    """Random scale, crop, horizontal flip and colours of a picture with its labels.

    Smaller pictures are padded: the picture with black, the seeds with 255, candidates with 1,
    valid with 0.

    Args:
        scale: Lowest and highest factor on the picture's size.
        crop: Height and width of the result in pixels.
        color_jitter: Strength of brightness, contrast and saturation, 0 to 1; the hue is turned
            by a tenth of it, in parts of the circle.

    Returns:
        A transform of any of ``tv_tensors.Image``, `Seeds`, `Candidates` and `Valid` together,
        that draws from torch's generator; what it draws does not depend on which there are.
    """
    fill: Mapping[type, int] = {tv_tensors.Image: 0, Seeds: IGNORE_INDEX, Candidates: 1, Valid: 0}
    steps: list[v2.Transform] = [
        RandomScale(*scale),
        v2.RandomCrop(crop, pad_if_needed=True, fill=dict(fill)),
        v2.RandomHorizontalFlip(),
    ]
    if color_jitter:
        steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
        steps.append(RandomHue(color_jitter / 10))
    return v2.Compose(steps)


def normalise(
    image: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """A uint8 RGB picture (3, H, W) as float32, minus ``mean``, over ``std`` (both in 0..1)."""
    as_float = F.to_dtype(image.as_subclass(Tensor), torch.float32, scale=True)
    normalised: Tensor = F.normalize(as_float, list(mean), list(std))
    return normalised
