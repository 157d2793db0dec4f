"""The ``folder`` layout, for data that come in no format.

::

    images/[split/]NAME.jpg                              pictures
    masks/[split/]NAME.png                               dense masks
    points/ scribbles/ blocks/ [split/]NAME.png          weak labels, 255 = unlabelled
    boxes.csv tags.csv clicks.json                       weak labels of [split/]NAME
    classes.txt                                          one class per line

If pictures lie in ``images/`` itself, a label in a folder ``masks/val/`` (or of "val/NAME" in a
table) puts its picture into the split "val", and every other picture is in "train". If none do, the
folders in ``images/`` are the splits; the labels may lie in such folders or not. NAME may have
folders of its own below a split.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from agmm.datasets.beside import Label, colored_by_masks, list_index_pngs, read_beside
from agmm.datasets.classes import read_classes
from agmm.datasets.images import IMAGE_SUFFIXES
from agmm.datasets.listing import list_files
from agmm.datasets.records import Dataset, Record, Unmatched
from agmm.errors import DataError
from agmm.labels.forms import Form

_Labels = Mapping[Form, Mapping[str, Label]]
"""For each form, path to label."""

_Key = tuple[str, str]
"""Split and name of a picture."""


def is_folder(root: Path) -> bool:
    """Say whether a folder has this layout.

    Args:
        root: The data set's folder.

    Returns:
        Whether it has both ``images/`` and ``classes.txt``.

    Example:
        >>> is_folder(Path("a/folder/that/is/missing"))
        False
    """
    return (root / "images").is_dir() and (root / "classes.txt").is_file()


def read_folder(root: Path) -> Dataset:
    """List the pictures and labels of a data set in the ``folder`` layout; decodes none.

    Args:
        root: The data set's folder.

    Returns:
        The records of all splits, sorted by name.

    Raises:
        DataError: No pictures, no or bad ``classes.txt``, names that are not unique, or labels of
            one picture in two splits.
    """
    pictures = _list_pictures(root / "images")
    classes = colored_by_masks(read_classes(root / "classes.txt"), root / "masks")
    labels: dict[Form, dict[str, Label]] = {
        **read_beside(root, classes),
        "dense": list_index_pngs(root / "masks", "dense", classes),
    }
    flat = not any("/" in path for path in pictures)
    images = _split_by_labels(pictures, labels) if flat else _split_by_folders(pictures)
    splits: dict[str, list[Record]] = {split: [] for split in sorted({key[0] for key in images})}
    used: dict[tuple[Form, str], Path] = {}
    for split, name in sorted(images):
        image = images[split, name]
        paths = _labels_of(split, name, image, labels)
        for form, path in paths.items():
            if (form, path) in used:
                raise DataError(
                    f"{labels[form][path].file}: is the label of both {used[form, path]} and"
                    f" {image}. Say its split, as in '{split}/{path}'."
                )
            used[form, path] = image
        readers = {form: partial(labels[form][path].read, image) for form, path in paths.items()}
        splits[split].append(Record(name, image, readers))
    unmatched = tuple(
        _unmatched(path, found[path].file, form, None if flat else set(splits))
        for form, found in labels.items()
        for path in sorted(found)
        if (form, path) not in used
    )
    records = {split: tuple(listed) for split, listed in splits.items()}
    return Dataset(root, classes, records, unmatched=unmatched)


def _list_pictures(folder: Path) -> dict[str, Path]:
    """List the pictures by their path, all of them in ``folder`` itself or all in folders there."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder. Put the pictures into it.")
    pictures = list_files(folder)
    if not pictures:
        raise DataError(
            f"{folder}: there are no pictures in it ({' '.join(sorted(IMAGE_SUFFIXES))}). Put them"
            " there."
        )
    nested = [path for path in pictures if "/" in path]
    if nested and len(nested) < len(pictures):
        raise DataError(
            f"{folder}: has pictures in itself and in folders, such as {pictures[nested[0]]}, so"
            " that their splits are not clear. Put all of them into folders, one per split, or"
            " none."
        )
    return pictures


def _split_by_folders(pictures: Mapping[str, Path]) -> dict[_Key, Path]:
    parts = {path: path.partition("/") for path in pictures}
    return {(split, name): pictures[path] for path, (split, _, name) in parts.items()}


def _split_by_labels(images: Mapping[str, Path], labels: _Labels) -> dict[_Key, Path]:
    """Give pictures without a split the one that the folder of a label says, else "train"."""
    places: dict[str, dict[str, Path]] = defaultdict(dict)
    for found in labels.values():
        for path, label in found.items():
            split, _, name = path.partition("/")
            places[name].setdefault(split, label.file)  # the name is empty without a folder
    result: dict[_Key, Path] = {}
    for name, image in images.items():
        said = places.get(name, {})
        if len(said) > 1:
            first, second = list(said.values())[:2]
            raise DataError(
                f"{image}: its labels {first} and {second} say two splits. Keep one of them, or"
                " put the pictures into folders, one per split."
            )
        result[next(iter(said), "train"), name] = image
    return result


def _labels_of(split: str, name: str, image: Path, labels: _Labels) -> dict[Form, str]:
    """Find the labels of a picture, by its split and name or its name alone; give their paths."""
    result: dict[Form, str] = {}
    for form, of in labels.items():
        found = [path for path in (f"{split}/{name}", name) if path in of]
        if len(found) > 1:
            first, second = (of[path].file for path in found)
            raise DataError(
                f"{image}: has two labels of the form {form}, {first} and {second}. Remove one of"
                " them."
            )
        result |= dict.fromkeys([form], found[0]) if found else {}
    return result


def _unmatched(path: str, file: Path, form: Form, splits: set[str] | None) -> Unmatched:
    """Describe a label without a picture; with ``splits`` None every folder is a split."""
    split, _, name = path.partition("/")
    if name and (splits is None or split in splits):
        return Unmatched(name, file, form, split)
    return Unmatched(path, file, form, None)
