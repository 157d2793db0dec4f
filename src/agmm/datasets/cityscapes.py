"""The layout of Cityscapes (Cordts et al., CVPR 2016, https://www.cityscapes-dataset.com).

::

    leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png       pictures
    gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png        dense masks; or labelTrainIds, instanceIds
    gtCoarse/SPLIT/CITY/NAME_gtCoarse_labelIds.png    polygons, drawn coarsely

The pictures may lie in ``leftImg8bit/`` itself; then all are in "train". The classes are the 19
that the benchmark scores; all other ids are unlabelled.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from agmm.datasets.assembly import assembled
from agmm.datasets.beside import Label, joined, read_beside
from agmm.datasets.classes import Classes, Color
from agmm.datasets.folder import in_usual_splits, list_pictures, split_by_folders
from agmm.datasets.listing import add_file, list_files
from agmm.datasets.recoding import Coding, read_coded
from agmm.datasets.records import Dataset
from agmm.datasets.text import counted
from agmm.errors import DataError
from agmm.labels.forms import Form

_TRAINED: tuple[tuple[int, str, Color], ...] = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
"""Id, name and colour of the classes that are scored, in the order of their train ids."""

CITYSCAPES = Classes(tuple(n for _, n, _ in _TRAINED), tuple(c for _, _, c in _TRAINED))
"""The classes."""

# 255 is the id -1, the licence plates, in 8 bits.
_IDS = dict.fromkeys([*range(34), 255], 255) | {k: n for n, (k, _, _) in enumerate(_TRAINED)}

_CODINGS = {
    "labelIds": Coding(_IDS, "ids of Cityscapes, 0..33"),
    # 19 is what some tools write for everything that is not scored.
    "labelTrainIds": Coding(
        {**{n: n for n in range(19)}, 19: 255, 255: 255},
        "train ids of Cityscapes, 0..18, and 19 or 255 = unlabelled",
    ),
    "instanceIds": Coding(
        _IDS, "ids of Cityscapes, 0..33, or 1000 times the id plus a number", per_instance=True
    ),
}
"""What the files are called, the one that is taken first, and what is in them."""

_LABEL = re.compile(rf"(?P<name>.+)_(?P<kind>{'|'.join(_CODINGS)})")

_COMPANION = re.compile(r".+_(color|instanceTrainIds|panoptic)")
"""What else is published, or made by the scripts of Cityscapes; it says no more than the masks."""

_PUBLISHED = frozenset({"train", "val", "test", "train_extra", "demoVideo"})
"""The splits that are published: who has the masks of all need not have the pictures of all."""

_PLACEHOLDERS = 3
"""Masks of the test split that are looked at: all are the same where they are placeholders."""


def is_cityscapes(root: Path) -> bool:
    """Say whether a folder has this layout.

    Args:
        root: The data set's folder.

    Returns:
        Whether it has ``leftImg8bit/``.

    Example:
        >>> is_cityscapes(Path("a/folder/that/is/missing"))
        False
    """
    return (root / "leftImg8bit").is_dir()


def read_cityscapes(root: Path) -> Dataset:
    """List the pictures and labels of a data set in this layout.

    The dense mask of a picture is that of ``gtFine/`` if there is one, else that of ``gtCoarse/``,
    whose polygons are its blocks as well. Files of unknown names are left out beside a mask of
    their picture. Masks of a published split without any picture are left out, as ``gtCoarse/``
    comes with those of 20000 pictures that have to be downloaded by themselves. So are those of
    the split "test" where the first three of them label nothing: what is published of it are
    placeholders.

    Args:
        root: The data set's folder.

    Returns:
        The records of all splits, sorted by name; a name is "CITY/NAME".

    Raises:
        DataError: No pictures, some in folders and some not, two folders of one split, two
            pictures or masks of one name, a picture whose only mask has an unknown name, masks in
            a folder that is no split, a list of other classes, or two labels of one form for one
            picture.
    """
    for own in (root / "label_colors.txt", root / "dataset_meta.json"):
        if own.is_file():
            # Datumaro writes any classes in this layout, and counts background first.
            raise DataError(
                f"{own}: the masks have classes of their own, and not those of Cityscapes. Export"
                " the data set in the layout of VOC instead, or remove this file if they are."
            )
    folder = root / "leftImg8bit"
    pictures: dict[str, Path] = {}
    for path, file in in_usual_splits(folder, list_pictures(folder)).items():
        add_file(pictures, path.removesuffix("_leftImg8bit"), file)
    flat = not any("/" in path for path in pictures)
    fine, coarse = (_list_labels(root / name, pictures) for name in ("gtFine", "gtCoarse"))
    labels = read_beside(root, CITYSCAPES)
    labels["blocks"] = joined(
        labels["blocks"], {name: _label(file, "blocks") for name, file in coarse.items()}
    )
    dense = {name: _label(file, "dense") for name, file in {**coarse, **fine}.items()}
    labels["dense"] = joined(labels["dense"], dense)
    images = split_by_folders(
        {f"train/{name}": file for name, file in pictures.items()} if flat else pictures
    )
    return assembled(root, CITYSCAPES, images, labels, splits_known=True)


def _list_labels(folder: Path, pictures: Mapping[str, Path]) -> dict[str, Path]:
    """List the masks by the path of their picture; of each picture the kind that is taken first."""
    found: dict[str, dict[str, Path]] = {}
    unknown: dict[str, Path] = {}
    for path, file in _of_splits(folder, pictures).items():
        match = _LABEL.fullmatch(path)
        if match:
            name = match["name"].removesuffix(f"_{folder.name}")
            add_file(found.setdefault(name, {}), match["kind"], file)
        elif not _COMPANION.fullmatch(path):
            unknown[path] = file
    labels = {name: next(of[k] for k in _CODINGS if k in of) for name, of in found.items()}
    unknown = _without_picture(folder, unknown, labels, pictures)
    test = {name for name in labels if name.startswith("test/")}
    if test and all(_labels_nothing(labels[name]) for name in sorted(test)[:_PLACEHOLDERS]):
        labels = {name: file for name, file in labels.items() if name not in test}
    return {**labels, **unknown}


def _of_splits(folder: Path, pictures: Iterable[str]) -> dict[str, Path]:
    """List the files of the splits that have pictures; refuse a folder that may be misspelt."""
    splits = {path.partition("/")[0] for path in pictures if "/" in path}
    found: dict[str, Path] = {}
    lost: Counter[str] = Counter()
    for path, file in in_usual_splits(folder, list_files(folder)).items():
        split, in_folder, _ = path.partition("/")
        if not in_folder or not splits or split in splits:
            found[path] = file
        elif split not in _PUBLISHED and not _COMPANION.fullmatch(path):
            lost[split] += 1
    if lost:
        split, number = next(iter(lost.items()))
        raise DataError(
            f"{folder / split}: {counted(number, 'mask')} of no split: leftImg8bit/ has the"
            f" pictures of {', '.join(sorted(splits))}. Name the folder as one of these, add its"
            " pictures, or take it away."
        )
    return found


def _without_picture(
    folder: Path, unknown: Mapping[str, Path], labels: Container[str], pictures: Mapping[str, Path]
) -> dict[str, Path]:
    """Give the files of unknown names that are of no picture; refuse one that may be a mask."""
    owners = {path: _owner(path, pictures) for path in unknown}
    lost = [(path, name) for path, name in owners.items() if name and name not in labels]
    if lost:
        path, name = lost[0]
        raise DataError(
            f"{unknown[path]}: is not called as a mask of Cityscapes, and {pictures[name]} has no"
            f" other in {folder} ({counted(len(lost), 'such file')}). Call it"
            f" {name.rpartition('/')[2]}_{folder.name}_labelIds.png, or labelTrainIds or"
            " instanceIds, as its values are; or remove it."
        )
    return {path: unknown[path] for path, name in owners.items() if not name}


def _owner(path: str, pictures: Container[str]) -> str:
    """Find the picture of a file called NAME or NAME_…; empty if there is none."""
    while path and path not in pictures:
        path = path.rpartition("_")[0]
    return path


def _labels_nothing(file: Path) -> bool:
    """Whether a mask has no class; one that is broken is no placeholder, and told when read."""
    with contextlib.suppress(DataError):
        annotation = read_coded(file, _coding(file), "dense", file)
        return bool(np.all(annotation.mask == 255))
    return False


def _label(file: Path, form: Form) -> Label:
    return Label(file, partial(read_coded, file, _coding(file), form))


def _coding(file: Path) -> Coding:
    # One of an unknown name has no picture, and is never read.
    return _CODINGS.get(file.stem.rpartition("_")[2], _CODINGS["labelIds"])
