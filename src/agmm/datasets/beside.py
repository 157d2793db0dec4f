"""Labels that may lie beside the pictures of any layout.

::

    masks/NAME.png                          dense masks: index PNGs, 255 = unlabelled
    points/ scribbles/ blocks/ NAME.png     the same of weak labels
    scribblesup/NAME.xml                    scribbles, see `agmm.datasets.strokes`
    clicks.json                             points, see `agmm.datasets.clicks`
    boxes.csv tags.csv                      see `agmm.datasets.tables`

A layout with masks of its own has those in ``masks/`` too, for pictures without one.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from agmm.datasets.classes import Classes
from agmm.datasets.clicks import read_clicks
from agmm.datasets.images import image_size
from agmm.datasets.listing import list_files
from agmm.datasets.masks import read_index_mask, read_palette
from agmm.datasets.strokes import read_strokes
from agmm.datasets.tables import read_boxes, read_tags
from agmm.errors import DataError
from agmm.labels.annotations import Annotation, Blocks, DenseMask, Points, Scribbles
from agmm.labels.forms import Form

PNG_FOLDERS: dict[Form, str] = {
    **{form: form for form in ("points", "scribbles", "blocks")},
    "dense": "masks",
}
"""Form to the folder of its index PNGs beside the pictures."""


@dataclass(frozen=True)
class Label:
    """One label that was found.

    Args:
        file: Where it stands.
        read: Gives the annotation, called with its picture; see `agmm.datasets.records.Record`.
    """

    file: Path
    read: Callable[[Path], Annotation]


def read_beside(root: Path, classes: Classes) -> dict[Form, dict[str, Label]]:
    """List the labels beside the pictures; tables are read, index PNGs are not.

    Args:
        root: The data set's folder.
        classes: The data set's classes.

    Returns:
        For each form, name of the picture to its label.

    Raises:
        DataError: A table that cannot be read, or two labels of one form for one picture.

    Example:
        >>> classes = Classes(("cat",), ((0, 0, 0),))
        >>> read_beside(Path("a/folder/that/is/missing"), classes)["boxes"]
        {}
    """

    def table(file: str, read: Callable[[Path, Classes], Mapping[str, Annotation]]) -> _Labels:
        path = root / file
        rows = read(path, classes).items() if path.is_file() else ()
        return {name: Label(path, partial(_given, annotation)) for name, annotation in rows}

    pngs = {form: list_index_pngs(root / at, form, classes) for form, at in PNG_FOLDERS.items()}
    strokes = list_files(root / "scribblesup", (".xml",))
    return {
        "points": joined(pngs["points"], table("clicks.json", read_clicks)),
        "scribbles": joined(
            pngs["scribbles"],
            stroke_labels(strokes, classes),
        ),
        "blocks": pngs["blocks"],
        "boxes": table("boxes.csv", read_boxes),
        "tags": table("tags.csv", read_tags),
        "dense": pngs["dense"],
    }


_Labels = dict[str, Label]


def list_index_pngs(folder: Path, form: Form, classes: Classes) -> dict[str, Label]:
    """List the labels in a folder of index PNGs; decodes none.

    Args:
        folder: The folder; there need be none.
        form: Their form.
        classes: The data set's classes.

    Returns:
        Name of the picture, which is the file's path below the folder without suffix, to its label.

    Raises:
        DataError: Two files of one name.

    Example:
        >>> list_index_pngs(Path("a/missing/folder"), "dense", Classes(("cat",), ((0, 0, 0),)))
        {}
    """
    return {name: index_png(file, form, classes) for name, file in list_files(folder).items()}


def stroke_labels(files: Mapping[str, Path], classes: Classes) -> dict[str, Label]:
    """Make labels of files with the strokes of ScribbleSup; each is read when it is asked.

    Args:
        files: Name of the picture to its file.
        classes: The data set's classes.

    Returns:
        Name of the picture to its label.

    Example:
        >>> stroke_labels({"a": Path("a.xml")}, Classes(("cat",), ((0, 0, 0),)))["a"].file.name
        'a.xml'
    """
    return {name: Label(f, partial(read_strokes, f, classes)) for name, f in files.items()}


def index_png(path: Path, form: Form, classes: Classes) -> Label:
    """Make a label of one index PNG; it is decoded when it is read.

    Args:
        path: The PNG.
        form: Its form.
        classes: The data set's classes.

    Returns:
        The label.

    Example:
        >>> index_png(Path("masks/a.png"), "dense", Classes(("cat",), ((0, 0, 0),))).file.name
        'a.png'
    """
    return Label(path, partial(read_index_png, path, form, classes))


def joined(first: Mapping[str, Label], second: Mapping[str, Label]) -> dict[str, Label]:
    """Join labels of one form from two places.

    Args:
        first: Name of the picture to its label.
        second: The same from another place.

    Returns:
        Those of both.

    Raises:
        DataError: A picture has a label in both.

    Example:
        >>> joined({}, {})
        {}
    """
    found = {**first}
    for name, label in second.items():
        add_label(found, name, label)
    return found


def add_label(found: dict[str, Label], name: str, label: Label) -> None:
    """Add a label to others of its form.

    Args:
        found: Name of the picture to its label, which is changed.
        name: The label's picture.
        label: The label.

    Raises:
        DataError: This picture has a label already.

    Example:
        >>> label = Label(Path("points/a.png"), lambda image: ...)
        >>> add_label({"a": label}, "a", label)
        Traceback (most recent call last):
        agmm.errors.DataError: points/a.png and points/a.png: two labels of one form for 'a', ...
    """
    if name in found:
        raise DataError(
            f"{found[name].file} and {label.file}: two labels of one form for {name!r}, so that it"
            " is not clear which one is meant. Remove one."
        )
    found[name] = label


def colored_by_masks(classes: Classes, folder: Path) -> Classes:
    """Take over the palette of the first dense mask, if the classes have no colours of their own.

    Args:
        classes: The data set's classes.
        folder: Where the masks lie; there need be none.

    Returns:
        The classes in these colours, or as they were. A broken mask is reported when it is read.

    Raises:
        DataError: Two files of one name.

    Example:
        >>> classes = Classes(("cat",), ((0, 0, 0),), colors_given=False)
        >>> colored_by_masks(classes, Path("a/missing/folder")) == classes
        True
    """
    for path in [*list_files(folder).values()][:1]:
        with contextlib.suppress(DataError):
            return classes.with_palette(read_palette(path) or [])
    return classes


def read_index_png(path: Path, form: Form, classes: Classes, image: Path) -> Annotation:
    """Read one index PNG and see that it has its picture's size.

    Args:
        path: The label.
        form: Its form.
        classes: The data set's classes.
        image: The picture.

    Returns:
        The annotation; for points one click per labelled pixel, row by row.

    Raises:
        DataError: The label or picture cannot be read, has an unknown class, or another size.
    """
    mask = read_index_mask(path, classes)
    require_size(path, mask, image)
    if form == "points":
        return Points.from_mask(mask)
    kinds: dict[Form, type[Scribbles | Blocks | DenseMask]] = {
        "scribbles": Scribbles,
        "blocks": Blocks,
        "dense": DenseMask,
    }
    return kinds[form](mask)


def require_size(path: Path, mask: np.ndarray, image: Path) -> None:
    """Make sure that a label has the size of its picture.

    Args:
        path: The label.
        mask: (H, W, ...), what was read from it.
        image: The picture.

    Raises:
        DataError: Another size, or the picture cannot be read.
    """
    size = image_size(image)
    if mask.shape[:2] != size:
        raise DataError(
            f"{path}: has {mask.shape[1]}x{mask.shape[0]} pixels (width x height), but its picture"
            f" {image} has {size[1]}x{size[0]}. Export the label at the picture's size."
        )


def _given(annotation: Annotation, image: Path) -> Annotation:  # noqa: ARG001 - of every label
    return annotation
