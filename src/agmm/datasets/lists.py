"""Lists of pictures and their masks: one picture per line, with its mask or without."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from agmm.datasets.places import find_picture, relative_name
from agmm.datasets.text import read_text
from agmm.errors import DataError


@dataclass(frozen=True)
class Listed:
    """One line of a list.

    Args:
        where: File and line, for messages.
        image: The picture, as a path from the data folder on.
        mask: Its mask; None if the line names none.
    """

    where: str
    image: str
    mask: str | None


def list_lines(path: Path, pictures: Container[str] = ()) -> Iterator[tuple[int, str]]:
    r"""Give the lines of a list that say something.

    Args:
        path: A text file.
        pictures: Lines that name a picture, also if they start with "#".

    Returns:
        Number of each line, from 1, and the line; not those that are empty, or start with "#" and
        name no picture.

    Raises:
        DataError: No such file, or no text.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "train.txt"
        >>> _ = path.write_text("# pictures\n\n a \n")
        >>> list(list_lines(path))
        [(3, 'a')]
        >>> list(list_lines(path, {"# pictures"}))
        [(1, '# pictures'), (3, 'a')]
    """
    for number, text in enumerate(read_text(path).splitlines(), start=1):
        line = text.strip()
        if line and (line in pictures or not line.startswith("#")):
            yield number, line


def read_list(path: Path) -> list[Listed]:
    r"""Read a list of pictures.

    Args:
        path: A text file with lines ``IMAGE`` or ``IMAGE MASK``, separated by spaces; both in
            double quotes if they have spaces themselves. A "/" in front does not matter.

    Returns:
        The lines; empty ones, and those that start with "#", are left out.

    Raises:
        DataError: No such file, a line of another kind, a name that leads out of the data folder,
            or a picture that is there twice.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "train.txt"
        >>> _ = path.write_text('/train/a.png /trainannot/a.png\n')
        >>> [(line.image, line.mask) for line in read_list(path)]
        [('train/a.png', 'trainannot/a.png')]
    """
    found: dict[str, Listed] = {}
    for number, line in list_lines(path):
        where = f"{path}, line {number}"
        image, mask = listed_fields(line, where)
        if image in found:
            raise DataError(f"{where}: the picture is in the list already. Remove the line.")
        found[image] = Listed(where, image, mask)
    return list(found.values())


def listed_fields(line: str, where: str) -> tuple[str, str | None]:
    """Take one line of a list apart.

    Args:
        line: ``IMAGE`` or ``IMAGE MASK``, see `read_list`.
        where: File and line, for the message.

    Returns:
        Picture and mask, as paths from the data folder on; None for no mask.

    Raises:
        DataError: No such line, or a name that leads out of the data folder.

    Example:
        >>> listed_fields('"/train/a b.png" "trainannot/a b.png"', "train.txt, line 1")
        ('train/a b.png', 'trainannot/a b.png')
    """
    fields = line.split('"')[1::2] if line.startswith('"') else line.split()
    if not 1 <= len(fields) <= 2 or not fields[0]:
        raise DataError(
            f"{where}: must name a picture, or a picture and its mask, but is {line!r:.120}."
            ' Put names with spaces into double quotes: "a b.png" "c d.png".'
        )
    names = [relative_name(name.lstrip("/"), where) for name in fields if name]
    return names[0], names[1] if len(names) > 1 else None


def find_listed(root: Path, name: str, where: str) -> tuple[str, Path]:
    """Find a file of a list.

    Lists often name files from a folder above the data set, as in
    ``/SegNet/CamVid/train/a.png``; then the longest end of the path that is there counts.

    Args:
        root: The data set's folder.
        name: The name, as `read_list` gives it.
        where: File and line, for the message.

    Returns:
        The path below ``root`` without suffix, and the file.

    Raises:
        DataError: There is no such file, or a link that leads out of the data folder.
    """
    parts = PurePosixPath(name).parts
    for first in range(max(len(parts) - 1, 1)):
        end = "/".join(parts[first:])
        file = find_picture(root, [end], where)
        if file is not None:
            return file.relative_to(root).with_suffix("").as_posix(), file
    raise DataError(
        f"{where}: there is no file {name!r} in {root}. Correct the name, add the file, or remove"
        " the line."
    )
