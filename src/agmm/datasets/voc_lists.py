"""The lists of PASCAL VOC, and those with the masks of SBD.

::

    ImageSets/Segmentation/SPLIT.txt      one NAME per line; ImageSets/Main if there are none
    ImageSets/Segmentation/train_aug.txt  or trainaug.txt: the 10582 pictures that are usual
    SegmentationClassAug/NAME.png         their masks, from the Semantic Boundaries Dataset

A line may name files instead: ``/JPEGImages/NAME.jpg /SegmentationClassAug/NAME.png``; then this
mask is taken. Else that of ``SegmentationClass/`` is, if there is one: it has borders of 255. A
line that starts with "#" is left out, unless it is the name of a picture.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from agmm.datasets.listing import list_files, picture_name
from agmm.datasets.lists import list_lines, listed_fields
from agmm.errors import DataError

AUGMENTED = "SegmentationClassAug"
"""The folder of the masks of SBD."""

_PICTURES = "JPEGImages/"
_TRAIN_AUG = ("train_aug", "trainaug")
_UNIONS = ("trainval", "trainval_aug", "trainvalaug")


def read_lists(
    root: Path, images: Mapping[str, Path]
) -> tuple[dict[str, list[str]], dict[str, Path]]:
    """Read the names of each split.

    ``trainval`` is left out where it is only the union of ``train`` and ``val``. Where there is
    ``SegmentationClassAug/``, ``train_aug`` takes the place of ``train``.

    Args:
        root: The data set's folder.
        images: Name to file of the pictures.

    Returns:
        Split to its names, ``train`` and ``val`` first; and the masks that lines name.

    Raises:
        DataError: No lists, an empty one, a name without a picture or twice in a list, a picture
            in both ``train`` and ``val``, one of ``train`` that is not in ``train_aug``, or a mask
            that is missing or has another name.
    """
    files = _files(root)
    masks: dict[str, Path] = {}
    lists = {split: _read_list(root, files[split], images, masks) for split in files}
    train = files.get("train")
    for split in _TRAIN_AUG if (root / AUGMENTED).is_dir() else ():
        if split in lists:
            missing = sorted({*lists.get("train", [])} - {*lists[split]})
            if missing:
                raise DataError(
                    f"{files[split]}: takes the place of train.txt, as there is"
                    f" {root / AUGMENTED}, but has not its {missing[0]!r} ({len(missing)} such"
                    " pictures). Add them, or move one of the lists away."
                )
            lists["train"], train = lists.pop(split), files[split]
    if "train" in lists and "val" in lists:
        both = sorted({*lists["train"]} & {*lists["val"]})
        if both:
            assert train is not None
            raise DataError(
                f"{files['val']}: {both[0]!r} is in {train.name} too ({len(both)} such pictures),"
                " so that scores would be those of training pictures. Remove it from one of them."
            )
        for union in _UNIONS:
            if {*lists.get(union, [])} <= {*lists["train"], *lists["val"]}:
                lists.pop(union, None)
    splits = sorted(lists, key=lambda split: (split not in {"train", "val"}, split))
    return {split: lists[split] for split in splits}, masks


def _files(root: Path) -> dict[str, Path]:
    folders = [root / "ImageSets" / task for task in ("Segmentation", "Main")]
    listed = [found for folder in folders if (found := list_files(folder, (".txt",)))]
    if not listed:
        raise DataError(
            f"{folders[0]}: there are no lists of pictures. Write train.txt and val.txt with one"
            " name per line, without suffix."
        )
    # Main has a list "cat_train" of each class beside "train", with a second column.
    return {
        split: file
        for split, file in listed[0].items()
        if file.parent == folders[0] or split.rpartition("_")[2] not in {*listed[0]} - {split}
    }


def _read_list(
    root: Path, path: Path, images: Mapping[str, Path], masks: dict[str, Path]
) -> list[str]:
    """Read one list; puts the masks that it names into ``masks``."""
    listed: dict[str, Path] = {}
    names: dict[str, int] = {}
    for number, line in list_lines(path, images):
        where = f"{path}, line {number}"
        name, mask = _parse(line, where)
        if name not in images:
            raise DataError(
                f"{where}: there is no picture JPEGImages/{name}.jpg. Correct the"
                " name (no suffix, one per line), add the picture, or remove the line."
            )
        if name in names:
            raise DataError(f"{where}: {name!r} is in line {names[name]} too. Remove one.")
        names[name] = number
        if mask is not None:
            listed = listed or _list_masks(root)
            file = listed.get(picture_name(mask))
            if file is None:
                raise DataError(
                    f"{where}: there is no mask {mask} in {root}. Correct the name, add the file,"
                    " or remove the line."
                )
            if file.stem != PurePosixPath(name).name or masks.setdefault(name, file) != file:
                raise DataError(
                    f"{where}: the mask {mask} has not the name of its picture {name!r}, or another"
                    " list names another one. Correct it."
                )
    if not names:
        raise DataError(f"{path}: is empty. Write one name per line, or remove the file.")
    return list(names)


def _list_masks(root: Path) -> dict[str, Path]:
    """List the masks by their path without suffix; asks the disk once, not once per line."""
    folders = ("SegmentationClass", AUGMENTED)
    return {f"{f}/{name}": file for f in folders for name, file in list_files(root / f).items()}


def _parse(line: str, where: str) -> tuple[str, str | None]:
    """Give the name of a picture, and its mask if there is one."""
    if not line.lstrip('"/').startswith(_PICTURES):
        return line, None
    image, mask = listed_fields(line, where)
    return picture_name(image.removeprefix(_PICTURES)), mask
