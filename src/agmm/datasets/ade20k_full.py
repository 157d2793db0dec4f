"""The full ADE20K as published in 2016/17 and 2020/21 (https://groups.csail.mit.edu/vision/datasets).

::

    [images/[ADE/]]training/FOLDER/NAME.jpg    pictures; "validation" is the split "val"
                           FOLDER/NAME_seg.png     class and number of every object, as colours
                           FOLDER/NAME_atr.txt     what they are: 2016/17
                           FOLDER/NAME.json        what they are: 2020/21
    dataset_meta.json or classes.txt           the classes that count, if not all do

All splits that lie in one of these places are read, but none may lie in two. Of the names of a
class the first counts, in small letters. Objects of other classes are unlabelled, and so is what is
no object. Parts of objects are not read.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from agmm.datasets.assembly import Key, assembled
from agmm.datasets.beside import Label, joined, read_beside, require_size
from agmm.datasets.classes import Classes, read_classes, voc_colors
from agmm.datasets.listing import list_files
from agmm.datasets.masks import read_pixels
from agmm.datasets.meta import read_meta
from agmm.datasets.places import folder_splits, split_name
from agmm.datasets.records import Dataset
from agmm.datasets.text import read_json, read_text, shown
from agmm.errors import DataError
from agmm.labels.annotations import DenseMask

_PLACES = ("", "images", "images/ADE")
"""Where the folders of the splits may lie."""

_SPLITS = ("training", "validation")
"""Those that the layout is recognised by."""

_NO_PICTURE = re.compile(r".*_(seg|parts_\d+)")


def is_ade20k_full(root: Path) -> bool:
    """Say whether a folder has this layout.

    Args:
        root: The data set's folder.

    Returns:
        Whether there is a ``NAME_seg.png`` below ``training/`` or ``validation/``.

    Example:
        >>> is_ade20k_full(Path("a/folder/that/is/missing"))
        False
    """
    folders = (root / place / split for place in _PLACES for split in _SPLITS)
    return any(any(folder.rglob("*_seg.png")) for folder in folders)


def read_ade20k_full(root: Path) -> Dataset:
    """List the pictures and labels of a data set in this layout; decodes none.

    Without ``dataset_meta.json`` or ``classes.txt`` the classes are those of the objects in all
    pictures, sorted.

    Args:
        root: The data set's folder.

    Returns:
        The records of all splits, sorted by name.

    Raises:
        DataError: No pictures, two folders of one split, a bad list of classes, none and bad
            annotations or more than 255 classes in them, or two files of one name.
    """
    images: dict[Key, Path] = {}
    segmented: dict[str, tuple[Path, Path]] = {}
    found = (path for place in _PLACES for path in sorted((root / place).glob("[!.]*")))
    splits = folder_splits(path for path in found if split_name(path.name) and path.is_dir())
    for folder, split in splits.items():
        images |= {
            (split, name): file
            for name, file in list_files(folder, (".jpg", ".jpeg")).items()
            if not _NO_PICTURE.fullmatch(name)
        }
        masks = list_files(folder, (".png",))
        for path, mask in masks.items():
            name = path.removesuffix("_seg")
            if name != path:
                segmented[f"{split}/{name}"] = (mask, _description(folder, name))
    if not images:
        raise DataError(f"{root / _SPLITS[0]}: there are no pictures in it. Put them there.")
    classes = _classes(root, [file for _, file in segmented.values()])
    labels = read_beside(root, classes)
    own = {
        name: Label(mask, partial(read_objects_mask, mask, file, classes.names))
        for name, (mask, file) in segmented.items()
    }
    labels["dense"] = joined(labels["dense"], own)
    return assembled(root, classes, images, labels, splits_known=True)


def read_objects_mask(
    path: Path, description: Path, names: tuple[str, ...], image: Path
) -> DenseMask:
    """Read one ``NAME_seg.png``.

    The index of a class is red / 10 * 256 + green. ``NAME.json`` says the indices of its objects;
    ``NAME_atr.txt`` numbers the objects, in the order of blue.

    Args:
        path: The PNG.
        description: What its objects are.
        names: The classes that count, in small letters.
        image: The picture.

    Returns:
        The class of every pixel; 255 = no object, or one of a class that does not count.

    Raises:
        DataError: One of the files cannot be read, they do not fit to each other, or the PNG not
            to the picture.
    """
    colors, drawn = read_pixels(path)
    if colors.ndim != 3:
        raise DataError(
            f"{path}: must have colours, which say class and object, but has grey values or a"
            " palette. Take the file of the data set as it is."
        )
    require_size(path, colors, image)
    # Black is no object, and what is fully transparent is none either.
    red, green, blue = np.where(drawn, np.moveaxis(colors, 2, 0), 0).astype(np.int32)
    index = red // 10 * 256 + green
    objects = read_objects(description)
    numbers = index if description.suffix == ".json" else _ranked(blue, objects)
    found, inverse = np.unique(numbers, return_inverse=True)
    unknown = sorted({*found.tolist()} - {0, *objects})
    if unknown:
        y, x = np.argwhere(numbers == unknown[0])[0].tolist()
        raise DataError(
            f"{path}: the object or class {unknown[0]}, first at x={x}, y={y}, is not in"
            f" {description.name}. Take both files from the same version of the data set."
        )
    place = {name.casefold(): k for k, name in enumerate(names)}
    table = [place.get(objects.get(number, ""), 255) for number in found.tolist()]
    return DenseMask(np.array(table, dtype=np.uint8)[inverse].reshape(index.shape))


def read_objects(path: Path) -> dict[int, str]:
    """Read what the objects of a picture are, parts of objects left out.

    Args:
        path: ``NAME_atr.txt`` or ``NAME.json``; UTF-8, or Latin-1 as they were published.

    Returns:
        The number of the object (``_atr.txt``) or the index of its class (JSON) to the first name
        of the class, in small letters.

    Raises:
        DataError: Missing, or not of this kind; a number or index that has two names.
    """
    pairs = _from_json(path) if path.suffix == ".json" else _from_text(path)
    objects: dict[int, str] = {}
    for number, name, where in pairs:
        first = name.split(",")[0].strip().casefold()
        if not first or number < 0 or objects.setdefault(number, first) != first:
            raise DataError(
                f"{where}: the number {number} with the name {name!r:.80} is none, or has another"
                " name too. Correct it."
            )
    return objects


def _description(folder: Path, name: str) -> Path:
    text = folder / f"{name}_atr.txt"
    return text if text.is_file() else folder / f"{name}.json"


def _classes(root: Path, descriptions: list[Path]) -> Classes:
    if (root / "dataset_meta.json").is_file():
        return read_meta(root / "dataset_meta.json")
    if (root / "classes.txt").is_file():
        return read_classes(root / "classes.txt")
    names = sorted({name for file in descriptions for name in read_objects(file).values()})
    if not 1 <= len(names) <= 255:
        raise DataError(
            f"{root}: its objects have {len(names)} classes, but there must be 1..255. Write those"
            " that count into classes.txt, one per line; all others are then unlabelled."
        )
    return Classes(tuple(names), voc_colors(len(names)), colors_given=False)


def _ranked(blue: np.ndarray, objects: Mapping[int, str]) -> np.ndarray:
    """Number the objects: blue is their number, or grows with it; 0 is no object."""
    values = np.unique(blue[blue > 0])
    if {*values.tolist()} <= {*objects}:
        return blue
    return np.where(blue > 0, np.searchsorted(values, blue) + 1, 0)


def _from_text(path: Path) -> list[tuple[int, str, str]]:
    """Read lines such as ``001 # 0 # 0 # sky # sky # ""``: number, part level, ..., class."""
    found = []
    for line, text in enumerate(read_text(path, latin=True).splitlines(), start=1):
        where = f"{path}, line {line}"
        columns = [column.strip() for column in text.split("#")]
        if not text.strip():
            continue
        if len(columns) != 6 or not all(_is_number(column) for column in columns[:2]):
            raise DataError(
                f"{where}: must be 'number # part level # occluded # class # name # attributes',"
                f" but is {text!r:.80}. Correct it."
            )
        if int(columns[1]) == 0:
            found.append((int(columns[0]), columns[3], where))
    return found


def _from_json(path: Path) -> list[tuple[int, str, str]]:
    content = read_json(path, latin=True)
    annotation = content.get("annotation") if isinstance(content, dict) else None
    objects = annotation.get("object") if isinstance(annotation, dict) else None
    if not isinstance(objects, list):
        raise DataError(f"{path}: must have a list annotation.object. Take the file of ADE20K.")
    found = []
    for number, element in enumerate(objects, start=1):
        where = f"{path}, object {number}"
        entry = element if isinstance(element, dict) else {}
        parts = entry.get("parts")
        level = parts.get("part_level") if isinstance(parts, dict) else None
        index, name = entry.get("name_ndx"), entry.get("name")
        if type(level) is not int or type(index) is not int or not isinstance(name, str):
            raise DataError(
                f"{where}: must have whole numbers name_ndx and parts.part_level and the text"
                f" name, but is {shown(element)}. Correct it."
            )
        if level == 0:
            found.append((index, name, where))
    return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10
