"""From the name of a method to its objective."""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from agmm.config import Method
from agmm.errors import ConfigError
from agmm.mixture import AGMM2023Loss, AGMMLoss
from agmm.training.baselines import EMATeacherLoss, PartialCrossEntropyLoss
from agmm.training.gated_crf import GatedCRFLoss
from agmm.training.prototypes import PrototypeContrastLoss


def build_objective(
    method: Method,
    num_classes: int,
    feature_channels: int,
    options: Mapping[str, float | bool | str],
    *,
    warmup_steps: int = 0,
) -> nn.Module:
    """The objective of a method, with its options.

    Args:
        method: Name of the method.
        num_classes: Number of classes K.
        feature_channels: Number of feature channels D.
        options: Keyword options of that objective.
        warmup_steps: Steps over which its self-supervised terms rise, where it has such.

    Returns:
        A module with the contract of :class:`agmm.mixture.AGMMLoss`.

    Raises:
        ConfigError: If the objective has no such option, or refuses its value.

    Example:
        >>> type(build_objective("partial-ce", 2, 16, {})).__name__
        'PartialCrossEntropyLoss'
    """
    sizes: dict[str, Any] = {"num_classes": num_classes, "feature_channels": feature_channels}
    factories: dict[Method, Callable[..., nn.Module]] = {
        "agmm": partial(AGMMLoss, **sizes, warmup_steps=warmup_steps),
        "agmm-2023": partial(AGMM2023Loss, **sizes),
        "partial-ce": partial(PartialCrossEntropyLoss, absent=0.0),
        "partial-ce+absent": partial(PartialCrossEntropyLoss, absent=1.0),
        "ema-teacher": partial(EMATeacherLoss, warmup_steps=warmup_steps),
        "gated-crf": GatedCRFLoss,
        "prototype-contrast": partial(PrototypeContrastLoss, **sizes, warmup_steps=warmup_steps),
        "dense": partial(PartialCrossEntropyLoss, absent=0.0),
    }
    return factories[method](**_typed(method, factories[method], options))


def _typed(
    method: Method, factory: Callable[..., nn.Module], options: Mapping[str, float | bool | str]
) -> dict[str, Any]:
    """The options with the types of the parameters: YAML and the command line give numbers."""
    fixed = factory.keywords if isinstance(factory, partial) else {}
    known = {
        name: parameter
        for name, parameter in inspect.signature(factory).parameters.items()
        if name not in fixed
    }
    if unknown := [name for name in options if name not in known]:
        raise ConfigError(
            f"--objective.{unknown[0]}: {method} has no such option; "
            f"it has: {', '.join(known) or 'none'}"
        )
    return {name: _cast(name, value, type(known[name].default)) for name, value in options.items()}


def _cast(name: str, value: float | bool | str, kind: Any) -> Any:
    """A value as the type that an option has; nothing is rounded on the way."""
    if kind is str and isinstance(value, str):
        return value
    expected = {bool: "true or false", int: "a whole number", str: "a word"}.get(
        kind, "a finite number"
    )
    is_number = kind is not str and not isinstance(value, str) and math.isfinite(value)
    is_flag = isinstance(value, bool) and kind is not bool  # Python takes true for 1
    if not is_number or is_flag or kind(value) != value:
        raise ConfigError(f"--objective.{name}: expected {expected}, got {value}")
    return kind(value)
