"""The classes of a data set: their names, in the order of their indices, and their colours."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agmm.datasets.text import read_text
from agmm.errors import DataError
from agmm.shapes import IGNORE_INDEX

Color = tuple[int, int, int]
"""Red, green and blue, 0..255 each."""

VOID_COLOR: Color = (224, 224, 192)
"""The colour of 255 = unlabelled, as in PASCAL VOC; no class may have it."""

_COLOR = re.compile(
    r"^(?P<name>.*\S)\s+(?:#(?P<hex>[0-9a-fA-F]{6})|(?P<rgb>\d{1,3}\s+\d{1,3}\s+\d{1,3}))$"
)


@dataclass(frozen=True)
class Classes:
    """Names and colours of the classes; the index of a class is its place.

    Args:
        names: K names, 1..255 of them, all different.
        colors: K colours (red, green, blue), 0..255 each, for palettes and figures.
        colors_given: Whether the colours are the data set's own, so that RGB-coded masks can be
            decoded with them; then they are all different.

    Raises:
        DataError: No or too many names, an empty one, names or colours that are not unique, or
            another number of colours than of names.

    Example:
        >>> classes = Classes(("background", "cat"), ((0, 0, 0), (128, 0, 0)))
        >>> len(classes), classes.background
        (2, 0)
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    colors_given: bool = True

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= IGNORE_INDEX:
            raise DataError(
                f"classes: there are {len(self.names)}, but there must be 1..{IGNORE_INDEX}, as"
                f" {IGNORE_INDEX} means unlabelled. Name at least one, or join some."
            )
        if len(self.colors) != len(self.names):
            raise DataError(
                f"classes: {len(self.names)} names, but {len(self.colors)} colours. Give one"
                " colour per class."
            )
        if not all(name.strip() for name in self.names):
            raise DataError("classes: there is one without a name. Name it, or remove it.")
        _require_unique("name", [name.casefold() for name in self.names])
        for name, color in zip(self.names, self.colors, strict=True):
            if any(not 0 <= channel <= 255 for channel in color):
                raise DataError(f"classes: {name!r} has the colour {color}; channels are 0..255.")
        if self.colors_given:
            _require_unique("colour", [*self.colors, VOID_COLOR])

    def __len__(self) -> int:
        return len(self.names)

    @property
    def background(self) -> int | None:
        """Index of the class that is named "background", in any case; None if there is none."""
        folded = [name.casefold() for name in self.names]
        return folded.index("background") if "background" in folded else None

    def with_palette(self, palette: Sequence[int]) -> "Classes":
        """Take the colours of a mask's palette, if the data set gives none of its own.

        Args:
            palette: Red, green, blue of index 0, of index 1 and so on, 0..255 each.

        Returns:
            These classes with the palette's colours; unchanged if they have colours of their own,
            or if the palette is too short or does not tell the classes apart.

        Example:
            >>> read = Classes(("road",), ((0, 0, 0),), colors_given=False)
            >>> read.with_palette([128, 64, 128]).colors
            ((128, 64, 128),)
        """
        triples = zip(palette[0::3], palette[1::3], palette[2::3], strict=False)
        colors = tuple(triples)[: len(self)]
        usable = len({*colors, VOID_COLOR}) == len(self) + 1
        return replace(self, colors=colors) if usable and not self.colors_given else self


def read_classes(path: Path) -> Classes:
    r"""Read ``classes.txt``: one class per line, in the order of the indices.

    A line is a name, optionally followed by a colour as ``#rrggbb`` or as three numbers 0..255;
    either all lines have one or none, then the colours of PASCAL VOC are taken. A byte order mark,
    Windows line ends and empty lines at the end do not matter.

    Args:
        path: The file, in UTF-8.

    Returns:
        The classes; ``colors_given`` says whether the file has colours.

    Raises:
        DataError: Missing, not UTF-8, empty, more than 255 classes, an empty line between
            classes, a name or colour that comes twice, or a colour that is none.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "classes.txt"
        >>> _ = path.write_text("traffic light #ff0000\nroad 128 64 128\n")
        >>> classes = read_classes(path)
        >>> classes.names, classes.colors
        (('traffic light', 'road'), ((255, 0, 0), (128, 64, 128)))
    """
    text = read_text(
        path,
        missing="Write one with the name of one class on each line, in the order of their indices"
        " in the masks.",
    )
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if not lines:
        raise DataError(f"{path}: is empty. Write the name of one class on each line.")
    if len(lines) > IGNORE_INDEX:
        raise DataError(
            f"{path}, line {IGNORE_INDEX + 1}: there are {len(lines)} classes, but at most"
            f" {IGNORE_INDEX} fit, as {IGNORE_INDEX} means unlabelled. Join some classes."
        )
    names: list[str] = []
    colors: list[Color | None] = []
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        name, color = _parse_line(line, where)
        _require_new(name.casefold(), [known.casefold() for known in names], where)
        _require_new(color, [*colors, VOID_COLOR] if color else [], where)
        names.append(name)
        colors.append(color)
        if (color is None) != (colors[0] is None):
            raise DataError(
                f"{where}: {name!r} has {'no' if color is None else 'a'} colour, unlike line 1."
                " Give every class a colour, or none."
            )
    given = tuple(color for color in colors if color is not None)
    return Classes(tuple(names), given or voc_colors(len(names)), colors_given=bool(given))


def voc_colors(count: int) -> tuple[Color, ...]:
    """Give the colours of PASCAL VOC: the bits of the index, dealt to red, green and blue.

    Args:
        count: How many, 0..256.

    Returns:
        ``count`` colours, all different; 0 is black and 255 is `VOID_COLOR`.

    Example:
        >>> voc_colors(3)
        ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    """

    def channel(index: int, offset: int) -> int:
        return sum((index >> (3 * bit + offset) & 1) << (7 - bit) for bit in range(3))

    return tuple((channel(i, 0), channel(i, 1), channel(i, 2)) for i in range(count))


def _parse_line(line: str, where: str) -> tuple[str, Color | None]:
    if not line:
        raise DataError(
            f"{where}: is empty, but a line is a class and its number the class's index. Remove"
            " the line, or name the class."
        )
    match = _COLOR.match(line)
    if match is None:
        return line, None
    if match["hex"]:
        red, green, blue = bytes.fromhex(match["hex"])
    else:
        red, green, blue = (int(channel) for channel in match["rgb"].split())
    if max(red, green, blue) > 255:
        raise DataError(f"{where}: the colour {red} {green} {blue} is none; channels are 0..255.")
    return match["name"], (red, green, blue)


def _require_new(value: object, known: Sequence[object], where: str) -> None:
    if value in known:
        reserved = " (255 = unlabelled has it)" if value == VOID_COLOR else ""
        raise DataError(f"{where}: {value} is taken already{reserved}. Choose another one.")


def _require_unique(what: str, values: Sequence[object]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise DataError(
                f"classes: the {what} {value} is there twice, and {VOID_COLOR} is that of 255 ="
                " unlabelled. Choose another one."
            )
