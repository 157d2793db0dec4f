"""The ``folder`` layout, for data that come in no format.

::

    images/[split/]NAME.jpg                              pictures
    masks/[split/]NAME.png                               dense masks
    points/ scribbles/ blocks/ [split/]NAME.png          weak labels, 255 = unlabelled
    boxes.csv tags.csv clicks.json                       weak labels of [split/]NAME
    classes.txt                                          one class per line

If pictures lie in ``images/`` itself, a label in a folder ``masks/val/`` (or of "val/NAME" in a
table) puts its picture into the split "val", and every other picture is in "train". If none do, the
folders in ``images/`` are the splits; the labels may lie in such folders or not. Usual spellings of
"train", "val" and "test", such as "training", mean these. NAME may have folders of its own below a
split.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from agmm.datasets.assembly import Key, Labels, assembled, in_known_splits
from agmm.datasets.beside import colored_by_masks, read_beside
from agmm.datasets.classes import read_classes
from agmm.datasets.images import IMAGE_SUFFIXES
from agmm.datasets.listing import list_files, list_unread
from agmm.datasets.places import USUAL_SPLITS, folder_splits
from agmm.datasets.records import Dataset
from agmm.errors import DataError


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
        DataError: No pictures, no or bad ``classes.txt``, names that are not unique, two folders of
            one split, or labels of one picture in two splits.
    """
    pictures = list_pictures(root / "images")
    classes = colored_by_masks(read_classes(root / "classes.txt"), root / "masks")
    labels = read_beside(root, classes)
    nested = any("/" in path for path in pictures)
    if nested:
        images = split_by_folders(in_usual_splits(root / "images", pictures))
    else:
        labels = in_known_splits(labels, pictures, USUAL_SPLITS)
        images = _split_by_labels(pictures, labels)
    dataset = assembled(root, classes, images, labels, splits_known=nested)
    unread = list_unread(root / "images", pictures)
    return replace(dataset, unused=unread, unused_as="of a type that is not read")


def list_pictures(folder: Path) -> dict[str, Path]:
    """List the pictures by their path, all of them in ``folder`` itself or all in folders there.

    Args:
        folder: Where they lie.

    Returns:
        Path below ``folder``, without suffix, to file; sorted.

    Raises:
        DataError: No such folder, no pictures, or some in ``folder`` itself and some in folders.

    Example:
        >>> list_pictures(Path("a/folder/that/is/missing"))
        Traceback (most recent call last):
        agmm.errors.DataError: a/folder/that/is/missing: there is no such folder. Put ...
    """
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


def split_by_folders(pictures: Mapping[str, Path]) -> dict[Key, Path]:
    """Take the first folder of each picture's path as its split.

    Args:
        pictures: Path, as "SPLIT/NAME", to file.

    Returns:
        Split and name to file.

    Example:
        >>> split_by_folders({"val/a/b": Path("images/val/a/b.jpg")})
        {('val', 'a/b'): ...Path('images/val/a/b.jpg')}
    """
    parts = {path: path.partition("/") for path in pictures}
    return {(split, name): pictures[path] for path, (split, _, name) in parts.items()}


def pictures_by_split(folder: Path) -> dict[Key, Path]:
    """List the pictures by their split: a folder as ``training/``, or "train" if there are none.

    Args:
        folder: Where they lie.

    Returns:
        Split and name to file.

    Raises:
        DataError: As for `list_pictures` and `in_usual_splits`.
    """
    pictures = list_pictures(folder)
    if not any("/" in path for path in pictures):
        return {("train", name): file for name, file in pictures.items()}
    return split_by_folders(in_usual_splits(folder, pictures))


def in_usual_splits(folder: Path, files: Mapping[str, Path]) -> dict[str, Path]:
    """Give paths their splits as we call them.

    Args:
        folder: Where the files lie.
        files: Path below it to file.

    Returns:
        The same with "train/a" for "training/a"; a path without a folder is as it was.

    Raises:
        DataError: Two folders mean one split.

    Example:
        >>> in_usual_splits(Path("masks"), {"training/a": Path("masks/training/a.png")})
        {'train/a': ...Path('masks/training/a.png')}
    """
    folders = sorted({path.partition("/")[0] for path in files if "/" in path})
    splits = folder_splits(folder / name for name in folders)
    parts = {path: path.partition("/") for path in files}
    return {
        f"{splits[folder / first]}/{name}" if name else path: files[path]
        for path, (first, _, name) in parts.items()
    }


def _split_by_labels(images: Mapping[str, Path], labels: Labels) -> dict[Key, Path]:
    """Give pictures without a split the one that the folder of a label says, else "train"."""
    places: dict[str, dict[str, Path]] = defaultdict(dict)
    for found in labels.values():
        for path, label in found.items():
            split, _, name = path.partition("/")
            places[name].setdefault(split, label.file)  # the name is empty without a folder
    result: dict[Key, Path] = {}
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
