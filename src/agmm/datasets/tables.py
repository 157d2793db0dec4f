"""``tags.csv`` and ``boxes.csv``: labels that are rows of a table.

Both are comma-separated, with a header, in UTF-8. The picture is named with its suffix or without;
"/" separates folders. A name with a comma stands in double quotes.
"""

import csv
import functools
import io
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from agmm.datasets.classes import Classes
from agmm.datasets.listing import picture_name
from agmm.datasets.places import relative_name
from agmm.datasets.text import read_text
from agmm.errors import DataError
from agmm.labels.annotations import Boxes, Tags

TAGS_COLUMNS = ("image", "tags")
BOXES_COLUMNS = ("image", "class", "xmin", "ymin", "xmax", "ymax")


def read_tags(path: Path, classes: Classes) -> dict[str, Tags]:
    r"""Read ``tags.csv``: one row per picture, its tags separated by spaces.

    The name of a class may have spaces itself: at every place the longest name that fits is
    taken, so with the classes "light" and "traffic light" the tags ``traffic light`` are one tag,
    and ``light traffic light`` are both. A row without tags says that the picture shows none of
    the classes (but for a background).

    Args:
        path: The file, with the columns ``image,tags`` in any order.
        classes: The data set's classes.

    Returns:
        Name of the picture, without suffix, to its tags, in the order of the file.

    Raises:
        DataError: No such table, a class or a picture that cannot be, or two rows for one picture.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "tags.csv"
        >>> _ = path.write_text("image,tags\na.jpg,road traffic light\n")
        >>> classes = Classes(("road", "traffic light"), ((0, 0, 0), (9, 9, 9)))
        >>> read_tags(path, classes)["a"].classes.tolist()
        [0, 1]
    """
    tags: dict[str, Tags] = {}
    for where, (image, words) in _rows(path, TAGS_COLUMNS):
        name = picture_name(image)
        if name in tags:
            raise DataError(f"{where}: a second row for {name!r}. Join the tags into one row.")
        tags[name] = Tags(np.array(match_tags(words, classes, where), dtype=np.uint8))
    return tags


def read_boxes(path: Path, classes: Classes) -> dict[str, Boxes]:
    r"""Read ``boxes.csv``: one row per box.

    Whether the boxes lie in their pictures and in which order their corners are is judged with the
    picture's size, in `agmm.labels.boxes`. A row whose fields but the first are empty says that the
    picture has no box.

    Args:
        path: The file, with the columns ``image,class,xmin,ymin,xmax,ymax`` in any order: pixels,
            x to the right and y down from 0, the maxima exclusive.
        classes: The data set's classes.

    Returns:
        Name of the picture, without suffix, to its boxes, in the order of the file.

    Raises:
        DataError: No such table, a class or a picture that cannot be, or no number as coordinate.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "boxes.csv"
        >>> _ = path.write_text("image,class,xmin,ymin,xmax,ymax\na.jpg,cat,3,1,4,2\nb,,,,,\n")
        >>> boxes = read_boxes(path, Classes(("cat",), ((0, 0, 0),)))
        >>> boxes["a"].xyxy.tolist(), boxes["b"].xyxy.tolist()
        ([[3.0, 1.0, 4.0, 2.0]], [])
    """
    index = {name: i for i, name in enumerate(classes.names)}
    rows: dict[str, list[tuple[int, list[float]]]] = defaultdict(list)
    empty: dict[str, str] = {}
    for where, (image, name, *corners) in _rows(path, BOXES_COLUMNS):
        key = picture_name(image)
        if any((name, *corners)):
            if name not in index:
                raise _unknown(where, name, classes)
            rows[key].append((index[name], [_number(text, where) for text in corners]))
        else:
            empty[key] = where
            rows[key] = rows[key]  # the picture is known, in its place among the others
    for key, where in empty.items():
        if rows[key]:
            raise DataError(
                f"{where}: says that {key!r} has no box, but there is one in another row. Remove"
                " one of them."
            )
    return {
        key: Boxes(
            np.array([corners for _, corners in found], dtype=np.float64).reshape(-1, 4),
            np.array([label for label, _ in found], dtype=np.uint8),
        )
        for key, found in rows.items()
    }


def match_tags(text: str, classes: Classes, where: str) -> list[int]:
    """Split words into the names of classes, at each place the longest that fits.

    Args:
        text: Names that are separated by spaces, and may have spaces themselves.
        classes: The data set's classes.
        where: The place of the text, for the message.

    Returns:
        The indices of the classes, in the order of the text.

    Raises:
        DataError: A word that begins no class.

    Example:
        >>> classes = Classes(("light", "traffic light"), ((0, 0, 0), (9, 9, 9)))
        >>> match_tags("light traffic light", classes, "tags.csv")
        [0, 1]
    """
    words, index = text.split(), _index(classes)
    longest = max(len(name) for name in index)
    found: list[int] = []
    start = 0
    while start < len(words):
        for length in range(longest, 0, -1):
            name = tuple(words[start : start + length])
            if name in index:
                found.append(index[name])
                start += len(name)
                break
        else:
            raise _unknown(where, words[start], classes)
    return found


@functools.cache
def _index(classes: Classes) -> dict[tuple[str, ...], int]:
    return {tuple(name.split()): i for i, name in enumerate(classes.names)}


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Give place and fields of each row, the fields stripped and in the order of ``columns``."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = [field.strip() for field in next(reader, [])]
        if sorted(header) != sorted(columns):
            raise DataError(
                f"{path}: line 1 must be the header {','.join(columns)!r}, but is"
                f" {','.join(header)!r}. Write it, with commas, or rename the columns."
            )
        order = [header.index(column) for column in columns]
        for fields in reader:
            if not fields:
                continue  # an empty line
            where = f"{path}, line {reader.line_num}"
            if len(fields) != len(columns):
                raise DataError(
                    f"{where}: has {len(fields)} fields, but the header has {len(columns)}. Write"
                    " a field with a comma in double quotes."
                )
            values = [fields[i].strip() for i in order]
            if not values[0]:
                raise DataError(f"{where}: names no picture. Write its name, or remove the row.")
            yield where, [relative_name(values[0], where), *values[1:]]
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: is no comma-separated row ({error}). Correct it."
        ) from error


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: {text!r} is no number. Write pixels, such as 12 or 12.5.")
    return value


def _unknown(where: str, name: str, classes: Classes) -> DataError:
    return DataError(
        f"{where}: {name!r} is no class; the classes are {', '.join(classes.names)}. Correct the"
        " name, or add it to classes.txt."
    )
