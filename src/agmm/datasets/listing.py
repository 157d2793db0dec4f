"""Which files lie in a folder, by the names that data sets know them under."""

import os
from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import TypeVar

from agmm.datasets.images import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from agmm.errors import DataError

_Name = TypeVar("_Name")


def list_files(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """List the files below a folder by their path there, without suffix.

    Args:
        folder: The folder; there need be none.
        suffixes: Endings that count, in lower case; a file may write them in capitals. Pictures
            that are no PNG are listed with the labels too, so that reading them tells what is
            wrong.

    Returns:
        Path with "/" and without suffix, such as "a/b", to file; sorted by folder, then name.
        Hidden files and folders are some tool's and not the user's, and are left out.

    Raises:
        DataError: Two files differ by their suffix only, or a link leads to a folder above it.

    Example:
        >>> list_files(Path("a/folder/that/is/missing"))
        {}
    """
    found: dict[str, Path] = {}
    for name, file in walk_files(folder, suffixes):
        add_file(found, name, file)
    return found


def walk_files(
    folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES
) -> Iterator[tuple[str, Path]]:
    """Go through the files of `list_files`, also where two differ by their suffix only.

    Args:
        folder: The folder; there need be none.
        suffixes: Endings that count, in lower case.

    Yields:
        Path below the folder with "/" and without suffix, and the file.

    Raises:
        DataError: A link leads to a folder above it.

    Example:
        >>> list(walk_files(Path("a/folder/that/is/missing")))
        []
    """
    if folder.is_dir():
        yield from _walk(folder, "", suffixes)


def add_file(found: dict[_Name, Path], name: _Name, file: Path) -> None:
    """Add a file to others; two of one name are refused, as one of them would be lost.

    Args:
        found: The others by their names, which is changed.
        name: The name that a data set knows the file under.
        file: The file.

    Raises:
        DataError: Another file has this name.

    Example:
        >>> add_file({"a": Path("a_L.png")}, "a", Path("a.png"))
        Traceback (most recent call last):
        agmm.errors.DataError: a_L.png and a.png: two files of one name, so that ...
    """
    if found.setdefault(name, file) != file:
        raise DataError(
            f"{found[name]} and {file}: two files of one name, so that it is not clear which one is"
            " meant. Rename or remove one."
        )


def picture_name(name: str) -> str:
    """Give the name that a data set knows a picture under.

    Args:
        name: As somebody wrote it, with the suffix of a picture or without.

    Returns:
        The name without such a suffix; other dots belong to the name.

    Example:
        >>> picture_name("bonn/a.JPG"), picture_name("b.c")
        ('bonn/a', 'b.c')
    """
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES else name


def list_unused(root: Path, used: Iterable[Path]) -> tuple[Path, ...]:
    """List the pictures that nobody named, where those lie that somebody did.

    Args:
        root: The data set's folder.
        used: The pictures that are used.

    Returns:
        The others in their folders, and in and below ``images/``; sorted by folder, then name.

    Example:
        >>> list_unused(Path("a/folder/that/is/missing"), ())
        ()
    """
    names: dict[Path, set[str]] = defaultdict(set)
    for file in used:
        names[file.parent].add(file.name)
    # One folder may be a link to another.
    places: dict[Path, Path] = {}
    named: dict[Path, set[str]] = defaultdict(set)
    for folder in (*names, *_folders(root / "images")):
        real = folder.resolve()
        places.setdefault(real, folder)
        named[real] |= names.get(folder, set())
    return tuple(
        folder / name
        for real, folder in sorted(places.items(), key=itemgetter(1))
        for name in sorted({*os.listdir(folder)} - named[real])  # noqa: PTH208 - names will do
        if _is_picture(folder / name)
    )


def list_unread(folder: Path, names: Container[str]) -> tuple[Path, ...]:
    """List the pictures of types that are not read.

    Args:
        folder: The folder; there need be none.
        names: Paths below it, without suffix, of those that are read: the raw file of a camera
            beside its JPEG is not missed.

    Returns:
        The others, sorted by folder, then name.

    Raises:
        DataError: A link leads to a folder above it.

    Example:
        >>> list_unread(Path("a/folder/that/is/missing"), ())
        ()
    """
    return tuple(file for name, file in walk_files(folder, UNREAD_SUFFIXES) if name not in names)


def _folders(folder: Path) -> Iterator[Path]:
    """Give a folder and all below, those behind links excepted."""
    for path, below, _ in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(".")]
        yield Path(path)


def _is_picture(file: Path) -> bool:
    visible = not file.name.startswith(".")
    return visible and file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()


def _walk(folder: Path, prefix: str, suffixes: Collection[str]) -> Iterator[tuple[str, Path]]:
    """Walk with scandir, which asks the disk once per folder and not once per file."""
    with os.scandir(folder) as entries:
        visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in visible:
        if entry.is_dir():
            if entry.is_symlink() and folder.resolve().is_relative_to(Path(entry.path).resolve()):
                raise DataError(
                    f"{entry.path}: is a link to a folder that it lies in, which never ends."
                    " Remove the link."
                )
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", suffixes)
            continue
        stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122 - a Path each would take 3x
        if suffix.lower() in suffixes:
            yield prefix + stem, folder / entry.name
