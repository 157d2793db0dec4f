"""What the value of a field must be, and how to say so."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from agmm.errors import ConfigError


def is_number(value: object) -> bool:
    """Whether a value is a finite number; YAML and Python callers may give anything."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: object) -> bool:
    """Whether a value is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def are_two(values: object, kind: Callable[[object], bool]) -> bool:
    """Whether a value is a tuple of two of a kind."""
    return isinstance(values, tuple) and len(values) == 2 and all(map(kind, values))


Rule = tuple[Callable[[Any], bool], str]
"""Whether a value is good, and what to say was expected where it is not."""

FLAG: Rule = (lambda v: isinstance(v, bool), "true or false")
WORD: Rule = (lambda v: isinstance(v, str) and v != "", "a word")
WORD_OR_NONE: Rule = (lambda v: v is None or WORD[0](v), "a word, or null")
OPTIONS: Rule = (
    lambda v: (
        isinstance(v, dict)
        and all(isinstance(name, str) for name in v)
        and all(isinstance(value, bool | int | float | str) for value in v.values())
    ),
    "a mapping of names to numbers, words, true or false",
)
PATH: Rule = (lambda v: isinstance(v, Path), "a pathlib.Path")
POSITIVE: Rule = (lambda v: is_number(v) and v > 0, "a positive number")
NOT_NEGATIVE: Rule = (lambda v: is_number(v) and v >= 0, "a number of at least 0")
SHARE: Rule = (lambda v: is_number(v) and 0 <= v <= 1, "a number from 0 to 1")
COUNT: Rule = (lambda v: is_whole(v) and v > 0, "a whole number above 0")
COUNT_OR_ZERO: Rule = (lambda v: is_whole(v) and v >= 0, "a whole number of at least 0")
SEED: Rule = (lambda v: is_whole(v) and 0 <= v < 2**32, "a whole number from 0 to 2**32 - 1")


STEPS_OR_NONE: Rule = (lambda v: v is None or (is_whole(v) and v > 0), "a number of steps, or null")
CROP: Rule = (lambda v: are_two(v, is_whole) and min(v) > 0, "a height and a width in pixels")
SCALE: Rule = (lambda v: are_two(v, is_number) and 0 < v[0] <= v[1], "two factors, low high")


def one_of(choices: object) -> Rule:
    """The rule that a value is one of a Literal's."""
    names = get_args(choices)
    return names.__contains__, f"one of {', '.join(names)}"


def check_fields(config: object, rules: Mapping[str, Rule], prefix: str = "") -> None:
    """Raise a ConfigError that names the first field whose value breaks its rule.

    Args:
        config: An object with the fields as attributes.
        rules: Field to its rule.
        prefix: What stands before the field's name in the message, such as ``"cam."``.

    Raises:
        ConfigError: A value that breaks its rule.
    """
    for name, (is_valid, expected) in rules.items():
        value = getattr(config, name)
        if not is_valid(value):
            raise ConfigError(f"{prefix}{name}: expected {expected}, got {value!r}")
