"""The layout of PASCAL VOC (Everingham et al., *The PASCAL Visual Object Classes Challenge*).

::

    JPEGImages/NAME.jpg               pictures
    ImageSets/Segmentation/SPLIT.txt  one NAME per line; ImageSets/Main if there are none
    SegmentationClass/NAME.png        dense masks, a palette or colours, 255 = border
    SegmentationClassAug/NAME.png     more of them, see `agmm.datasets.voc_lists`
    Annotations/NAME.xml              boxes, and tags if there is no tags.csv
    classes.txt or labelmap.txt       the classes; else the 21 of VOC

and what may lie beside any layout, see `agmm.datasets.beside`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from agmm.datasets.beside import (
    Label,
    colored_by_masks,
    index_png,
    joined,
    list_index_pngs,
    read_beside,
)
from agmm.datasets.classes import VOID_COLOR, Classes, read_classes, voc_colors
from agmm.datasets.images import image_size
from agmm.datasets.listing import list_files
from agmm.datasets.records import Dataset, Record, Unmatched
from agmm.datasets.voc_lists import AUGMENTED, read_lists
from agmm.errors import DataError
from agmm.labels.annotations import Boxes, Tags
from agmm.labels.forms import Form

VOC_CLASSES: tuple[str, ...] = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
"""The classes of VOC 2012 in the order of their indices."""


def is_voc(root: Path) -> bool:
    """Say whether a folder has this layout.

    Args:
        root: The data set's folder.

    Returns:
        Whether it has ``JPEGImages/`` and ``ImageSets/Segmentation/`` or ``Annotations/``.

    Example:
        >>> is_voc(Path("a/folder/that/is/missing"))
        False
    """
    labels = (root / "ImageSets" / "Segmentation", root / "Annotations")
    return (root / "JPEGImages").is_dir() and any(folder.is_dir() for folder in labels)


def read_voc(root: Path) -> Dataset:
    """List the pictures and labels of a data set in the layout of VOC; decodes no picture.

    Every list is a split; ``trainval`` is left out where it is only the union of ``train`` and
    ``val``, and ``train_aug`` takes the place of ``train`` where there is
    ``SegmentationClassAug/``. Pictures and labels that are in no list are left out too, as VOC has
    many of them, but a label whose picture is not in ``JPEGImages/`` is reported. The tags of a
    picture are those of ``tags.csv`` if there is one, else the classes of its boxes.

    Args:
        root: The data set's folder.

    Returns:
        The records of all splits, sorted by name.

    Raises:
        DataError: No lists, an empty one, names without a picture, a picture in both ``train`` and
            ``val``, bad classes, or two labels of one form for one picture.
    """
    images = list_files(root / "JPEGImages")
    lists, masks = read_lists(root, images)
    classes = _read_classes(root)
    labels: dict[Form, dict[str, Label]] = {
        **read_beside(root, classes),
        "dense": {
            **list_index_pngs(root / AUGMENTED, "dense", classes),
            **list_index_pngs(root / "SegmentationClass", "dense", classes),
            **{name: index_png(file, "dense", classes) for name, file in masks.items()},
        },
    }
    listed = {name for names in lists.values() for name in names}
    files = list_files(root / "Annotations", (".xml",))
    objects = _read_objects({n: f for n, f in files.items() if n in listed}, classes)
    # An XML file of a picture that is in no list is not parsed, but has its place.
    boxes = {name: objects.get(name, _Objects(file)) for name, file in files.items()}
    labels["boxes"] = joined(
        labels["boxes"],
        {n: Label(found.file, partial(_boxes, found)) for n, found in boxes.items()},
    )
    if not (root / "tags.csv").is_file():
        labels["tags"] = {n: Label(f.file, partial(_tags, f)) for n, f in objects.items()}
    splits = {
        split: tuple(_record(name, images[name], labels) for name in sorted(names))
        for split, names in lists.items()
    }
    unmatched = tuple(
        Unmatched(name, label.file, form, None)
        for form, found in labels.items()
        for name, label in sorted(found.items())
        if name not in images
    )
    return Dataset(root, classes, splits, unmatched=unmatched)


@dataclass(frozen=True)
class _Objects:
    """What one XML file says: boxes and (H, W) if it says it; or else what is wrong with it."""

    file: Path
    boxes: Boxes | None = None
    size: tuple[int, int] | None = None
    fault: str = ""


def _record(name: str, image: Path, labels: Mapping[Form, Mapping[str, Label]]) -> Record:
    found = {form: of[name] for form, of in labels.items() if name in of}
    return Record(name, image, {form: partial(label.read, image) for form, label in found.items()})


def _read_classes(root: Path) -> Classes:
    """Read classes.txt, else labelmap.txt, else take those of VOC."""
    if (root / "classes.txt").is_file():
        return colored_by_masks(read_classes(root / "classes.txt"), root / "SegmentationClass")
    path = root / "labelmap.txt"
    if not path.is_file():
        return Classes(VOC_CLASSES, voc_colors(len(VOC_CLASSES)))
    from agmm.datasets.datumaro import read_label_map

    # "ignored" has the colour of 255: it is the border, and no class.
    label_map = [(name, c) for name, c in read_label_map(path) if c != VOID_COLOR]
    names = tuple(name for name, _ in label_map)
    colors = tuple(color for _, color in label_map if color is not None)
    try:
        if len(colors) == len(names):
            return Classes(names, colors)
        return Classes(names, voc_colors(len(names)), colors_given=False)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _read_objects(files: Mapping[str, Path], classes: Classes) -> dict[str, _Objects]:
    """Read XML files; what is wrong with one is told when its label is asked for."""
    if not files:
        return {}
    from agmm.datasets.datumaro import VocXml

    reader = VocXml(classes.names)
    found: dict[str, _Objects] = {}
    for name, file in files.items():
        try:
            found[name] = _Objects(file, *reader.read(file))
        except DataError as error:
            found[name] = _Objects(file, fault=str(error))
    return found


def _boxes(found: _Objects, image: Path) -> Boxes:
    if found.boxes is None:
        raise DataError(found.fault)
    if found.size is not None and found.size != image_size(image):
        height, width = image_size(image)
        raise DataError(
            f"{found.file}: says {found.size[1]}x{found.size[0]} pixels (width x height), but its"
            f" picture {image} has {width}x{height}. Draw the boxes on this picture, or correct"
            " <size>."
        )
    return found.boxes


def _tags(found: _Objects, image: Path) -> Tags:  # noqa: ARG001 - of every label
    if found.boxes is None:
        raise DataError(found.fault)
    return Tags(np.unique(found.boxes.classes))
