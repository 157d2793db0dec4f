"""An index mask written while it is made: a palette PNG, from top to bottom.

Pillow writes pictures that it has as a whole. A PNG without filters needs no more than zlib.
"""

import contextlib
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from agmm.datasets.classes import Classes
from agmm.datasets.masks import check_values, mask_palette
from agmm.errors import InputError
from agmm.files import written_atomically
from agmm.shapes import MaskArray


@contextlib.contextmanager
def written_in_rows(
    path: Path, height: int, width: int, classes: Classes
) -> Iterator[Callable[[MaskArray], None]]:
    """Write a mask in the colours of its classes, atomically; its rows need not be held.

    Args:
        path: The file to write, ending in ``.png``.
        height: Rows that will be written, at least 1.
        width: Length of each, at least 1.
        classes: The data set's classes.

    Yields:
        A function to call with any number of rows, "h width", uint8: class index, or 255 =
        unlabelled.

    Raises:
        InputError: Rows of another length, a value that is no class, or fewer or more rows.

    Example:
        >>> import tempfile
        >>> from agmm.datasets.masks import read_index_mask
        >>> path = Path(tempfile.mkdtemp()) / "mask.png"
        >>> classes = Classes(("cat", "dog"), ((0, 0, 0), (9, 9, 9)))
        >>> with written_in_rows(path, 2, 1, classes) as write:
        ...     write(np.array([[1]], np.uint8))
        ...     write(np.array([[255]], np.uint8))
        >>> read_index_mask(path, classes).tolist()
        [[1], [255]]
    """
    packer, written = zlib.compressobj(), 0
    with written_atomically(path) as temporary, temporary.open("wb") as file:

        def chunk(kind: bytes, content: bytes) -> None:
            checksum = zlib.crc32(content, zlib.crc32(kind))
            file.write(struct.pack(">I", len(content)) + kind + content)
            file.write(struct.pack(">I", checksum))

        def write(rows: MaskArray) -> None:
            nonlocal written
            written += len(rows)
            _check_rows(path, rows, written, height, width, classes)
            filtered = np.pad(rows, ((0, 0), (1, 0)))  # each row begins with its filter: 0, none
            if packed := packer.compress(filtered.tobytes()):
                chunk(b"IDAT", packed)

        file.write(b"\x89PNG\r\n\x1a\n")
        # 8 bits, palette, the one compression and filter method that there are, not interlaced
        chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
        chunk(b"PLTE", mask_palette(classes))
        yield write
        if written != height:
            raise InputError(f"{path}: {written} rows were given for a mask of {height}.")
        chunk(b"IDAT", packer.flush())
        chunk(b"IEND", b"")


def _check_rows(
    path: Path, rows: MaskArray, written: int, height: int, width: int, classes: Classes
) -> None:
    if rows.shape[1] != width or written > height:
        raise InputError(
            f"{path}: rows of {rows.shape[1]} pixels, {written} in all, for a mask of"
            f" {height}x{width} (height x width)."
        )
    check_values(rows, classes)
