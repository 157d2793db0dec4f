"""Checks of what the objectives are called with."""

from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from agmm.errors import ConfigError, InputError
from agmm.shapes import IGNORE_INDEX

LARGEST_COLOUR = 50.0
"""More standard deviations than any picture has: those of 0 to 255 were not normalised."""

Need = Literal["teacher", "images"]
"""What an objective may take beside logits, features and labels, as its attribute `needs` says:
`teacher_logits` and `teacher_features` of a steadier network, or `images`, the network's input."""


class ObjectiveOutput(NamedTuple):
    """What an objective returns.

    Attributes:
        loss: the sum of the terms, to call `backward()` on.
        terms: every term as it enters the sum, weight and warm-up included, without gradient.
        posterior: probability of each class at each cell of the feature grid under the mixture,
            `b k h w`, without gradient; sums to 1 over the candidates and is 0 elsewhere.
        support: what the neighbours of a cell that are like it say of the classes on average, each
            by itself; sums to 1. In evaluation mode, from objectives that look at neighbours.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    posterior: Tensor
    support: Tensor | None = None


def readable(tensor: Tensor) -> bool:
    """Whether a look at the values is free: on the CPU, unless a graph is being compiled.

    On an accelerator the look would wait for the device.

    Args:
        tensor: where the values lie.

    Returns:
        Whether Python may branch on the values.

    Example:
        >>> readable(torch.zeros(1)), readable(torch.zeros(1, device="meta"))
        (True, False)
    """
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def check_sizes(num_classes: int, feature_channels: int) -> None:
    """Check the sizes that an objective is built for.

    Args:
        num_classes: number of classes, 2 to 255.
        feature_channels: number of feature channels, at least 1.

    Raises:
        ConfigError: if a size is out of range.

    Example:
        >>> check_sizes(21, 256)
    """
    if not 2 <= num_classes <= IGNORE_INDEX:
        raise ConfigError(
            f"num_classes: expected 2 to {IGNORE_INDEX} ({IGNORE_INDEX} itself means unlabelled), "
            f"got {num_classes}; count the background as a class"
        )
    if feature_channels < 1:
        raise ConfigError(
            f"feature_channels: expected at least 1, got {feature_channels}; "
            "take it from the model, e.g. segmenter.feature_channels"
        )


def check_choice(name: str, value: str, kind: Any) -> None:
    """Check an option that is one of a few words.

    Args:
        name: of the option.
        value: what was given.
        kind: the words, a `Literal`.

    Raises:
        ConfigError: if the value is none of them.

    Example:
        >>> check_choice("word", "yes", Literal["yes", "no"])
    """
    if value not in get_args(kind):
        raise ConfigError(
            f"{name}: expected one of {', '.join(get_args(kind))}, got {value!r}; leave out the "
            "default"
        )


def check_weight(name: str, value: float) -> None:
    """Check an option that is a finite number of at least 0.

    Args:
        name: of the option.
        value: what was given.

    Raises:
        ConfigError: if the value is negative, infinite or no number.

    Example:
        >>> check_weight("mutual", 0.0)
    """
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{name}: expected at least 0, got {value}; 0 is off")


class Batch(NamedTuple):
    """What an objective is called with, see `AGMMLoss.forward`.

    Attributes:
        logits: logits of the network, `b k H W`, float.
        features: features of the network, `b d h w`, float.
        seeds: class of each pixel, `b H W`, int64; 255 = unlabelled.
        candidates: classes that the labels allow, `b k` or `b k H W`, bool; None = all.
        valid: pixels of the picture, `b H W`, bool; None = all.
    """

    logits: Tensor
    features: Tensor
    seeds: Tensor
    candidates: Tensor | None = None
    valid: Tensor | None = None


def check_inputs(
    logits: Tensor,
    features: Tensor,
    seeds: Tensor,
    candidates: Tensor | None,
    valid: Tensor | None,
    num_classes: int,
    feature_channels: int,
) -> None:
    """Check shapes and types always, and values on the CPU.

    Values on an accelerator are not checked, because the check would wait for the device.

    Args:
        logits: expected `b k H W`, float.
        features: expected `b d h w`, float.
        seeds: expected `b H W`, int64, 0 to k − 1 or 255.
        candidates: expected None, `b k` or `b k H W`, bool, at least one class at each valid pixel.
        valid: expected None or `b H W`, bool.
        num_classes: k.
        feature_channels: d.

    Raises:
        InputError: names the argument, what was expected, what came and the remedy.

    Example:
        >>> seeds = torch.full((1, 8, 8), 255)
        >>> logits, features = torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 2, 2)
        >>> check_inputs(logits, features, seeds, None, None, num_classes=3, feature_channels=4)
    """
    check_network(logits, features, num_classes, feature_channels)
    batch, _, height, width = logits.shape
    pixels = (batch, height, width)
    _check(
        "seeds",
        seeds,
        [pixels],
        torch.int64,
        "resize them to the logits, without an axis of channels; use seeds.long()",
    )
    check_valid(valid, batch, (height, width))
    check_candidates(candidates, logits)
    if readable(logits):
        _check_values(seeds, candidates, valid, num_classes)


def check_valid(valid: Tensor | None, number: int, pixels: tuple[int, ...] | None) -> None:
    """Check shape and type of the map of the pictures' pixels.

    Args:
        valid: expected `b H W`, bool; or None.
        number: b.
        pixels: H and W, those of the logits; None where there are none.

    Raises:
        InputError: names the argument, what was expected, what came and the remedy.

    Example:
        >>> check_valid(torch.ones(1, 8, 8).bool(), 1, (8, 8))
    """
    if valid is None:
        return
    rows, columns = pixels or ("rows", "columns")
    fits = valid.ndim == 3 and len(valid) == number and 0 not in valid.shape
    if not fits or valid.dtype != torch.bool or (pixels is not None and valid.shape[1:] != pixels):
        raise InputError(
            f"valid: expected torch.bool of shape ({number}, {rows}, {columns}), got "
            f"{valid.dtype} of shape {tuple(valid.shape)}; resize it to the logits; use "
            "valid.bool()"
        )


def check_candidates(candidates: Tensor | None, maps: Tensor) -> None:
    """Check shape and type of the classes that the labels allow.

    Args:
        candidates: expected `b k` or `b k H W`, bool; or None.
        maps: logits or probabilities of the classes, `b k H W`, already checked.

    Raises:
        InputError: names the argument, what was expected, what came and the remedy.

    Example:
        >>> check_candidates(torch.ones(1, 3).bool(), torch.zeros(1, 3, 8, 8))
    """
    if candidates is not None:
        shapes = [tuple(maps.shape[:2]), tuple(maps.shape)]
        _check("candidates", candidates, shapes, torch.bool, "use candidates.bool()")


def check_network(
    logits: Tensor, features: Tensor, num_classes: int, feature_channels: int
) -> None:
    """Check shapes and types of what the network gives.

    Args:
        logits: expected `b k H W`, float.
        features: expected `b d h w`, float.
        num_classes: k.
        feature_channels: d.

    Raises:
        InputError: names the argument, what was expected, what came and the remedy.

    Example:
        >>> check_network(torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 2, 2), 3, 4)
    """
    _check_floating("logits", logits, "k", num_classes, "the model and the objective differ")
    check_features(features, feature_channels)
    if len(features) != len(logits):
        raise InputError(
            f"features: expected the {len(logits)} images of the logits, got {len(features)}; "
            "pass logits and features of the same batch"
        )


def check_features(features: Tensor, feature_channels: int) -> None:
    """Check shape and type of the network's features.

    Args:
        features: expected `b d h w`, float.
        feature_channels: d.

    Raises:
        InputError: names the argument, what was expected, what came and the remedy.

    Example:
        >>> check_features(torch.zeros(1, 4, 2, 2), feature_channels=4)
    """
    _check_floating(
        "features", features, "d", feature_channels, "pass the model's feature_channels"
    )


def check_images(images: Tensor | None, number: int, pixels: tuple[int, ...] | None) -> None:
    """Check shape and type of the network's input.

    Args:
        images: expected `b 3 H W`, float; or None.
        number: b.
        pixels: H and W, those of the logits; None where there are none.

    Raises:
        InputError: names the argument, what was expected, what came and the remedy.

    Example:
        >>> check_images(torch.zeros(1, 3, 8, 8), 1, (8, 8))
    """
    if images is None:
        return
    rows, columns = pixels or ("rows", "columns")
    fits = images.ndim == 4 and images.shape[:2] == (number, 3)
    if not fits or (pixels is not None and images.shape[2:] != pixels):
        raise InputError(
            f"images: expected shape ({number}, 3, {rows}, {columns}), the images and pixels of "
            f"the network's output, got {tuple(images.shape)}; pass what the network saw, in three "
            "channels: repeat a grey one, leave out a fourth"
        )
    if not images.is_floating_point():
        raise InputError(
            f"images: expected a float type, got {images.dtype}; pass what the network saw, "
            "normalised"
        )
    if readable(images) and images.numel():
        largest = images.detach().abs().amax().item()
        if largest > LARGEST_COLOUR:  # no two pixels would be of a like colour
            raise InputError(
                f"images: expected colours in standard deviations, about -3 to 3, got {largest:.0f}"
                "; normalise them as for the network"
            )


def check_teacher(
    logits: Tensor,
    features: Tensor,
    teacher_logits: Tensor | None,
    teacher_features: Tensor | None,
) -> None:
    """Check shapes and types of what a teacher gives against what the network gives.

    Args:
        logits: logits of the network, already checked.
        features: features of the network, already checked.
        teacher_logits: expected the shape of the logits, float; or None.
        teacher_features: expected the shape of the features, float; None if `teacher_logits` is.

    Raises:
        InputError: names the argument, what was expected, what came and the remedy.

    Example:
        >>> logits, features = torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 2, 2)
        >>> check_teacher(logits, features, logits, features)
    """
    if teacher_logits is None and teacher_features is None:
        return
    if teacher_logits is None:
        raise InputError(_alone("teacher_logits", "teacher_features"))
    if teacher_features is None:
        raise InputError(_alone("teacher_features", "teacher_logits"))
    _check_like("teacher_logits", teacher_logits, "logits", logits)
    _check_like("teacher_features", teacher_features, "features", features)


def _alone(missing: str, given: str) -> str:
    return f"{missing}: expected a tensor beside {given}, got None; pass both or neither"


def _check_like(name: str, tensor: Tensor, other: str, like: Tensor) -> None:
    if tensor.shape != like.shape:
        raise InputError(
            f"{name}: expected {tuple(like.shape)}, the shape of the {other}, "
            f"got {tuple(tensor.shape)}; give teacher and network the same images"
        )
    _check_type(name, tensor)


def _check_floating(name: str, tensor: Tensor, axis: str, channels: int, remedy: str) -> None:
    if tensor.ndim != 4 or tensor.shape[1] != channels or 0 in tensor.shape:
        raise InputError(
            f"{name}: expected shape (batch, {axis}={channels}, rows, columns), "
            f"got {tuple(tensor.shape)}; {remedy}"
        )
    _check_type(name, tensor)


def _check_type(name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point():
        raise InputError(f"{name}: expected a float type, got {tensor.dtype}; use {name}.float()")


def _check(
    name: str, tensor: Tensor, shapes: list[tuple[int, ...]], dtype: torch.dtype, remedy: str
) -> None:
    if tuple(tensor.shape) not in shapes or tensor.dtype != dtype:
        expected = " or ".join(map(str, shapes))
        raise InputError(
            f"{name}: expected {dtype} of shape {expected}, "
            f"got {tensor.dtype} of shape {tuple(tensor.shape)}; {remedy}"
        )


def _check_values(
    seeds: Tensor, candidates: Tensor | None, valid: Tensor | None, num_classes: int
) -> None:
    wrong = (seeds != IGNORE_INDEX) & ((seeds < 0) | (seeds >= num_classes))
    if wrong.any():
        raise InputError(
            f"seeds: expected classes 0 to {num_classes - 1} or {IGNORE_INDEX} (unlabelled), got "
            f"{sorted(set(seeds[wrong].tolist()))[:5]}; map the labels to the model's classes"
        )
    if candidates is None:
        return
    empty = ~candidates.any(1)
    if valid is not None and empty.ndim == 3:
        empty = empty & valid
    if empty.any():
        axes = "(image, row, column)" if empty.ndim == 3 else "(image)"
        raise InputError(
            f"candidates: expected at least one class everywhere, got none at index "
            f"{empty.nonzero()[0].tolist()} {axes}; "
            "pass all classes where the labels rule out none"
        )
