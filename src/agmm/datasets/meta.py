"""``dataset_meta.json``, the list of classes that Datumaro writes."""

from pathlib import Path

from agmm.datasets.classes import Classes, Color, voc_colors
from agmm.datasets.text import read_json, shown
from agmm.errors import DataError


def read_meta(path: Path) -> Classes:
    """Read the classes of ``dataset_meta.json``.

    Args:
        path: The file: ``label_map`` (index to name) or ``labels`` (names in the order of their
            indices), and ``segmentation_colors``, a colour for each, or none.

    Returns:
        The classes; ``colors_given`` says whether the file has colours.

    Raises:
        DataError: No such file, no such content, indices that are not 0, 1, 2 and so on, or bad
            classes.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "dataset_meta.json"
        >>> _ = path.write_text('{"label_map": {"1": "car", "0": "sky"}}')
        >>> read_meta(path).names
        ('sky', 'car')
    """
    content = read_json(path)
    meta = content if isinstance(content, dict) else {}
    names = _names(path, meta)
    colors = meta.get("segmentation_colors")
    try:
        # Datumaro writes an empty list where it knows no colours.
        if not colors:
            return Classes(names, voc_colors(len(names)), colors_given=False)
        return Classes(names, tuple(_color(path, value) for value in _listed(path, colors)))
    except DataError as error:
        if str(error).startswith(str(path)):
            raise
        raise DataError(f"{path}: {error}") from error


def _names(path: Path, meta: dict[str, object]) -> tuple[str, ...]:
    label_map = meta.get("label_map")
    names: object = meta.get("labels")
    if isinstance(label_map, dict):
        indices = [str(index) for index in range(len(label_map))]
        if {*label_map} != {*indices}:
            raise DataError(
                f"{path}: the indices of label_map must be 0..{len(indices) - 1}, each once, but"
                f" are {shown([*label_map])}. Name every value of the masks."
            )
        names = [label_map[index] for index in indices]
    if not isinstance(names, list) or not all(isinstance(n, str) and n.strip() for n in names):
        raise DataError(
            f'{path}: must have label_map, as in {{"0": "sky"}}, or a list labels, with names'
            f" of classes, but has {shown(meta)}. Correct it."
        )
    return tuple(name.strip() for name in names)


def _listed(path: Path, colors: object) -> list[object]:
    if not isinstance(colors, list):
        raise DataError(f"{path}: segmentation_colors must be a list, but is {shown(colors)}.")
    return colors


def _color(path: Path, value: object) -> Color:
    channels = [c for c in value if type(c) is int] if isinstance(value, list) else []
    if not isinstance(value, list) or len(value) != 3 or len(channels) != 3:
        raise DataError(f"{path}: the colour {shown(value)} is none: three numbers 0..255.")
    red, green, blue = channels
    return red, green, blue
