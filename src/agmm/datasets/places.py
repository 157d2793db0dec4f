"""Files that an annotation names: below the data folder, or refused."""

import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from agmm.datasets.images import IMAGE_SUFFIXES
from agmm.errors import DataError

_DRIVE = re.compile(r"^[A-Za-z]:")

_SPLITS = {
    **dict.fromkeys(("train", "training", "default"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
USUAL_SPLITS = frozenset(_SPLITS.values())
"""Those that `split_name` gives."""


def relative_name(name: str, where: str, *, below: str = "") -> str:
    r"""Make sure that a name stays below the data folder.

    Args:
        name: As an annotation has it, with "/" or "\".
        where: What names it, for the message.
        below: A folder of the data folder that the name starts from, such as "a/b". ".." may lead
            out of this one, but not out of the data folder; without any, ".." is refused.

    Returns:
        The name from the data folder on, with "/".

    Raises:
        DataError: An empty or absolute name, or one that leads out of the folder.

    Example:
        >>> relative_name("..\\images\\a.jpg", "a.json", below="labels")
        'images/a.jpg'
        >>> relative_name("../a.jpg", "a.xml")
        Traceback (most recent call last):
        agmm.errors.DataError: a.xml: the name '../a.jpg' leads out of the data folder. Correct it.
    """
    parts = name.replace("\\", "/").split("/")
    absolute = not parts[0] or _DRIVE.match(name)
    path = os.path.normpath("/".join([*filter(None, [below]), *parts]))
    leaves = path.split("/")[0] == ".." or (".." in parts and not below)
    if not name or absolute or leaves or "\0" in name or len(name) > 4096:
        shown = name if len(name) <= 200 else f"{name[:200]}…"
        raise DataError(f"{where}: the name {shown!r} leads out of the data folder. Correct it.")
    return path


def find_picture(root: Path, names: Iterable[str], where: str) -> Path | None:
    """Find the file of a picture; none of another folder is ever looked at.

    Args:
        root: The data set's folder.
        names: Where it may lie below, as `relative_name` gives them. A name without the suffix of a
            picture is tried with all of them.
        where: What names it, for the message.

    Returns:
        The file; None if there is none.

    Raises:
        DataError: Two files are there, or a link leads out of the data folder.

    Example:
        >>> find_picture(Path("a/missing/folder"), ["a.jpg"], "a.xml") is None
        True
    """
    found: str | None = None
    for path in (f"{name}{suffix}" for name in names for suffix in _suffixes(name)):
        # Strings, as a Path for every place and file would take several times as long.
        file = os.path.join(root, path)  # noqa: PTH118
        if not os.path.isfile(file):  # noqa: PTH113 - nor is a name too long for the system
            continue
        if not _is_below(file, root):
            raise DataError(
                f"{where}: {file} is a link that leads out of the data folder. Copy the picture"
                " there instead."
            )
        # Not the same one by a link, or where capitals do not count.
        if found is not None and not os.path.samefile(found, file):  # noqa: PTH121
            raise DataError(
                f"{found} and {file}: two files of one name, so that it is not clear which one is"
                f" meant by {where}. Rename or remove one."
            )
        found = found or file
    return Path(found) if found else None


def find_first(root: Path, groups: Iterable[Iterable[str]], where: str) -> Path | None:
    """Find the file of a picture where some places say more than others.

    Args:
        root: The data set's folder.
        groups: Names as for `find_picture`; a group counts if nothing is there of those before.
        where: What names it, for the message.

    Returns:
        The file; None if there is none.

    Raises:
        DataError: Two files of one group are there, or a link leads out of the data folder.

    Example:
        >>> groups = (["train/a.jpg", "images/train/a.jpg"], ["images/a.jpg"])
        >>> find_first(Path("a/missing/folder"), groups, "a.xml") is None
        True
    """
    return next(filter(None, (find_picture(root, names, where) for names in groups)), None)


def _is_below(path: str, root: Path) -> bool:
    """Whether a file is in a folder when all links are followed."""
    folder, name = os.path.split(path)
    real = _real_folder(folder)
    if os.path.islink(path):  # noqa: PTH114
        real = os.path.realpath(os.path.join(real, name))  # noqa: PTH118
    above = _real_folder(str(root))
    return real == above or real.startswith(above.rstrip("/") + "/")


@lru_cache(maxsize=64)
def _real_folder(folder: str) -> str:
    """Follow the links of a folder once, and not for each of a hundred thousand files in it."""
    return os.path.realpath(folder)


def split_name(subset: str) -> str | None:
    """Give the split that a subset's name means.

    Args:
        subset: As a tool has it, such as "Validation".

    Returns:
        "train", "val" or "test"; None if the name is another one.

    Example:
        >>> split_name("Validation"), split_name("monday")
        ('val', None)
    """
    return _SPLITS.get(subset.casefold())


def folder_splits(folders: Iterable[Path]) -> dict[Path, str]:
    """Give the split that the name of each folder means, see `split_name`; any other is its own.

    Args:
        folders: Folders, one per split.

    Returns:
        Folder to split.

    Raises:
        DataError: Two of them mean one split.

    Example:
        >>> [*folder_splits([Path("training"), Path("monday")]).values()]
        ['train', 'monday']
    """
    named = ((split_name(folder.name) or folder.name, folder) for folder in folders)
    return {folder: split for split, folder in one_folder_each(named).items()}


def one_folder_each(folders: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Give each split its one folder.

    Args:
        folders: Split and folder, of pictures or of masks.

    Returns:
        Split to folder.

    Raises:
        DataError: A split has two.

    Example:
        >>> one_folder_each([("val", Path("valannot")), ("val", Path("val_labels"))])
        Traceback (most recent call last):
        agmm.errors.DataError: valannot and val_labels: both are the split 'val', so that ...
    """
    found: dict[str, Path] = {}
    for split, folder in folders:
        if found.setdefault(split, folder) != folder:
            raise DataError(
                f"{found[split]} and {folder}: both are the split {split!r}, so that files of one"
                " name would be taken for one. Join the two folders, or rename one."
            )
    return found


def _suffixes(name: str) -> list[str]:
    _, suffix = os.path.splitext(name)  # noqa: PTH122 - a Path each would take 3x
    if suffix.lower() in IMAGE_SUFFIXES:
        return [""]
    return ["", *(s for known in sorted(IMAGE_SUFFIXES) for s in (known, known.upper()))]
