"""The values in the JSON of COCO, each made sure to be what it must be."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64

from agmm.datasets.text import shown
from agmm.errors import DataError

_LARGEST = 2.0**53
"""The largest coordinate; above it not every whole number is a float."""


def members(value: object, where: object) -> Mapping[str, object]:
    """Make sure that a value is an object of JSON.

    Args:
        value: The value.
        where: What it is, for the message.

    Returns:
        The value.

    Raises:
        DataError: It is another one.

    Example:
        >>> members(3, "a.json, images 1")
        Traceback (most recent call last):
        agmm.errors.DataError: a.json, images 1: must be an object {…}, but is 3. Export it again.
    """
    if not isinstance(value, dict):
        raise DataError(
            f"{where}: must be an object {{…}}, but is {shown(value)}. Export it again."
        )
    return value


def integer(entry: Mapping[str, object], key: str, where: object) -> int:
    """Take a whole number.

    Args:
        entry: An object of the file.
        key: Its member.
        where: What the object is, for the message.

    Returns:
        The number.

    Raises:
        DataError: It is missing or another value.

    Example:
        >>> integer({"id": 7}, "id", "a.json, images 1")
        7
    """
    value = entry.get(key)
    if type(value) is not int:  # True is an int as well
        raise DataError(
            f"{where}: {key} must be a whole number, but is {shown(value)}. Correct it."
        )
    return value


def name_of(entry: Mapping[str, object], key: str, where: object) -> str:
    """Take a name.

    Args:
        entry: An object of the file.
        key: Its member.
        where: What the object is, for the message.

    Returns:
        The name, not empty.

    Raises:
        DataError: It is missing or another value.

    Example:
        >>> name_of({"name": "cat"}, "name", "a.json, categories 1")
        'cat'
    """
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {key} must be a name, but is {shown(value)}. Correct it.")
    return value


def filled(entry: Mapping[str, object], key: str) -> bool:
    """Say whether an object has a member; tools write an empty list where it has none.

    Args:
        entry: The object.
        key: The member.

    Returns:
        Whether it is there and not empty.

    Example:
        >>> filled({"bbox": [], "segmentation": [[]]}, "segmentation")
        False
    """
    return entry.get(key) not in ([], [[]], {}, None)


def bbox(entry: Mapping[str, object], number: int) -> list[float]:
    """Take the box of an annotation or a segment.

    Args:
        entry: The object.
        number: Its number, for the message.

    Returns:
        x, y, width and height in pixels.

    Raises:
        DataError: It is missing or not of four numbers.

    Example:
        >>> bbox({"bbox": [0, 1.5, 2, 3]}, 1)
        [0.0, 1.5, 2.0, 3.0]
    """
    box = _numbers(entry.get("bbox"))
    if box is None or len(box) != 4:
        raise DataError(
            f"{number}: bbox must be x, y, width and height in pixels, but is"
            f" {shown(entry.get('bbox'))}. Correct it, or remove the annotation."
        )
    return box


def corners(polygon: object) -> Float64[np.ndarray, "n 2"]:
    """Take the corners of a polygon.

    Args:
        polygon: x and y of each in turn.

    Returns:
        (n, 2), at least three.

    Raises:
        DataError: Another value.

    Example:
        >>> corners([0, 0, 4, 0, 4, 3]).tolist()
        [[0.0, 0.0], [4.0, 0.0], [4.0, 3.0]]
    """
    numbers = _numbers(polygon)
    if numbers is None or len(numbers) % 2 or len(numbers) < 6:
        raise DataError(
            "a polygon must have x and y of at least three corners in pixels, but is"
            f" {shown(polygon)}. Correct or remove it."
        )
    return np.array(numbers).reshape(-1, 2)


def _numbers(value: object) -> list[float] | None:
    if not isinstance(value, list) or any(type(v) not in {int, float} for v in value):
        return None
    return [float(v) for v in value] if all(abs(v) <= _LARGEST for v in value) else None
