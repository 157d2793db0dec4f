"""From a picture to probabilities or classes: tiles, scales and flips."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from agmm.data.transforms import normalise
from agmm.datasets.windows import PictureRows, whole_picture
from agmm.errors import ConfigError
from agmm.inference.blending import Block, Side, blended, tiled_side
from agmm.inference.network import eval_mode, needed_arguments
from agmm.inference.resizing import RowBuffer, resized_rows
from agmm.mixture import joint_probabilities
from agmm.models.segmenter import Segmenter
from agmm.shapes import ImageArray, MaskArray


def predict_probabilities(
    model: Segmenter,
    image: ImageArray,
    *,
    objective: nn.Module | None = None,
    device: torch.device | str,
    image_scale: float = 1.0,
    tile: int | None = 1024,
    overlap: float = 0.25,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    batch_size: int | None = None,
) -> Float32[Tensor, "k H W"]:
    """Probability of every class at every pixel of a picture of any size.

    The picture is resized once for each scale, cut into overlapping tiles of one size, and the
    softmax of the tiles is blended under a Hann window. Scales and flips are averaged as
    probabilities, at the resolution of the picture. The accelerator holds one batch of tiles; main
    memory holds the result. `predict_classes` is for pictures whose result is too large for it.

    Args:
        model: Predicts in eval mode; the mode of every submodule is restored afterwards.
        image: RGB, 0 to 255, "H W 3".
        objective: The training's objective, on ``device``: one with ``joint_prediction`` (that of
            ``agmm``) is asked for its posterior, by which the probabilities are multiplied. None =
            the network alone.
        device: Where ``model`` lies.
        image_scale: Factor by which the training shrank its pictures (0.5 = half the side);
            multiplies every one of ``scales``.
        tile: Side of a tile in pixels of the resized picture, at least 1; None predicts every
            picture whole, as is done with a picture that is not larger than a tile.
        overlap: Share of a tile's side that it has in common with the next, in [0, 1).
        scales: Sizes at which to predict, relative to the training's; each above 0.
        flip: Average with the prediction of the mirrored picture.
        batch_size: Tiles that are predicted together, at least 1; None is 4 on an accelerator and
            1 on a CPU, where more take memory and save no time.

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
    check_options(image_scale, tile, overlap, scales, batch_size)
    height, width = image.shape[:2]
    # Made outside of inference mode, so that the caller may change it or train on it.
    mean = torch.zeros(model.num_classes, height, width)
    with eval_mode(model), eval_mode(objective), torch.inference_mode():
        for scale in scales:
            for block in _blocks(
                model,
                whole_picture(image),
                objective=objective,
                device=torch.device(device),
                scale=scale * image_scale,
                tile=tile,
                overlap=overlap,
                flip=flip,
                batch_size=batch_size,
            ):
                rows, columns = block.probs.shape[1:]
                place = mean[:, block.top : block.top + rows, block.left : block.left + columns]
                place += block.probs
    return mean.div_(len(scales))


def predict_classes(
    model: Segmenter,
    picture: PictureRows,
    write: Callable[[MaskArray], None],
    *,
    objective: nn.Module | None = None,
    device: torch.device | str,
    image_scale: float = 1.0,
    tile: int | None = 1024,
    overlap: float = 0.25,
    scale: float = 1.0,
    flip: bool = False,
    batch_size: int | None = None,
) -> None:
    """Most probable class at every pixel of a picture, written while it is read.

    The same as the argmax of `predict_probabilities` at one scale. Held are a band of the picture
    and of its classes, one batch of tiles, and k x (overlap of two tiles) x width floats.

    Args:
        model: As for `predict_probabilities`.
        picture: Its rows are read once.
        write: Is called with the finished rows, from top to bottom, uint8, "h W".
        objective: The training's objective, on ``device``: one with ``joint_prediction`` (that of
            ``agmm``) is asked for its posterior, by which the probabilities are multiplied. None =
            the network alone.
        device: Where ``model`` lies.
        image_scale: Factor by which the training shrank its pictures, above 0.
        tile: Side of a tile in pixels of the resized picture; None predicts it whole.
        overlap: Share of a tile's side that it has in common with the next, in [0, 1).
        scale: Size at which to predict, relative to the training's; above 0.
        flip: Average with the prediction of the mirrored picture.
        batch_size: Tiles that are predicted together, at least 1; None is 4 on an accelerator and
            1 on a CPU, where more take memory and save no time.

    Raises:
        ConfigError: An argument outside its range.
        AgmmError: What reading the picture raises.

    Example:
        >>> import numpy as np
        >>> from agmm.models.segmenter import build_segmenter
        >>> model = build_segmenter("fpn", "resnet18", "none", num_classes=3)
        >>> rows = []
        >>> picture = whole_picture(np.zeros((40, 60, 3), np.uint8))
        >>> predict_classes(model, picture, rows.append, device="cpu", tile=32)
        >>> [part.shape for part in rows]
        [(8, 60), (32, 60)]
    """
    check_options(image_scale, tile, overlap, [scale], batch_size)
    with eval_mode(model), eval_mode(objective), torch.inference_mode():
        blocks = _blocks(
            model,
            picture,
            objective=objective,
            device=torch.device(device),
            scale=scale * image_scale,
            tile=tile,
            overlap=overlap,
            flip=flip,
            batch_size=batch_size,
        )
        for _, band in itertools.groupby(blocks, key=lambda block: block.band):
            write(_classes(band, picture.width))


def predict_mask(
    model: Segmenter, image: ImageArray, *, scales: Sequence[float] = (1.0,), **options: Any
) -> MaskArray:
    """Most probable class at every pixel of a picture in memory.

    At one scale no more than a band of probabilities is held; with several it is all of them.

    Args:
        model: As for `predict_probabilities`.
        image: RGB, 0 to 255, "H W 3".
        scales: Sizes at which to predict, relative to the training's; each above 0.
        options: The others of `predict_probabilities`.

    Returns:
        The argmax of `predict_probabilities`, uint8, "H W".

    Raises:
        ConfigError: An argument outside its range.

    Example:
        >>> import numpy as np
        >>> from agmm.models.segmenter import build_segmenter
        >>> model = build_segmenter("fpn", "resnet18", "none", num_classes=3)
        >>> predict_mask(model, np.zeros((40, 60, 3), np.uint8), device="cpu").shape
        (40, 60)
    """
    if len(scales) != 1:
        probs = predict_probabilities(model, image, scales=scales, **options)
        return probs.argmax(0).byte().numpy()
    rows: list[MaskArray] = []
    predict_classes(model, whole_picture(image), rows.append, scale=scales[0], **options)
    return np.concatenate(rows)


def _classes(blocks: Iterable[Block], width: int) -> MaskArray:
    """The classes of a band of blocks, which come from left to right."""
    parts = [(block.left, block.probs.max(0).indices.byte().numpy()) for block in blocks]
    columns = itertools.groupby(parts, key=lambda part: part[0])
    classes = np.hstack([np.vstack([part for _, part in column]) for _, column in columns])
    assert classes.shape[1] == width
    return classes


def _blocks(
    model: Segmenter,
    picture: PictureRows,
    *,
    objective: nn.Module | None,
    device: torch.device,
    scale: float,
    tile: int | None,
    overlap: float,
    flip: bool,
    batch_size: int | None,
) -> Iterator[Block]:
    """Probabilities at the size of the picture, in blocks; to be used up in inference mode."""
    height, width = (max(1, round(side * scale)) for side in (picture.height, picture.width))
    rows = tiled_side(picture.height, height, tile, overlap)
    columns = tiled_side(picture.width, width, tile, overlap)
    tiles = _tiles(resized_rows(picture, height, width), rows, columns)
    at_once = batch_size or (1 if device.type == "cpu" else 4)
    batches = iter(lambda: list(itertools.islice(tiles, at_once)), [])
    # Chained, as the variable of a loop would keep a tile while the next batch is predicted.
    predicted = itertools.chain.from_iterable(
        _predict_batch(model, objective, torch.stack(batch).to(device), flip) for batch in batches
    )
    return blended(predicted, rows, columns, model.num_classes)


def _tiles(picture: PictureRows, rows: Side, columns: Side) -> Iterator[UInt8[Tensor, "3 h w"]]:
    """The tiles of a picture, row by row."""
    buffer = RowBuffer(picture.chunks)
    for row in rows.steps:
        band = buffer.rows(row.first, row.stop)
        for column in columns.steps:
            part = band[:, column.first : column.stop]
            yield torch.from_numpy(part.copy()).permute(2, 0, 1)  # copy: read-only arrays warn


def _predict_batch(
    model: Segmenter,
    objective: nn.Module | None,
    pictures: UInt8[Tensor, "b 3 h w"],
    flip: bool,
) -> Iterator[Float32[Tensor, "k h w"]]:
    """Probabilities of each picture, in main memory: of the logits there is no second batch."""
    images = normalise(pictures, model.mean, model.std)
    plain = _probabilities(model, objective, images)
    if not flip:
        yield from plain
        return
    mirrored = _probabilities(model, objective, images.flip(-1))
    for one, other in zip(plain, mirrored, strict=True):
        yield (one + other.flip(-1)) / 2


def _probabilities(
    model: Segmenter, objective: nn.Module | None, images: Float[Tensor, "b 3 h w"]
) -> Iterator[Float32[Tensor, "k h w"]]:
    output = model(images)
    posterior: Tensor | None = None
    if objective is not None and getattr(objective, "joint_prediction", False):
        asked: Any = objective
        needed = needed_arguments(objective, images)
        posterior = asked.unlabelled_posterior(output.logits, output.features, **needed).float()
    for index, logits in enumerate(output.logits):
        probs = logits.float().softmax(0)
        if posterior is not None:
            probs = joint_probabilities(probs[None], posterior[index, None])[0]
        yield probs.cpu()


def check_options(
    image_scale: float = 1.0,
    tile: int | None = 1024,
    overlap: float = 0.25,
    scales: Sequence[float] = (1.0,),
    batch_size: int | None = None,
) -> None:
    """Make sure that the arguments of a prediction are in their ranges.

    Raises:
        ConfigError: If one is not.

    Example:
        >>> check_options(tile=64, scales=(0.75, 1.0))
    """
    if not 0 < image_scale < math.inf:
        raise ConfigError(f"image_scale: expected a factor above 0, got {image_scale}; use 1.0")
    if tile is not None and tile < 1:
        raise ConfigError(
            f"tile: expected at least 1 pixel, got {tile}; use 1024, or a side longer than the"
            " pictures' to predict them whole"
        )
    if not 0 <= overlap < 1:
        raise ConfigError(f"overlap: expected a share in [0, 1), got {overlap}; use 0.25")
    if not scales or not all(0 < scale < math.inf for scale in scales):
        raise ConfigError(
            f"scales: expected one or more factors above 0, got"
            f" {' '.join(map(str, scales)) or 'none'}; use 1.0"
        )
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"batch_size: expected at least 1 tile, got {batch_size}; use 1")
