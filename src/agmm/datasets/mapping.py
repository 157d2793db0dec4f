"""Renaming, merging and dropping classes.

The mapping file is YAML, one line for each class that changes; all others stay as they are::

    car: vehicle
    bus: vehicle        # merged: both are the class vehicle
    sky: background     # what is not background yet becomes it
    dog: null           # dropped: its pixels are 255 = unlabelled

A class that is dropped leaves no trace in points, scribbles, blocks and dense masks. Tags and boxes
cannot say "unlabelled": without the dog's box its pixels would be background, so pictures with a
tag or a box of a dropped class are refused. Map the class to background, or leave them out.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import UInt8

from agmm.datasets.classes import VOID_COLOR, Classes, Color, voc_colors
from agmm.datasets.records import Dataset, Record
from agmm.datasets.text import read_text
from agmm.errors import DataError
from agmm.labels.annotations import Annotation, Blocks, Boxes, DenseMask, Points, Scribbles, Tags
from agmm.shapes import IGNORE_INDEX, MaskArray

Mapped = Mapping[str, str | None]
"""Old name of a class to its new one; None drops it."""

_STR, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"


def read_mapping(path: Path) -> dict[str, str | None]:
    r"""Read a mapping file; see the module for what is in it.

    Args:
        path: The file: YAML in UTF-8.

    Returns:
        Old name to new name; None for a class that is dropped.

    Raises:
        DataError: Missing, no YAML, or something else than names and null.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "classes.yaml"
        >>> _ = path.write_text("car: vehicle\ndog: null\n")
        >>> read_mapping(path)
        {'car': 'vehicle', 'dog': None}
    """
    try:
        # The nodes and not the values: they know of doubled keys, of types and of lines.
        root = yaml.compose(read_text(path), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DataError(f"{path}: is not YAML ({error}). Write lines 'old: new'.") from error
    if not isinstance(root, yaml.MappingNode):
        raise DataError(
            f"{path}: is no list of classes. Write lines 'old: new', or 'old: null' to drop a"
            " class."
        )
    mapping: dict[str, str | None] = {}
    for key, value in root.value:
        where = f"{path}, line {key.start_mark.line + 1}"
        old, new = _name(key, where), None if value.tag == _NULL else _name(value, where)
        if old in mapping:
            raise DataError(f"{where}: {old!r} is there twice. Keep one of the lines.")
        mapping[old] = new
    return mapping


def mapped(dataset: Dataset, mapping: Mapped) -> Dataset:
    """Rename, merge and drop the classes of a data set; decodes nothing.

    The new classes are in the order of the old ones, a merged one in the place of its first. It has
    the colour of the old class of its name, else of the first.

    Args:
        dataset: The data set.
        mapping: Old name to new name, or to None to drop the class; others stay as they are.

    Returns:
        The data set with the new classes, whose labels are mapped when they are read.

    Raises:
        DataError: A class that there is not, none that is left, or new names that differ in
            capitals only.

    Example:
        >>> old = Classes(("cat", "car", "bus"), ((0, 0, 0), (9, 0, 0), (0, 9, 0)))
        >>> new = mapped(Dataset(Path("data"), old, {}), {"car": "vehicle", "bus": "vehicle"})
        >>> new.classes.names
        ('cat', 'vehicle')
    """
    names = dataset.classes.names
    for old in mapping:
        if old not in names:
            raise DataError(
                f"{dataset.root}: the mapping names {old!r}, which is no class; the classes are"
                f" {', '.join(names)}. Correct the mapping."
            )
    target = {name: mapping.get(name, name) for name in names}
    kept = tuple(dict.fromkeys(new for new in target.values() if new is not None))
    classes = _classes(dataset, kept, target)
    codes = [IGNORE_INDEX if (new := target[old]) is None else kept.index(new) for old in names]
    table = np.full(IGNORE_INDEX + 1, IGNORE_INDEX, dtype=np.uint8)
    table[: len(codes)] = codes
    splits = {
        split: tuple(_record(record, table, classes.background) for record in records)
        for split, records in dataset.splits.items()
    }
    return replace(dataset, classes=classes, splits=splits)


def _name(node: yaml.Node, where: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag != _STR or not node.value.strip():
        shown = f"{node.value!r:.60}" if isinstance(node, yaml.ScalarNode) else "a list or mapping"
        raise DataError(
            f"{where}: expected the name of a class, got {shown}. Write 'old: new' or 'old: null',"
            " and numbers and yes, no, on, off in quotes."
        )
    return str(node.value.strip())


def _classes(dataset: Dataset, kept: tuple[str, ...], target: Mapped) -> Classes:
    old = dataset.classes
    colors: dict[str, Color] = {}
    for name, color in zip(old.names, old.colors, strict=True):
        new = target[name]
        if new is not None and (new not in colors or new == name):
            colors[new] = color
    chosen = tuple(colors[name] for name in kept)
    # A new name may take the colour of a class that was merged into another one.
    distinct = len({*chosen, VOID_COLOR}) == len(kept) + 1
    try:
        return Classes(
            kept,
            chosen if distinct else voc_colors(len(kept)),
            colors_given=old.colors_given and distinct,
        )
    except DataError as error:
        raise DataError(f"{dataset.root}, after the mapping: {error}") from error


def _record(record: Record, table: UInt8[np.ndarray, "256"], background: int | None) -> Record:
    labels = {
        form: partial(_read, read, table, background, record.image)
        for form, read in record.labels.items()
    }
    guesses = tuple(partial(_guess, read, table) for read in record.guesses)
    return replace(record, labels=labels, guesses=guesses)


def _guess(read: Callable[[], MaskArray], table: UInt8[np.ndarray, "256"]) -> MaskArray:
    mask: np.ndarray = table[read()]
    return mask


def _read(
    read: Callable[[], Annotation],
    table: UInt8[np.ndarray, "256"],
    background: int | None,
    image: Path,
) -> Annotation:
    """Read a label and map its classes."""
    label = read()
    if isinstance(label, Scribbles | Blocks | DenseMask):
        return type(label)(table[label.mask])
    classes = table[label.classes]
    kept = classes != IGNORE_INDEX
    if isinstance(label, Points):
        return Points(label.xy[kept], classes[kept])
    if not kept.all():
        raise DataError(
            f"{image}: {label.form} name a class that the mapping drops, and cannot say that its"
            " pixels are unlabelled. Map the class to background or to another one, or leave the"
            " picture out with --skip-bad."
        )
    if isinstance(label, Tags):
        return Tags(np.unique(classes))
    # What lies outside of all boxes is background: there is no box round it.
    objects = classes != background if background is not None else kept
    return Boxes(label.xyxy[objects], classes[objects])
