"""From a picture to class probabilities: tiles, scales and flips."""

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torchvision.transforms.v2.functional import resize

from agmm.data.transforms import normalise
from agmm.errors import ConfigError
from agmm.models.segmenter import Segmenter
from agmm.shapes import ImageArray


def predict_probabilities(
    model: Segmenter,
    image: ImageArray,
    *,
    device: torch.device | str,
    image_scale: float = 1.0,
    tile: int | None = 1024,
    overlap: float = 0.25,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    batch_size: int = 4,
) -> Float32[Tensor, "k H W"]:
    """Probability of every class at every pixel of a picture of any size.

    The picture is resized once for each scale, cut into overlapping tiles of one size, and the
    softmax of the tiles is blended under a Hann window. Scales and flips are averaged as
    probabilities, at the resolution of the picture. The accelerator holds one batch of tiles; the
    whole picture lies in main memory.

    Args:
        model: Predicts in eval mode; the mode of every submodule is restored afterwards.
        image: RGB, 0 to 255, "H W 3".
        device: Where ``model`` lies.
        image_scale: Factor by which the training shrank its pictures (0.5 = half the side);
            multiplies every one of ``scales``.
        tile: Side of a tile in pixels of the resized picture, at least 1; None predicts every
            picture whole, as is done with a picture that is not larger than a tile.
        overlap: Share of a tile's side that it has in common with the next, in [0, 1).
        scales: Sizes at which to predict, relative to the training's; each above 0.
        flip: Average with the prediction of the mirrored picture.
        batch_size: Tiles that are predicted together, at least 1.

    Returns:
        Probabilities on the CPU; their sum over the classes is 1 at every pixel.

    Raises:
        ConfigError: An argument outside its range.

    Example:
        >>> import numpy as np
        >>> from agmm.models.segmenter import build_segmenter
        >>> model = build_segmenter("fpn", "resnet18", "none", num_classes=3)
        >>> image = np.zeros((40, 60, 3), np.uint8)
        >>> predict_probabilities(model, image, device="cpu", tile=32).shape
        torch.Size([3, 40, 60])
    """
    _check_options(image_scale, tile, overlap, scales, batch_size)
    height, width = image.shape[:2]
    picture = torch.from_numpy(image.copy()).permute(2, 0, 1)  # copy: read-only arrays warn
    # Made outside of inference mode, so that the caller may change it or train on it.
    mean = torch.zeros(model.num_classes, height, width)
    with _eval_mode(model), torch.inference_mode():
        for scale in scales:
            size = [max(1, round(side * scale * image_scale)) for side in (height, width)]
            resized = resize(picture, size, antialias=True)
            probabilities = _predict_tiles(
                model,
                resized,
                device=torch.device(device),
                tile=tile,
                overlap=overlap,
                flip=flip,
                batch_size=batch_size,
            )
            mean += resize(probabilities, [height, width], antialias=True)
    return mean.div_(len(scales))


def _predict_tiles(
    model: Segmenter,
    picture: UInt8[Tensor, "3 H W"],
    *,
    device: torch.device,
    tile: int | None,
    overlap: float,
    flip: bool,
    batch_size: int,
) -> Float32[Tensor, "k H W"]:
    height, width = picture.shape[1:]
    tile_height, tile_width = min(height, tile or height), min(width, tile or width)
    corners = list(
        itertools.product(
            _tile_starts(height, tile_height, overlap), _tile_starts(width, tile_width, overlap)
        )
    )
    window = torch.outer(_hann_window(tile_height), _hann_window(tile_width))
    total = torch.zeros(model.num_classes, height, width)
    weight = torch.zeros(height, width)
    for first in range(0, len(corners), batch_size):
        batch = corners[first : first + batch_size]
        tiles = [picture[:, y : y + tile_height, x : x + tile_width] for y, x in batch]
        probabilities = _predict_batch(model, torch.stack(tiles).to(device), flip)
        weighted = (probabilities * window.to(device)).cpu()
        for (y, x), values in zip(batch, weighted, strict=True):
            total[:, y : y + tile_height, x : x + tile_width] += values
            weight[y : y + tile_height, x : x + tile_width] += window
    return total.div_(weight)


def _predict_batch(
    model: Segmenter, pictures: UInt8[Tensor, "b 3 H W"], flip: bool
) -> Float32[Tensor, "b k H W"]:
    images = normalise(pictures, model.mean, model.std)
    probabilities: Tensor = model(images).logits.float().softmax(1)
    if flip:
        mirrored = model(images.flip(-1)).logits.float().softmax(1)
        probabilities = (probabilities + mirrored.flip(-1)) / 2
    return probabilities


def _tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """First pixels of the tiles along one side; the last tile ends with the side."""
    stride = max(1, int(tile * (1 - overlap)))
    return [*range(0, length - tile, stride), length - tile]


def _hann_window(length: int) -> Float[Tensor, " n"]:
    """sin², sampled at the centres of the pixels: above zero also at the ends."""
    return torch.sin((torch.arange(length) + 0.5) * (math.pi / length)).square()


@contextlib.contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    # train() would also wake submodules that the training keeps frozen in eval mode.
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _check_options(
    image_scale: float, tile: int | None, overlap: float, scales: Sequence[float], batch_size: int
) -> None:
    if not image_scale > 0:
        raise ConfigError(f"image_scale: expected a factor above 0, got {image_scale}; use 1.0")
    if tile is not None and tile < 1:
        raise ConfigError(
            f"tile: expected at least 1 pixel, got {tile}; pass None to predict pictures whole"
        )
    if not 0 <= overlap < 1:
        raise ConfigError(f"overlap: expected a share in [0, 1), got {overlap}; use 0.25")
    if not scales or not all(scale > 0 for scale in scales):
        raise ConfigError(
            f"scales: expected one or more factors above 0, got {list(scales)}; use [1.0]"
        )
    if batch_size < 1:
        raise ConfigError(f"batch_size: expected at least 1 tile, got {batch_size}; use 1")
