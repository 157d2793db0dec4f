"""Layouts of two folders, one of pictures and one of masks: of mmsegmentation and of Datumaro.

::

    img_dir/SPLIT/NAME.jpg  ann_dir/SPLIT/NAME.png    mmsegmentation, with classes.txt
    [SPLIT/]images/NAME.jpg  [SPLIT/]masks/NAME.png   Datumaro, with [SPLIT/]dataset_meta.json
    images/SPLIT/NAME.jpg    masks/SPLIT/NAME.png     or so, if one is named as a split, like "val"

The folder "training" is the split "train", "validation" "val". A mask has indices, or the
colours of ``classes.txt`` or ``dataset_meta.json``; 255 is unlabelled. 0 is a class like any other:
what mmsegmentation calls ``reduce_zero_label`` is not done.
"""

from pathlib import Path

from agmm.datasets.assembly import Key, assembled
from agmm.datasets.beside import (
    Label,
    colored_by_masks,
    index_png,
    joined,
    list_index_pngs,
    read_beside,
)
from agmm.datasets.classes import Classes, read_classes
from agmm.datasets.folder import in_usual_splits, pictures_by_split
from agmm.datasets.listing import list_files
from agmm.datasets.meta import read_meta
from agmm.datasets.places import folder_splits, split_name
from agmm.datasets.records import Dataset
from agmm.errors import DataError
from agmm.labels.forms import Form

_META = "dataset_meta.json"


def is_mmseg(root: Path) -> bool:
    """Say whether a folder has the layout of mmsegmentation.

    Args:
        root: The data set's folder.

    Returns:
        Whether it has ``img_dir/`` and ``ann_dir/``.

    Example:
        >>> is_mmseg(Path("a/folder/that/is/missing"))
        False
    """
    return all((root / name).is_dir() for name in ("img_dir", "ann_dir"))


def read_mmseg(root: Path) -> Dataset:
    """List the pictures and labels of a data set in the layout of mmsegmentation; decodes none.

    Args:
        root: The data set's folder.

    Returns:
        The records of all splits, sorted by name; all are in "train" if there are no folders.

    Raises:
        DataError: No pictures, some in folders and some not, two folders of one split, no or bad
            classes, or two labels of one form for one picture.
    """
    meta, masks = root / _META, root / "ann_dir"
    classes = read_meta(meta) if meta.is_file() else read_classes(root / "classes.txt")
    classes = colored_by_masks(classes, masks)
    return _assembled(root, classes, root / "img_dir", masks)


def is_datumaro_pairs(root: Path) -> bool:
    """Say whether a folder has Datumaro's layout "common semantic segmentation".

    Args:
        root: The data set's folder.

    Returns:
        Whether it, or a folder in it, has ``dataset_meta.json``, ``images/`` and ``masks/``.

    Example:
        >>> is_datumaro_pairs(Path("a/folder/that/is/missing"))
        False
    """
    return any(map(_fits, (root, *root.glob("[!.]*"))))


def read_datumaro_pairs(root: Path) -> Dataset:
    """List the pictures and labels of a data set in Datumaro's layout; decodes none.

    Args:
        root: The data set's folder.

    Returns:
        The records of all splits, sorted by name; without folders of splits, here or in
        ``images/``, all are in "train".

    Raises:
        DataError: No pictures, some in folders of splits and some not, two folders of one split,
            no or bad classes of a split, splits with different ones, or two labels of one form for
            one picture.
    """
    subsets = _subsets(root)
    for folder in subsets or (root,):
        if not subsets or not (folder / _META).is_file():
            raise DataError(
                f"{folder / _META}: must be there, beside images/ and masks/. Add what is missing."
            )
    metas = {folder: read_meta(folder / _META) for folder in subsets}
    first, classes = next(iter(metas.items()))
    for folder, other in metas.items():
        if other != classes:
            raise DataError(
                f"{folder / _META}: has other classes than {first / _META}. Export all splits with"
                " the same classes."
            )
    classes = colored_by_masks(classes, first / "masks")
    if first == root and any(split_name(path.name) for path in (root / "images").iterdir()):
        return _assembled(root, classes, root / "images", root / "masks")
    images: dict[Key, Path] = {}
    own: dict[str, Label] = {}
    for folder, split in subsets.items():
        images |= {(split, name): file for name, file in list_files(folder / "images").items()}
        masks = list_index_pngs(folder / "masks", "dense", classes)
        own |= {f"{split}/{name}": label for name, label in masks.items()}
    if not images:
        raise DataError(f"{first / 'images'}: there are no pictures in it. Put them there.")
    labels = _labels(root, classes, own, beside=first == root)
    return assembled(root, classes, images, labels, splits_known=True)


def _assembled(root: Path, classes: Classes, pictures: Path, masks: Path) -> Dataset:
    """Make a data set of a folder of pictures and one of masks, both with folders of splits."""
    files = in_usual_splits(masks, list_files(masks))
    own = {path: index_png(file, "dense", classes) for path, file in files.items()}
    labels = _labels(root, classes, own, beside=masks == root / "masks")
    return assembled(root, classes, pictures_by_split(pictures), labels, splits_known=True)


def _labels(
    root: Path, classes: Classes, own: dict[str, Label], *, beside: bool
) -> dict[Form, dict[str, Label]]:
    """Give all labels; the masks of the layout may be those that lie beside any."""
    labels = read_beside(root, classes)
    labels["dense"] = own if beside else joined(labels["dense"], own)
    return labels


def _fits(folder: Path) -> bool:
    return (folder / _META).is_file() and all(
        (folder / name).is_dir() for name in ("images", "masks")
    )


def _subsets(root: Path) -> dict[Path, str]:
    """Folder to its split."""
    folders = sorted(root.glob("[!.]*"))
    nested = [path for path in folders if _fits(path)]
    if _fits(root):
        if nested:
            raise DataError(
                f"{root}: has images/ and masks/ in itself and in folders, such as {nested[0]}, so"
                " that their splits are not clear. Put all of them into folders, one per split, or"
                " none."
            )
        return {root: "train"}
    if not nested:
        return {}
    # Those without classes or masks count as well: reading them tells what is missing.
    parts = ("images", "masks")
    return folder_splits(f for f in folders if any((f / part).is_dir() for part in parts))
