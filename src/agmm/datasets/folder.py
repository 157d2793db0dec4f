"""The ``folder`` layout, for data that come in no format.

::

    images/[split/]NAME.jpg                              pictures
    masks/[split/]NAME.png                               dense masks
    points/ scribbles/ blocks/ [split/]NAME.png          weak labels, 255 = unlabelled
    classes.txt                                          one class per line

If pictures lie in ``images/`` itself, a label in a folder ``masks/val/`` puts its picture into the
split "val", and every other picture is in "train". If none do, the folders in ``images/`` are the
splits; the labels may lie in such folders or not. NAME may have folders of its own below a split.
"""

import contextlib
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from agmm.datasets.classes import Classes, read_classes
from agmm.datasets.images import IMAGE_SUFFIXES, image_size
from agmm.datasets.masks import read_index_mask, read_palette
from agmm.datasets.records import Dataset, Record, Unmatched
from agmm.errors import DataError
from agmm.labels.annotations import Annotation, Blocks, DenseMask, Points, Scribbles
from agmm.labels.forms import Form
from agmm.shapes import IGNORE_INDEX, MaskArray

_FOLDERS: dict[Form, str] = {
    "points": "points",
    "scribbles": "scribbles",
    "blocks": "blocks",
    "dense": "masks",
}

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
    labels = {form: _list_labels(root / folder) for form, folder in _FOLDERS.items()}
    images, flat = _list_images(root / "images", labels)
    classes = _with_colors_of_masks(read_classes(root / "classes.txt"), labels["dense"])
    splits: dict[str, list[Record]] = {split: [] for split in sorted({key[0] for key in images})}
    used: dict[Path, Path] = {}
    for split, name in sorted(images):
        image = images[split, name]
        files = _labels_of(split, name, image, labels)
        for file in files.values():
            if file in used:
                raise DataError(
                    f"{file}: is the label of both {used[file]} and {image}. Put it into a folder"
                    " that is named after its split."
                )
            used[file] = image
        readers = {
            form: partial(read_label, file, form, image, classes) for form, file in files.items()
        }
        splits[split].append(Record(name, image, readers))
    unmatched = tuple(
        _unmatched(path, files[path], form, None if flat else set(splits))
        for form, files in labels.items()
        for path in sorted(files)
        if files[path] not in used
    )
    found = {split: tuple(records) for split, records in splits.items()}
    return Dataset(root, classes, found, unmatched=unmatched)


def read_label(path: Path, form: Form, image: Path, classes: Classes) -> Annotation:
    """Read one label and see that it has its picture's size.

    Args:
        path: The label: an index PNG.
        form: Its form.
        image: The picture.
        classes: The data set's classes.

    Returns:
        The annotation; for points one click per labelled pixel, row by row.

    Raises:
        DataError: The label or picture cannot be read, has an unknown class, or another size.
    """
    mask = read_index_mask(path, classes)
    size = image_size(image)
    if mask.shape != size:
        raise DataError(
            f"{path}: has {mask.shape[1]}x{mask.shape[0]} pixels (width x height), but its picture"
            f" {image} has {size[1]}x{size[0]}. Export the label at the picture's size."
        )
    if form == "points":
        return _as_points(mask)
    kinds: dict[Form, type[Scribbles | Blocks | DenseMask]] = {
        "scribbles": Scribbles,
        "blocks": Blocks,
        "dense": DenseMask,
    }
    return kinds[form](mask)


def _as_points(mask: MaskArray) -> Points:
    rows, columns = np.nonzero(mask != IGNORE_INDEX)
    return Points(np.stack([columns, rows], axis=1), mask[rows, columns])


def _list_images(
    folder: Path, labels: Mapping[Form, Mapping[str, Path]]
) -> tuple[dict[_Key, Path], bool]:
    """List the pictures by split and name, and say whether they lie in ``folder`` itself."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder. Put the pictures into it.")
    files = _walk(folder)
    if not files:
        raise DataError(
            f"{folder}: there are no pictures in it ({' '.join(sorted(IMAGE_SUFFIXES))}). Put them"
            " there."
        )
    paths = _by_path(files, folder)
    nested = [file for file in files if file.parent != folder]
    if nested and len(nested) < len(files):
        raise DataError(
            f"{folder}: has pictures in itself and in folders, such as {nested[0]}, so that their"
            " splits are not clear. Put all of them into folders, one per split, or none."
        )
    if nested:
        parts = {path: path.partition("/") for path in paths}
        return {(split, name): paths[path] for path, (split, _, name) in parts.items()}, False
    return _split_by_labels(paths, labels), True


def _list_labels(folder: Path) -> dict[str, Path]:
    """List the labels by their path below ``folder``, without suffix.

    Pictures that are no PNG are listed too, so that reading them tells what is wrong.
    """
    return _by_path(_walk(folder), folder) if folder.is_dir() else {}


def _walk(folder: Path) -> list[Path]:
    """List all pictures below a folder; hidden files are some tool's and not the user's."""
    found: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            found += _walk(entry)
        elif entry.suffix.lower() in IMAGE_SUFFIXES:
            found.append(entry)
    return found


def _by_path(files: list[Path], folder: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for file in files:
        path = file.relative_to(folder).with_suffix("").as_posix()
        if path in paths:
            raise DataError(
                f"{paths[path]} and {file}: two files of one name, so that it is not clear which"
                " one is meant. Rename or remove one."
            )
        paths[path] = file
    return paths


def _split_by_labels(
    images: Mapping[str, Path], labels: Mapping[Form, Mapping[str, Path]]
) -> dict[_Key, Path]:
    """Give pictures without a split the one that the folder of a label says, else "train"."""
    places: dict[str, dict[str, Path]] = defaultdict(dict)
    for files in labels.values():
        for path, file in files.items():
            split, _, name = path.partition("/")
            places[name].setdefault(split, file)  # the name is empty without a folder
    result: dict[_Key, Path] = {}
    for name, image in images.items():
        found = places.get(name, {})
        if len(found) > 1:
            first, second = list(found.values())[:2]
            raise DataError(
                f"{image}: its labels {first} and {second} say two splits. Keep one of them, or"
                " put the pictures into folders, one per split."
            )
        result[next(iter(found), "train"), name] = image
    return result


def _labels_of(
    split: str, name: str, image: Path, labels: Mapping[Form, Mapping[str, Path]]
) -> dict[Form, Path]:
    """Find the labels of a picture, in the folder of its split or beside all others."""
    result: dict[Form, Path] = {}
    for form, files in labels.items():
        found = [files[path] for path in (f"{split}/{name}", name) if path in files]
        if len(found) > 1:
            raise DataError(
                f"{image}: has two labels of the form {form}, {found[0]} and {found[1]}. Remove"
                " one of them."
            )
        result |= dict.fromkeys([form], found[0]) if found else {}
    return result


def _unmatched(path: str, file: Path, form: Form, splits: set[str] | None) -> Unmatched:
    """Describe a label without a picture; with ``splits`` None every folder is a split."""
    split, _, name = path.partition("/")
    if name and (splits is None or split in splits):
        return Unmatched(name, file, form, split)
    return Unmatched(path, file, form, None)


def _with_colors_of_masks(classes: Classes, masks: Mapping[str, Path]) -> Classes:
    """Take over the palette of the first dense mask; a broken one is reported when it is read."""
    for path in sorted(masks)[:1]:
        with contextlib.suppress(DataError):
            return classes.with_palette(read_palette(masks[path]) or [])
    return classes
