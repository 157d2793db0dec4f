"""From tags to seeds: class activation maps, refined at the picture's edges, then thresholds."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, pad
from torchvision.transforms.v2.functional import resize

from agmm.config import CamConfig
from agmm.data.transforms import normalise
from agmm.errors import ConfigError, InputError
from agmm.models.classifier import Classifier
from agmm.shapes import IGNORE_INDEX, ImageArray, MaskArray

Maps = Float32[Tensor, "n H W"]
Plane = Float32[np.ndarray, "H W"]
Index = Int64[np.ndarray, "H W"]

GRID_STRIDE = 4
"""Pixels per cell of the grid on which the maps of all scales are averaged and refined."""

_DILATIONS = (1, 2, 4, 8, 12)  # of the 3x3 neighbourhoods, in cells
_COLOUR_WIDTH = 0.3  # in standard deviations of the neighbours' colours
_DISTANCE_WIDTH, _DISTANCE_WEIGHT = 0.3, 0.01
_EPSILON = 1e-6
_OFFSETS = tuple(
    (dilation * dy, dilation * dx)
    for dilation in _DILATIONS
    for dy, dx in itertools.product((-1, 0, 1), repeat=2)
    if (dy, dx) != (0, 0)
)


def activation_maps(
    model: Classifier,
    image: ImageArray,
    classes: Sequence[int],
    *,
    device: torch.device | str,
    scales: Sequence[float] = CamConfig.scales,
    flip: bool = CamConfig.flip,
    refine: int = CamConfig.refine,
) -> Maps:
    """Class activation maps of a picture, for the classes that are known to be in it.

    ``M_k = max(0, w_k · f + b_k)`` (Zhou et al., CVPR 2016, with the classifier's bias), averaged
    over scales and the mirrored picture before the rectification, divided by its maximum over the
    picture, refined by `refine_maps`, and divided by its maximum again.

    Args:
        model: A trained classifier; it is put into eval mode.
        image: RGB, 0 to 255, "H W 3".
        classes: The n classes in the picture, without the background; may be empty.
        device: Where ``model`` lies.
        scales: Factors on the picture's size, each above 0.
        flip: Average with the maps of the mirrored picture.
        refine: Iterations of the refinement; 0 = none.

    Returns:
        (n, H, W) in 0..1, on the CPU. A map that is nowhere above 0 stays 0.

    Raises:
        ConfigError: A scale that is not above 0, or a negative number of iterations.
        InputError: A class that the classifier does not know.

    Example:
        >>> from agmm.models.classifier import build_classifier
        >>> model = build_classifier("resnet10t", "none", num_classes=3)
        >>> image = np.zeros((40, 60, 3), np.uint8)
        >>> activation_maps(model, image, [0, 2], device="cpu").shape
        torch.Size([2, 40, 60])
    """
    _check(model, classes, scales, refine)
    height, width = image.shape[:2]
    if not classes:
        return torch.zeros(0, height, width)
    model.eval()
    picture = torch.from_numpy(image.copy()).permute(2, 0, 1)  # copy: read-only arrays warn
    grid = (-(-height // GRID_STRIDE), -(-width // GRID_STRIDE))
    with torch.inference_mode():
        mean = torch.zeros(len(classes), *grid, device=device)
        for scale in scales:
            size = [max(1, round(side * scale)) for side in (height, width)]
            resized = normalise(resize(picture, size, antialias=True), model.mean, model.std)
            views = [resized, resized.flip(-1)] if flip else [resized]
            maps = model.maps(torch.stack(views).to(device))[:, list(classes)].float()
            on_grid = _on_grid(maps, model.stride, size, grid)
            mean += (on_grid[0] + on_grid[1].flip(-1)) / 2 if flip else on_grid[0]
        maps = _normalised(mean.clamp_(min=0))
        if refine:
            colours = resize(picture, list(grid), antialias=True).to(device)
            maps = _normalised(refine_maps(maps, colours.float() / 255, refine))
        full = interpolate(maps[None], (height, width), mode="bilinear", align_corners=False)
    return full[0].cpu().clone()  # a copy outside of inference mode, which the caller may change


def refine_maps(
    maps: Float[Tensor, "n h w"], colours: Float[Tensor, "3 h w"], iterations: int
) -> Float[Tensor, "n h w"]:
    """Pixel-adaptive refinement: every cell becomes a mean of its neighbours of like colour.

    ``M ← Σ_j a_ij M_j`` over the 8 neighbours j at each of several distances, with ``a_ij`` the
    softmax over j of ``−(|I_i − I_j| / (w s_i))²`` (mean over the channels; ``s_i`` the standard
    deviation of the neighbours) plus a small share of the same of their distance. Ru et al.,
    "Learning Affinity from Attention", CVPR 2022, section 3.4; nothing is trained.

    Args:
        maps: (n, h, w).
        colours: The picture at the maps' size, (3, h, w), RGB in 0..1.
        iterations: How often, at least 0.

    Returns:
        (n, h, w), within the range of ``maps``.

    Example:
        >>> picture = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(3, 4, 4)
        >>> maps = torch.tensor([0.5, 1.0, 0.0, 0.0]).expand(1, 4, 4)
        >>> [round(value) for value in (100 * refine_maps(maps, picture, 9))[0, 0].tolist()]
        [57, 57, 1, 0]
    """
    weights = _affinities(colours)
    for _ in range(iterations):
        refined = torch.zeros_like(maps)
        for weight, neighbours in zip(weights, _neighbours(maps), strict=True):
            refined.addcmul_(neighbours, weight)
        maps = refined
    return maps


def strongest_maps(maps: Maps, classes: Sequence[int]) -> tuple[Plane, Index, Plane]:
    """Value and index of the strongest map at every pixel, and the value of the second.

    Args:
        maps: One map per class, (n, H, W) in 0..1.
        classes: The n classes.

    Returns:
        Three arrays (H, W): the strongest value, its place in ``classes``, and the second value.
        A map that is not there counts as 0, and the place is 0 where there is none.

    Raises:
        InputError: The numbers of maps and classes differ.

    Example:
        >>> strongest, index, second = strongest_maps(torch.tensor([[[0.5]], [[0.75]]]), [3, 7])
        >>> strongest.item(), index.item(), second.item()
        (0.75, 1, 0.5)
    """
    if len(maps) != len(classes):
        raise InputError(
            f"maps: expected one per class, got {len(maps)} maps and {len(classes)} classes; "
            f"give the classes that the maps were made for"
        )
    nothing = np.zeros(maps.shape[1:], np.float32)
    if not len(maps):
        return nothing, np.zeros(maps.shape[1:], np.int64), nothing
    values, indices = (result.numpy() for result in maps.topk(min(2, len(maps)), dim=0))
    return values[0], indices[0], values[1] if len(maps) > 1 else nothing


def cam_seeds(
    maps: Maps,
    classes: Sequence[int],
    background: int | None,
    *,
    foreground: float = CamConfig.foreground,
    background_below: float = CamConfig.background,
    margin: float = CamConfig.margin,
) -> MaskArray:
    """The pixels of a picture whose class the maps know with confidence.

    Args:
        maps: One map per class, (n, H, W) in 0..1; also from another tool.
        classes: The n classes.
        background: Index of the background class; None = the data set has none.
        foreground: A pixel is a seed of its strongest class from this value on, 0 to 1,
        background_below: a seed of the background up to this value of the strongest class, 0 to 1,
        margin: and unlabelled if the second class comes closer to the strongest than this.

    Returns:
        (H, W), 255 = unlabelled. Without a class all is background. Where there are classes, but
        no map is above 0 anywhere, nothing is labelled: they may be anywhere.

    Raises:
        InputError: The numbers of maps and classes differ.

    Example:
        >>> maps = torch.tensor([[[0.9, 0.5, 0.0]], [[0.1, 0.45, 0.1]]])
        >>> cam_seeds(maps, [3, 7], 0, foreground=0.4, background_below=0.2, margin=0.1).tolist()
        [[3, 255, 0]]
    """
    best, index, second = strongest_maps(maps, classes)
    seeds = np.full(best.shape, IGNORE_INDEX, np.uint8)
    if len(classes) and not best.any():
        return seeds
    if background is not None:
        seeds[best <= background_below] = background
    if len(classes):
        confident = (best >= foreground) & (best - second >= margin)
        seeds[confident] = np.asarray(classes, np.uint8)[index[confident]]
    return seeds


def _check(model: Classifier, classes: Sequence[int], scales: Sequence[float], refine: int) -> None:
    if not scales or not all(scale > 0 for scale in scales):
        raise ConfigError(
            f"scales: expected one or more factors above 0, got {list(scales)}; use [1.0]"
        )
    if refine < 0:
        raise ConfigError(f"refine: expected at least 0 iterations, got {refine}; 0 is off")
    if unknown := [k for k in classes if not 0 <= k < model.num_classes]:
        raise InputError(
            f"classes: expected 0 to {model.num_classes - 1}, got {unknown[0]}; "
            f"use the classifier of this data set"
        )


def _on_grid(
    maps: Float[Tensor, "b n rows columns"], stride: int, size: list[int], grid: tuple[int, int]
) -> Float[Tensor, "b n h w"]:
    """The maps at the cells of a grid over the picture, whose edge may cut their last cells."""
    covered = [side / (cells * stride) for side, cells in zip(size, maps.shape[2:], strict=True)]
    down, right = covered
    # Of -1..1 over the maps the picture takes the part from -1 to 2 * covered - 1.
    theta = torch.tensor([[right, 0.0, right - 1], [0.0, down, down - 1]], device=maps.device)
    where = affine_grid(theta.expand(len(maps), 2, 3), [len(maps), 1, *grid], align_corners=False)
    return grid_sample(maps, where, padding_mode="border", align_corners=False)


def _normalised(maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=_EPSILON)


def _neighbours(values: Float[Tensor, "c h w"]) -> list[Float[Tensor, "c h w"]]:
    """The values at each offset from every cell; beyond the border the border repeats."""
    height, width = values.shape[1:]
    reach = max(_DILATIONS)
    padded = pad(values[None], (reach, reach, reach, reach), mode="replicate")[0]
    return [
        padded[:, reach + dy : reach + dy + height, reach + dx : reach + dx + width]
        for dy, dx in _OFFSETS
    ]


def _affinities(colours: Float[Tensor, "3 h w"]) -> Float[Tensor, "o h w"]:
    """How much each neighbour counts in every cell; the sum over the neighbours is 1."""
    around = torch.stack(_neighbours(colours))  # (o, 3, h, w)
    width = _COLOUR_WIDTH * (around.std(0) + _EPSILON)
    like = -((around - colours) / width).square().mean(1)
    steps = torch.tensor(_OFFSETS, dtype=colours.dtype, device=colours.device).norm(dim=1)
    near = -(steps / (_DISTANCE_WIDTH * steps.std())).square()
    mixed: Tensor = like.softmax(0) + _DISTANCE_WEIGHT * near.softmax(0)[:, None, None]
    return mixed / (1 + _DISTANCE_WEIGHT)
