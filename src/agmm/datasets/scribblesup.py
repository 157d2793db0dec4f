"""A folder with the strokes of *ScribbleSup*, see `agmm.datasets.strokes`, and their pictures.

::

    [FOLDERS/]NAME.xml             strokes
    NAME.jpg, or JPEGImages/, …    pictures; also images/NAME.jpg, each with or without FOLDERS
    classes.txt                    the classes; else the 21 of VOC

A folder that is named as a split makes its files that split; all others are ``train``. Beside any
other layout the strokes lie in ``scribblesup/``.
"""

from dataclasses import replace
from pathlib import Path

from agmm.datasets.assembly import Key, assembled
from agmm.datasets.beside import joined, read_beside, stroke_labels
from agmm.datasets.classes import Classes, read_classes, voc_colors
from agmm.datasets.listing import list_unused
from agmm.datasets.markup import list_xml
from agmm.datasets.places import find_picture, split_name
from agmm.datasets.records import Dataset
from agmm.datasets.strokes import list_strokes
from agmm.datasets.voc import VOC_CLASSES
from agmm.errors import DataError

_PICTURES = ("", "JPEGImages/", "images/")
"""Where pictures may lie."""


def is_scribblesup(root: Path) -> bool:
    """Say whether the strokes of ScribbleSup lie in a folder.

    Args:
        root: The data set's folder.

    Returns:
        Whether one of its first XML files has lines with a tag.

    Example:
        >>> is_scribblesup(Path("a/folder/that/is/missing"))
        False
    """
    return bool(list_strokes(root))


def read_scribblesup(root: Path) -> Dataset:
    """List the pictures and strokes of such a folder; decodes none.

    Args:
        root: The data set's folder.

    Returns:
        The records of all splits, sorted by name; pictures without a file are unused.

    Raises:
        DataError: No picture is there, two for one file, or two files for one; two labels of one
            form for one picture, or bad classes.
    """
    files = list_xml(root)
    images: dict[Key, Path] = {}
    named: dict[str, Path] = {}
    for path, file in files.items():
        name, image = _find(root, path, file)
        if name in named:
            raise DataError(
                f"{named[name]} and {file}: two files with the strokes of one picture, {name!r}."
                " Remove one."
            )
        named[name] = file
        if image is not None:
            splits = [split for part in path.split("/")[:-1] if (split := split_name(part))]
            images[[*splits, "train"][0], name] = image
    if not images:
        raise DataError(
            f"{root}: has strokes of ScribbleSup, but no picture for any of its {len(files)} files."
            f" Put the pictures into {root / 'JPEGImages'}; or put these files into a folder"
            " scribblesup/ beside the JPEGImages/ of VOC."
        )
    own = root / "classes.txt"
    classes = (
        read_classes(own) if own.is_file() else Classes(VOC_CLASSES, voc_colors(len(VOC_CLASSES)))
    )
    labels = read_beside(root, classes)
    labels["scribbles"] = joined(labels["scribbles"], stroke_labels(named, classes))
    dataset = assembled(root, classes, images, labels, splits_known=True)
    return replace(dataset, unused=list_unused(root, images.values()))


def _find(root: Path, path: str, file: Path) -> tuple[str, Path | None]:
    """Find the picture of a file, and its name: with the folders of the file, or else without."""
    folder, slash, name = path.rpartition("/")
    at = folder + slash
    near = (f"{way}{name}" for place in _PICTURES for way in (at + place, place + at))
    image = find_picture(root, dict.fromkeys(near), str(file))
    if image is None and folder:
        image = find_picture(root, [f"{place}{name}" for place in _PICTURES], str(file))
        path = name if image is not None else path
    return path.removeprefix("JPEGImages/").removeprefix("images/"), image
