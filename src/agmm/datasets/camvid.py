"""The layouts of CamVid (Brostow et al. 2008): of SegNet, of Datumaro, and as published.

::

    SPLIT/NAME.png  SPLITannot/NAME.png       pictures and dense masks; or SPLIT_labels/
    SPLIT.txt                                 lists "IMAGE MASK" of these, or none: then all
    701_StillsRaw_full/NAME.png               or, as published: one folder of pictures, all "train",
    LabeledApproved_full/NAME_L.png           and their masks
    label_colors.txt                          lines "R G B NAME": the classes of masks of colours;
                                              or class_dict.csv, lines "NAME,R,G,B" and a header
    classes.txt                               or the classes of masks of indices

SPLIT is train, val, test or a usual spelling of these; one without masks is read as well. Without
files of classes these are the 11 of SegNet, whose 11 in the masks is unlabelled. Where a split has
a list, all others need one too, and pictures that are in no list are unused. So are, of the data as
published, pictures with neither a mask nor another label.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from agmm.datasets.assembly import Key, Labels, assembled, in_known_splits
from agmm.datasets.beside import PNG_FOLDERS, Label, joined, read_beside
from agmm.datasets.classes import Classes, Color, read_classes
from agmm.datasets.listing import add_file, list_files, list_unused
from agmm.datasets.lists import find_listed, read_list
from agmm.datasets.places import folder_splits, one_folder_each, split_name
from agmm.datasets.recoding import Coding, read_coded, read_merged
from agmm.datasets.records import Dataset, Unused
from agmm.datasets.text import read_text
from agmm.errors import DataError

_SEGNET: tuple[tuple[str, Color], ...] = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (0, 0, 192)),
    ("tree", (128, 128, 0)),
    ("sign", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)

CAMVID = Classes(tuple(name for name, _ in _SEGNET), tuple(color for _, color in _SEGNET))
"""The 11 classes of SegNet's masks, in the colours of CamVid."""

_ENDINGS = ("annot", "_labels")
_APPROVED = "LabeledApproved_full"
_COLORS = ("label_colors.txt", "class_dict.csv")
_VOID = frozenset({"void", "unlabelled", "unlabeled", "ignore", "ignored"})
"""Names in ``label_colors.txt`` that are no class."""

_Found = tuple[dict[Key, Path], dict[str, Path], list[Path]]
"""Split and name to picture, "SPLIT/NAME" to mask, and pictures that are not used."""


def is_camvid(root: Path) -> bool:
    """Say whether a folder has one of these layouts.

    Args:
        root: The data set's folder.

    Returns:
        Whether it has a ``SPLIT/`` and a ``SPLITannot/`` or ``SPLIT_labels/``, or
        ``LabeledApproved_full/``.

    Example:
        >>> is_camvid(Path("a/folder/that/is/missing"))
        False
    """
    split_in_folders = bool(_mask_folders(root)) and bool(_picture_folders(root))
    return split_in_folders or (root / _APPROVED).is_dir()


def read_camvid(root: Path) -> Dataset:
    """List the pictures and labels of a data set in one of these layouts; decodes none.

    Args:
        root: The data set's folder.

    Returns:
        The records of all splits, sorted by name.

    Raises:
        DataError: No pictures, two folders of pictures or masks of one split, a bad list or one
            that names what is not there, a picture in both ``train`` and ``val``, two pictures or
            masks of one name, bad classes, or two labels of one form for one picture.
    """
    classes, label = _classes(root)
    labels = read_beside(root, classes)
    masked = _mask_folders(root)
    splits = folder_splits(_picture_folders(root) if masked else ())
    listed = any(_list_of(folder).is_file() for folder in splits)
    if listed:
        images, masks, unused = _from_lists(root, splits)
    elif splits:
        images, masks, unused = _from_folders(splits, one_folder_each(masked))
    else:
        images, masks, unused = _as_published(root, labels)
    if not images:
        raise DataError(f"{root}: there are no pictures beside the masks. Put them there.")
    own = {name: label(file) for name, file in masks.items()}
    labels["dense"] = joined(labels["dense"], own)
    dataset = assembled(root, classes, images, labels, splits_known=True)
    why: Unused = "in no list" if listed else "without a mask"
    return replace(dataset, unused=tuple(unused), unused_as=why)


def _picture_folders(root: Path) -> list[Path]:
    return [path for path in _folders(root) if split_name(path.name)]


def _mask_folders(root: Path) -> list[tuple[str, Path]]:
    """Split and folder; a split may have several, of which lists may name one."""
    named = [
        (split_name(path.name.removesuffix(ending)), path)
        for path in _folders(root)
        for ending in _ENDINGS
        if path.name.endswith(ending)
    ]
    return [(split, path) for split, path in named if split]


def _folders(root: Path) -> list[Path]:
    return [path for path in sorted(root.glob("[!.]*")) if path.is_dir()]


def _list_of(folder: Path) -> Path:
    return folder.parent / f"{folder.name}.txt"


def _from_lists(root: Path, splits: Mapping[Path, str]) -> _Found:
    images: dict[Key, Path] = {}
    masks: dict[str, Path] = {}
    for folder, split in splits.items():
        for line in read_list(_list_of(folder)):
            path, image = find_listed(root, line.image, line.where)
            name = path.removeprefix(f"{folder.name}/")
            add_file(images, (split, name), image)
            if line.mask is not None:
                add_file(masks, f"{split}/{name}", find_listed(root, line.mask, line.where)[1])
    trained = {image for (split, _), image in images.items() if split == "train"}
    both = sorted(i for (split, _), i in images.items() if split == "val" and i in trained)
    if both:
        raise DataError(
            f"{root}: {both[0]} is in the lists of both train and val ({len(both)} such pictures),"
            " so that scores would be those of training pictures. Remove it from one of them."
        )
    named = {*masks.values()}  # they may lie beside the pictures
    unused = [file for file in list_unused(root, images.values()) if file not in named]
    return images, masks, unused


def _from_folders(splits: Mapping[Path, str], masked: Mapping[str, Path]) -> _Found:
    images: dict[Key, Path] = {}
    masks: dict[str, Path] = {}
    for folder, split in splits.items():
        images |= {(split, name): file for name, file in list_files(folder).items()}
    for split, folder in masked.items():
        masks |= {f"{split}/{name}": file for name, file in _list_masks(folder).items()}
    return images, masks, []


def _as_published(root: Path, labels: Labels) -> _Found:
    """Take the pictures with a mask, or with any label beside, which needs no mask."""
    masks = {f"train/{name}": file for name, file in _list_masks(root / _APPROVED).items()}
    folders = {_APPROVED, *PNG_FOLDERS.values()}
    files = [
        (name, file)
        for folder in _folders(root)
        if folder.name not in folders
        for name, file in list_files(folder).items()
    ]
    beside = in_known_splits(labels, {name for name, _ in files}, {"train"})
    given = masks.keys() | {path for of in beside.values() for path in of}
    images: dict[Key, Path] = {}
    unused: list[Path] = []
    for name, file in files:
        if name in given or f"train/{name}" in given:
            add_file(images, ("train", name), file)
        else:
            unused.append(file)
    return images, masks, unused


def _list_masks(folder: Path) -> dict[str, Path]:
    """List the masks by the name of their picture: NAME or NAME_L."""
    masks: dict[str, Path] = {}
    for name, file in list_files(folder).items():
        add_file(masks, name.removesuffix("_L"), file)
    return masks


def _classes(root: Path) -> tuple[Classes, Callable[[Path], Label]]:
    """The classes, and how a file becomes a label of them."""
    found = [root / name for name in _COLORS if (root / name).is_file()]
    if found:
        raw = _read_label_colors(found[0])
        kept = [k for k, name in enumerate(raw.names) if name.casefold() not in _VOID]
        table = tuple(kept.index(k) if k in kept else 255 for k in range(len(raw)))
        classes = Classes(
            tuple(raw.names[k] for k in kept),
            tuple(raw.colors[k] for k in kept),
            colors_given=raw.colors_given,
        )
        return classes, lambda file: Label(file, partial(read_merged, file, raw, table, "dense"))
    classes = CAMVID
    if (root / "classes.txt").is_file():
        classes = read_classes(root / "classes.txt")
    codes = {k: k for k in range(len(classes))} | {255: 255}
    meaning = f"0..{len(classes) - 1} = the classes, and 255 = unlabelled"
    if len(classes) == len(CAMVID):
        codes[len(CAMVID)] = 255
        meaning = f"0..{len(CAMVID) - 1} = the classes, and 11 or 255 = unlabelled"
    coding = Coding(codes, meaning)
    return classes, lambda file: Label(file, partial(read_coded, file, coding, "dense"))


def _read_label_colors(path: Path) -> Classes:
    """Read lines "R G B NAME", or "NAME,R,G,B"; what is black comes first, as Datumaro counts."""
    rows = read_text(path).splitlines()
    if path.suffix == ".csv":
        cells = [row.split(",") for row in rows[1:]]
        rows = ["", *(" ".join([*row[1:], *row[:1]]) for row in cells)]
    found: list[tuple[str, Color]] = []
    for number, line in enumerate(rows, start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        channels = [int(f) for f in fields[:3] if f.isascii() and f.isdecimal() and len(f) < 4]
        if len(channels) < 3 or len(fields) < 4 or max(channels) > 255:
            raise DataError(
                f"{path}, line {number}: must be 'R G B NAME', with numbers 0..255, but is"
                f" {line.strip()!r:.80}. Correct it."
            )
        red, green, blue = channels
        found.append((" ".join(fields[3:]), (red, green, blue)))
    found.sort(key=lambda entry: entry[1] != (0, 0, 0))
    try:
        return Classes(tuple(name for name, _ in found), tuple(color for _, color in found))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
