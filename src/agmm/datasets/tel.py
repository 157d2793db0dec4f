"""The layout of *Tree Energy Loss* (Liang et al., CVPR 2022, https://arxiv.org/abs/2203.10739).

::

    SPLIT/image/NAME.jpg                  pictures; SPLIT is train, val, … or another spelling
    SPLIT/label/NAME.png                  dense masks
    SPLIT/sparse_label/block10/NAME.png   blocks, 255 = unlabelled; or block20, block50: one of them
    classes.txt                           the classes, in the order of the values in the PNGs

The code of the paper takes raw ids of the data set from its PNGs and converts them: name all these
ids in ``classes.txt``, and drop what is no class with a mapping of classes. Of ADE20K that is 0,
"other".
"""

from pathlib import Path

from agmm.datasets.assembly import Key, assembled
from agmm.datasets.beside import colored_by_masks, joined, list_index_pngs, read_beside
from agmm.datasets.classes import read_classes
from agmm.datasets.listing import list_files
from agmm.datasets.places import folder_splits
from agmm.datasets.records import Dataset
from agmm.errors import DataError
from agmm.labels.forms import Form

_FOLDERS = ("image", "label", "sparse_label")


def is_tel(root: Path) -> bool:
    """Say whether a folder has this layout.

    Args:
        root: The data set's folder.

    Returns:
        Whether it has ``train/image/`` and ``train/sparse_label/``.

    Example:
        >>> is_tel(Path("a/folder/that/is/missing"))
        False
    """
    return all((root / "train" / name).is_dir() for name in ("image", "sparse_label"))


def read_tel(root: Path) -> Dataset:
    """List the pictures and labels of a data set in this layout; decodes none.

    Args:
        root: The data set's folder.

    Returns:
        The records of all splits, sorted by name.

    Raises:
        DataError: No or bad ``classes.txt``, no pictures, two folders of one split, several folders
            in ``sparse_label/``, or two labels of one form for one picture.
    """
    classes = colored_by_masks(read_classes(root / "classes.txt"), root / "train" / "label")
    images: dict[Key, Path] = {}
    labels = read_beside(root, classes)
    for place, split in folder_splits(_places(root)).items():
        pictures = list_files(place / "image")
        images |= {(split, name): file for name, file in pictures.items()}
        folders: tuple[tuple[Form, Path], ...] = (
            ("dense", place / "label"),
            ("blocks", _sparse_labels(place / "sparse_label")),
        )
        for form, folder in folders:
            found = list_index_pngs(folder, form, classes)
            named = {f"{split}/{name}": label for name, label in found.items()}
            labels[form] = joined(labels[form], named)
    if not images:
        raise DataError(f"{root / 'train' / 'image'}: there are no pictures in it. Put them there.")
    return assembled(root, classes, images, labels, splits_known=True)


def _places(root: Path) -> list[Path]:
    """The folders of all splits."""
    found = sorted(root.glob("[!.]*"))
    return [path for path in found if any((path / name).is_dir() for name in _FOLDERS)]


def _sparse_labels(folder: Path) -> Path:
    """The one folder with blocks; ``folder`` itself if there is none."""
    found = sorted(path for path in folder.glob("[!.]*") if path.is_dir())
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(
            f"{folder}: has several kinds of blocks, {names}, of which one is to be used. Move the"
            " others out of this folder."
        )
    return found[0] if found else folder
