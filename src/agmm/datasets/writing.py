"""Writing the ``folder`` layout; see `agmm.datasets.folder` for what it is.

Every file is written whole or not at all. ``classes.txt`` belongs last: a folder without it is not
read, so that half a data set is not taken for a whole one.
"""

import contextlib
import csv
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from agmm.datasets.classes import Classes
from agmm.datasets.images import IMAGE_SUFFIXES, opened_image
from agmm.datasets.masks import write_index_mask
from agmm.datasets.tables import BOXES_COLUMNS, TAGS_COLUMNS, match_tags
from agmm.errors import DataError
from agmm.files import written_atomically
from agmm.labels.annotations import Blocks, Boxes, DenseMask, Points, Scribbles, Tags
from agmm.labels.drawing import draw
from agmm.labels.forms import Form

Drawn = Points | Scribbles | Blocks | DenseMask
"""The forms that are index PNGs."""

_FOLDERS: Mapping[Form, str] = {"dense": "masks"}
"""Folders that have another name than their form."""

_SUFFIXES: Mapping[str | None, str] = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "BMP": ".bmp",
    "DIB": ".bmp",
    "TIFF": ".tif",
    "WEBP": ".webp",
}
"""Pillow's name of a format to its usual suffix."""


def write_label(
    root: Path, name: str, annotation: Drawn, size: tuple[int, int], classes: Classes
) -> None:
    """Write the label of one picture as an index PNG.

    Args:
        root: The data set's folder.
        name: Split and name of the picture, such as "train/a".
        annotation: The label. Of a click the pixel is written; of two on one pixel the later.
        size: (H, W) of the picture in pixels.
        classes: The data set's classes.

    Raises:
        DataError: A label that does not fit the picture or the classes.

    Example:
        >>> import numpy as np
        >>> import tempfile
        >>> root, classes = Path(tempfile.mkdtemp()), Classes(("cat",), ((1, 2, 3),))
        >>> write_label(root, "train/a", Scribbles(np.zeros((1, 2), np.uint8)), (1, 2), classes)
        >>> [path.relative_to(root).as_posix() for path in root.rglob("*.png")]
        ['scribbles/train/a.png']
    """
    mask = draw(annotation, size, len(classes), None)
    form = annotation.form
    write_index_mask(root / _FOLDERS.get(form, form) / f"{name}.png", mask, classes)


def write_picture(root: Path, name: str, picture: Path, *, link: bool = False) -> None:
    """Put a picture into ``images/``, byte by byte, or as a second name of the same file.

    Args:
        root: The data set's folder.
        name: Split and name of the picture, such as "train/a"; see `picture_suffix`.
        picture: The file.
        link: Make a hard link, which takes no space, but is the same file: who changes one of the
            two changes both. Where the file system cannot, the file is copied.

    Raises:
        OSError: The file cannot be read or written.
        DataError: A file without the suffix of a picture that is none.
    """
    target = root / "images" / f"{name}{picture_suffix(picture)}"
    with written_atomically(target) as temporary:
        if link:
            try:
                temporary.hardlink_to(picture.resolve())
            except OSError:  # another file system, or one without links
                link = False
        if not link:
            shutil.copyfile(picture, temporary)


def picture_suffix(picture: Path) -> str:
    """Tell the suffix of a picture in ``images/``: its own, unless it would not be found by that.

    Args:
        picture: The file. Some layouts name files such as "a.jfif", or without any suffix.

    Returns:
        One of `agmm.datasets.images.IMAGE_SUFFIXES`, in any case.

    Raises:
        DataError: The file has no such suffix, and is missing or no picture.

    Example:
        >>> picture_suffix(Path("a.JPG"))
        '.JPG'
    """
    if picture.suffix.lower() in IMAGE_SUFFIXES:
        return picture.suffix
    with opened_image(picture) as image:
        return _SUFFIXES[image.format]


def write_boxes(path: Path, boxes: Mapping[str, Boxes], classes: Classes) -> None:
    r"""Write ``boxes.csv``, which `agmm.datasets.tables.read_boxes` reads.

    Args:
        path: The file.
        boxes: Name of the picture, best with its suffix, to its boxes; a picture without boxes
            gets a row that says so.
        classes: The data set's classes.

    Example:
        >>> import numpy as np
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "boxes.csv"
        >>> boxes = Boxes(np.array([[3, 1, 4.5, 2]]), np.array([0], np.uint8))
        >>> write_boxes(path, {"a.jpg": boxes}, Classes(("cat",), ((1, 2, 3),)))
        >>> path.read_text()
        'image,class,xmin,ymin,xmax,ymax\na.jpg,cat,3,1,4.5,2\n'
    """
    rows: list[Sequence[object]] = []
    for name, found in boxes.items():
        corners = [[_shortest(value) for value in box] for box in found.xyxy.astype(float).tolist()]
        labels = [classes.names[label] for label in found.classes]
        rows += [(name, label, *box) for label, box in zip(labels, corners, strict=True)]
        rows += [] if labels else [(name, *[""] * 5)]
    _write_table(path, BOXES_COLUMNS, rows)


def write_tags(path: Path, tags: Mapping[str, Tags], classes: Classes) -> None:
    r"""Write ``tags.csv``, which `agmm.datasets.tables.read_tags` reads.

    Args:
        path: The file.
        tags: Name of the picture, best with its suffix, to its tags. Where the names of two tags
            in a row would be read as a third class, they are written in the reverse order.
        classes: The data set's classes.

    Raises:
        DataError: Tags that would be read as others in either order.

    Example:
        >>> import numpy as np
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "tags.csv"
        >>> classes = Classes(("cat", "dog"), ((1, 2, 3), (4, 5, 6)))
        >>> write_tags(path, {"a.jpg": Tags(np.array([0, 1], np.uint8))}, classes)
        >>> path.read_text()
        'image,tags\na.jpg,cat dog\n'
    """
    rows = [
        (name, _tag_words(name, given.classes.tolist(), classes)) for name, given in tags.items()
    ]
    _write_table(path, TAGS_COLUMNS, rows)


def write_classes(path: Path, classes: Classes) -> None:
    r"""Write ``classes.txt`` with names and colours.

    Args:
        path: The file.
        classes: The data set's classes.

    Raises:
        DataError: A name that is empty, of several lines, or begins or ends with a space.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "classes.txt"
        >>> write_classes(path, Classes(("cat",), ((1, 2, 255),)))
        >>> path.read_text()
        'cat #0102ff\n'
    """
    for name in classes.names:
        if name.splitlines() != [name] or name != name.strip():
            raise DataError(
                f"{path}: the class {name!r} cannot be written on a line of its own. Rename it."
            )
    lines = [
        f"{name} #{red:02x}{green:02x}{blue:02x}\n"
        for name, (red, green, blue) in zip(classes.names, classes.colors, strict=True)
    ]
    with written_atomically(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def _tag_words(name: str, labels: Sequence[int], classes: Classes) -> str:
    for order in (labels, labels[::-1]):
        words = " ".join(classes.names[label] for label in order)
        with contextlib.suppress(DataError):
            if match_tags(words, classes, name) == order:
                return words
    raise DataError(
        f"{name}: its tags {words!r} would be read as others, as names of classes are made of"
        " others' words. Rename some classes."
    )


def _shortest(value: float) -> str:
    """Whole numbers without a point; the others so that reading gives the same number."""
    return str(int(value)) if value == int(value) else repr(value)


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with (
        written_atomically(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as f,
    ):
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
