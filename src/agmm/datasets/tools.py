"""What the readers of labelling tools share: from pictures with shapes to a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from agmm.datasets.assembly import Key, assembled
from agmm.datasets.beside import Label, add_label, colored_by_masks, joined, read_beside
from agmm.datasets.classes import VOID_COLOR, Classes, Color, read_classes, voc_colors
from agmm.datasets.listing import list_unused
from agmm.datasets.records import Dataset
from agmm.datasets.shapes import Drawn, read_drawn
from agmm.errors import DataError
from agmm.labels.forms import FORMS, Form


@dataclass(frozen=True)
class Picture:
    """What a tool says of one picture.

    Args:
        file: Where it says so.
        name: The picture's name without suffix, unique within its split.
        split: Its split.
        image: Its file; None if it is missing.
        labels: For each form that was given its shapes, or how it is read where it has none.
    """

    file: Path
    name: str
    split: str
    image: Path | None
    labels: Mapping[Form, Drawn | Label]


def classes_of(
    root: Path, names: Sequence[str], file: Path, colors: Sequence[Color | None] = ()
) -> Classes:
    """Take the classes of ``classes.txt`` if there is one, else those that a tool knows.

    Args:
        root: The data set's folder.
        names: The names that the tool knows, in order.
        file: Where the tool names them, for the message.
        colors: The tool's colours, one per name, where it has them.

    Returns:
        The classes, in the tool's colours where every class has one of its own, else in those of
        the first mask in ``masks/`` or of VOC.

    Raises:
        DataError: No name, too many, or two that differ in capitals only.

    Example:
        >>> classes_of(Path("a/missing/folder"), ("cat", "dog"), Path("a.json")).names
        ('cat', 'dog')
    """
    if (root / "classes.txt").is_file():
        return colored_by_masks(read_classes(root / "classes.txt"), root / "masks")
    own = tuple(color for color in colors if color is not None)
    usable = bool(names) and len({*own, VOID_COLOR}) == len(own) + 1 == len(names) + 1
    try:
        if usable:
            return Classes(tuple(names), own)
        # Too many names are told by Classes, not by a lack of colours.
        palette = voc_colors(min(len(names), 255)) + ((0, 0, 0),) * max(0, len(names) - 255)
        classes = Classes(tuple(names), palette, colors_given=False)
    except DataError as error:
        raise DataError(
            f"{file}: {error} The names can also be listed in {root / 'classes.txt'}."
        ) from error
    return colored_by_masks(classes, root / "masks")


def read_tool(root: Path, classes: Classes, pictures: Sequence[Picture]) -> Dataset:
    """Make a data set of what a tool says, and of the labels beside; decodes no picture.

    Args:
        root: The data set's folder.
        classes: Its classes.
        pictures: What the tool says of each picture. One picture may come several times, as long
            as each form comes once.

    Returns:
        The records of all splits, sorted by name; labels of missing pictures are unmatched, and
        pictures beside those that the tool names are unused. What lies in ``masks/`` are dense
        masks too.

    Raises:
        DataError: No picture is there, two have one name, or one has two names, two labels of one
            form or two splits.
    """
    images = _files(pictures)
    if not images:
        first = f", such as {pictures[0].name!r} of {pictures[0].file}" if pictures else ""
        raise DataError(
            f"{root}: none of the {len(pictures)} pictures is there{first}. Put the pictures into"
            f" {root / 'images'}, or beside the file that names them."
        )
    beside = read_beside(root, classes)
    own: dict[Form, dict[str, Label]] = {form: {} for form in FORMS}
    for picture in pictures:
        key = f"{picture.split}/{picture.name}"
        for form, given in picture.labels.items():
            label = (
                given
                if isinstance(given, Label)
                else Label(given.file, partial(read_drawn, given, classes))
            )
            add_label(own[form], key, label)
    labels = {form: joined(beside[form], own[form]) for form in FORMS}
    dataset = assembled(root, classes, images, labels, splits_known=True)
    return replace(dataset, unused=list_unused(root, images.values()))


def _files(pictures: Sequence[Picture]) -> dict[Key, Path]:
    """Give the file of each picture that is there; no two are of one name, and none has two.

    Two of one name are a.jpg and a.png, also if one of them is missing.
    """
    by_key: dict[Key, Picture] = {}
    by_file: dict[Path, Picture] = {}
    for picture in pictures:
        first = by_key.setdefault((picture.split, picture.name), picture)
        if first.image != picture.image:
            files = (str(p.image or f"a missing one of {p.file}") for p in (first, picture))
            raise DataError(
                f"{' and '.join(files)}: two pictures of one name, {picture.name!r}, so that it is"
                f" not clear whose labels are meant. Rename one, in {picture.file} too."
            )
        if picture.image is None:
            continue
        first = by_file.setdefault(picture.image, picture)
        if first.split != picture.split:
            raise DataError(
                f"{picture.image}: is in two splits, {first.split} and {picture.split}, so that"
                " scores would be those of training pictures. Remove it from one of them."
            )
        if first.name != picture.name:
            raise DataError(
                f"{picture.image}: is {first.name!r} of {first.file} and {picture.name!r} of"
                f" {picture.file}, so that it would count as two pictures. Remove one of them."
            )
    return {key: picture.image for key, picture in by_key.items() if picture.image is not None}
