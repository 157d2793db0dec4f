"""``clicks.json``: human clicks as published with *What's the Point* (Bearman et al., ECCV 2016).

The file is ``{picture: [{"x": 101.8, "y": 146.3, "cls": 19}, ...]}``: pixels of the picture, x to
the right and y down, and the number of the class. The published file counts a further ``rank`` and
has no clicks on the background; class 0 is a class like any other here.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from agmm.datasets.classes import Classes
from agmm.datasets.listing import picture_name
from agmm.datasets.places import relative_name
from agmm.datasets.text import read_json, shown
from agmm.errors import DataError
from agmm.labels.annotations import Points


def read_clicks(path: Path, classes: Classes) -> dict[str, Points]:
    r"""Read ``clicks.json``; see the module for what is in it.

    Args:
        path: The file. A click may have further entries beside x, y and cls; they are not read.
        classes: The data set's classes.

    Returns:
        Name of the picture, without suffix, to its clicks, in the order of the file; a picture
        with an empty list has no clicks. Whether they lie in their pictures is judged when they
        are drawn.

    Raises:
        DataError: Not JSON, a picture that is there twice, a coordinate that is no finite number,
            or a class that there is not.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "clicks.json"
        >>> _ = path.write_text('{"a.jpg": [{"x": 3.5, "y": 1, "cls": 0}]}')
        >>> clicks = read_clicks(path, Classes(("cat",), ((0, 0, 0),)))["a"]
        >>> clicks.xy.tolist(), clicks.classes.tolist()
        ([[3.5, 1.0]], [0])
    """
    clicks: dict[str, Points] = {}
    for image, entries in _load(path).items():
        name = picture_name(relative_name(image, str(path)))
        if name in clicks:
            raise DataError(f"{path}: {name!r} is there twice. Join its clicks into one list.")
        where = f"{path}, {image!r}"
        if not isinstance(entries, list):
            raise DataError(f"{where}: must be a list of clicks, but is {shown(entries)}.")
        read = [_click(entry, f"{where}, click {i}", classes) for i, entry in enumerate(entries)]
        clicks[name] = Points(
            np.array([(x, y) for x, y, _ in read], dtype=np.float64).reshape(-1, 2),
            np.array([label for _, _, label in read], dtype=np.uint8),
        )
    return clicks


def _load(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: must be an object {{picture: [clicks]}}, but is {shown(content)}. Write the"
            " name of the picture before its list of clicks."
        )
    return content


def _click(entry: object, where: str, classes: Classes) -> tuple[float, float, int]:
    if not isinstance(entry, dict) or not {"x", "y", "cls"} <= entry.keys():
        raise DataError(
            f'{where}: must be {{"x": …, "y": …, "cls": …}}, but is {shown(entry)}. Add what is'
            " missing."
        )
    label = entry["cls"]
    if type(label) is not int or not 0 <= label < len(classes):
        raise DataError(
            f"{where}: cls must be a class 0..{len(classes) - 1}, but is {shown(label)}. Correct"
            " it, or add the class to classes.txt."
        )
    return _coordinate(entry["x"], "x", where), _coordinate(entry["y"], "y", where), label


def _coordinate(value: object, name: str, where: str) -> float:
    # A bool is an int in Python, 1e999 becomes infinite, and no float is as large as an int may be.
    if type(value) in {int, float} and abs(value) <= 2**53 and math.isfinite(value):  # type: ignore[arg-type]
        return float(value)  # type: ignore[arg-type]
    raise DataError(
        f"{where}: {name} must be a number of pixels, but is {shown(value)}. Correct the click."
    )
