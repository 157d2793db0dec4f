"""A folder with the strokes of *ScribbleSup*, see `agmm.datasets.strokes`, and their pictures.

::

    NAME.xml                       strokes
    NAME.jpg, or JPEGImages/, …    pictures; also images/NAME.jpg
    classes.txt                    the classes; else the 21 of VOC

Every picture is ``train``. Beside any other layout the strokes lie in ``scribblesup/``.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from agmm.datasets.assembly import Key, assembled
from agmm.datasets.beside import Label, joined, read_beside
from agmm.datasets.classes import Classes, read_classes, voc_colors
from agmm.datasets.listing import list_files, list_unused
from agmm.datasets.places import find_picture
from agmm.datasets.records import Dataset
from agmm.datasets.strokes import read_strokes
from agmm.datasets.voc import VOC_CLASSES
from agmm.errors import DataError

_SIGN = (b"<annotation", b"<polygon>", b"<tag>", b"<X>")


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
    for path in sorted(root.glob("*.xml"))[:8]:
        try:
            with path.open("rb") as file:
                head = file.read(2**16)
        except OSError:
            continue
        if all(sign in head for sign in _SIGN):
            return True
    return False


def read_scribblesup(root: Path) -> Dataset:
    """List the pictures and strokes of such a folder; decodes none.

    Args:
        root: The data set's folder.

    Returns:
        The records, all in the split "train", sorted by name; pictures without a file are unused.

    Raises:
        DataError: No picture is there, or two for one file; two labels of one form for one picture,
            or bad classes.
    """
    files = {n: f for n, f in list_files(root, (".xml",)).items() if "/" not in n}
    images: dict[Key, Path] = {}
    for name, file in files.items():
        places = (f"{folder}{name}" for folder in ("", "JPEGImages/", "images/"))
        found = find_picture(root, places, str(file))
        if found is not None:
            images["train", name] = found
    if not images:
        raise DataError(
            f"{root}: has strokes of ScribbleSup, but no picture for any of its {len(files)} files."
            f" Put the pictures into {root / 'JPEGImages'}; or put these files into a folder"
            " scribblesup/ beside the JPEGImages/ of VOC."
        )
    path = root / "classes.txt"
    classes = (
        read_classes(path) if path.is_file() else Classes(VOC_CLASSES, voc_colors(len(VOC_CLASSES)))
    )
    labels = read_beside(root, classes)
    strokes = {name: Label(f, partial(read_strokes, f, classes)) for name, f in files.items()}
    labels["scribbles"] = joined(labels["scribbles"], strokes)
    dataset = assembled(root, classes, images, labels, splits_known=True)
    return replace(dataset, unused=list_unused(root, images.values()))
