"""The layout of PASCAL VOC (Everingham et al., *The PASCAL Visual Object Classes Challenge*).

::

    JPEGImages/NAME.jpg               pictures
    ImageSets/Segmentation/SPLIT.txt  one NAME per line; ImageSets/Main if there are none
    SegmentationClass/NAME.png        dense masks, a palette or colours, 255 = border
    SegmentationClassAug/NAME.png     more of them, see `agmm.datasets.voc_lists`
    Annotations/NAME.xml              boxes, and tags if there is no tags.csv
    NAME.xml                          strokes of ScribbleSup, see `agmm.datasets.strokes`
    classes.txt or labelmap.txt       the classes; else the 21 of VOC

and what may lie beside any layout, see `agmm.datasets.beside`.
"""

from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agmm.datasets.assembly import (
    Labels,
    in_known_splits,
    labelled,
    labels_of,
    without_picture,
)
from agmm.datasets.beside import (
    Label,
    colored_by_masks,
    index_png,
    joined,
    list_index_pngs,
    read_beside,
    stroke_labels,
)
from agmm.datasets.classes import VOID_COLOR, Classes, read_classes, voc_colors
from agmm.datasets.images import image_size
from agmm.datasets.listing import list_files
from agmm.datasets.records import Dataset, Record, Unmatched
from agmm.datasets.strokes import list_strokes
from agmm.datasets.voc_lists import AUGMENTED, read_lists
from agmm.errors import DataError
from agmm.labels.annotations import Boxes, Tags
from agmm.labels.forms import Form

if TYPE_CHECKING:
    from agmm.datasets.datumaro import VocXml

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
        Whether it has ``JPEGImages/`` and ``ImageSets/Segmentation/`` or ``Annotations/``, or both
        of these, as an export without its pictures.

    Example:
        >>> is_voc(Path("a/folder/that/is/missing"))
        False
    """
    labels = [(root / at).is_dir() for at in ("ImageSets/Segmentation", "Annotations")]
    return any(labels) if (root / "JPEGImages").is_dir() else all(labels)


def read_voc(root: Path) -> Dataset:
    """List the pictures and labels of a data set in the layout of VOC; decodes no picture.

    Every list is a split; ``trainval`` is left out where it is only the union of ``train`` and
    ``val``, and ``train_aug`` takes the place of ``train`` where there is
    ``SegmentationClassAug/``. Pictures and labels that are in no list are left out too, as VOC has
    many of them: the pictures are unused, and a label whose picture is not in ``JPEGImages/`` is
    reported. The tags of a picture are those of ``tags.csv`` if there is one, else the classes of
    its boxes.

    Args:
        root: The data set's folder.

    Returns:
        The records of all splits, sorted by name.

    Raises:
        DataError: No pictures, no lists, an empty one, names without a picture, a picture in both
            ``train`` and ``val``, bad classes, or two labels of one form for one picture.
    """
    images = list_files(root / "JPEGImages")
    if not images:
        raise DataError(f"{root / 'JPEGImages'}: has no pictures. Put them there.")
    lists, masks = read_lists(root, images)
    classes = _read_classes(root)
    labels = read_beside(root, classes)
    own = {
        **list_index_pngs(root / AUGMENTED, "dense", classes),
        **list_index_pngs(root / "SegmentationClass", "dense", classes),
        **{name: index_png(file, "dense", classes) for name, file in masks.items()},
    }
    labels["dense"] = joined(labels["dense"], own)
    labels["scribbles"] = joined(labels["scribbles"], stroke_labels(list_strokes(root), classes))
    files = list_files(root / "Annotations", (".xml",))
    labels["boxes"] = joined(
        labels["boxes"],
        {name: Label(file, partial(_boxes, file, classes.names)) for name, file in files.items()},
    )
    listed = {name for names in lists.values() for name in names}
    if not (root / "tags.csv").is_file():
        labels["tags"] = {
            name: Label(file, partial(_tags, file, classes.names))
            for name, file in files.items()
            if name in listed
        }
    splits, unmatched = _records(lists, images, in_known_splits(labels, images, {*lists}))
    unused = tuple(file for name, file in images.items() if name not in listed)
    return Dataset(
        root, classes, splits, unmatched=unmatched, unused=unused, unused_as="in no list"
    )


def _records(
    lists: Mapping[str, list[str]], images: Mapping[str, Path], labels: Labels
) -> tuple[dict[str, tuple[Record, ...]], tuple[Unmatched, ...]]:
    """The records of each split, and the labels without a picture; others may be in no list."""
    splits: dict[str, tuple[Record, ...]] = {}
    used: set[tuple[Form, str]] = set()
    for split, names in lists.items():
        records: list[Record] = []
        for name in sorted(names):
            in_split = f"{split}/{name}"  # this may be the name of another picture
            places = (name,) if in_split in images else (in_split, name)
            paths = labels_of(places, images[name], labels)
            records.append(labelled(name, images[name], paths, labels))
            used |= {*paths.items()}
        splits[split] = tuple(records)
    unmatched = tuple(
        without_picture(path, label.file, form, {*splits})
        for form, found in labels.items()
        for path, label in sorted(found.items())
        if path not in images and (form, path) not in used
    )
    return splits, unmatched


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


@lru_cache(maxsize=4)
def _reader(names: tuple[str, ...]) -> "VocXml":
    from agmm.datasets.datumaro import VocXml

    return VocXml(names)


def _boxes(file: Path, names: tuple[str, ...], image: Path) -> Boxes:
    boxes, size = _reader(names).read(file)
    if size is not None and size != image_size(image):
        height, width = image_size(image)
        raise DataError(
            f"{file}: says {size[1]}x{size[0]} pixels (width x height), but its picture {image}"
            f" has {width}x{height}. Draw the boxes on this picture, or correct <size>."
        )
    return boxes


def _tags(file: Path, names: tuple[str, ...], image: Path) -> Tags:  # noqa: ARG001 - of every label
    boxes, _ = _reader(names).read(file)
    return Tags(np.unique(boxes.classes))
