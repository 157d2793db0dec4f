"""The runs in which COCO writes masks, plain and compressed.

pycocotools decodes them too; but it believes the size that a file claims, so runs are decoded here
within the size of the picture.
"""

import numpy as np
from jaxtyping import Bool, Int64

from agmm.datasets.text import shown
from agmm.errors import DataError

_DIGITS = 7
"""The most characters of one compressed number: 35 bits."""


def decode_runs(counts: object, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Decode the runs of COCO, which go down the columns and start with what is outside.

    Args:
        counts: The lengths of the runs as a list, or compressed as text: six bits a character, the
            lowest first, and from the fourth number on the difference to the one before last.
        size: (H, W) of the mask in pixels, which bounds what is decoded.

    Returns:
        Which pixels are inside.

    Raises:
        DataError: No such list or text, or runs that do not fill the mask.

    Example:
        >>> decode_runs([1, 2, 1], (2, 2)).tolist()
        [[False, True], [True, False]]
        >>> decode_runs("121", (2, 2)).tolist()
        [[False, True], [True, False]]
    """
    pixels = size[0] * size[1]
    if isinstance(counts, str) and len(counts) <= _DIGITS * (pixels + 2):
        lengths = _decompressed(counts)
    elif isinstance(counts, list) and all(type(c) is int and 0 <= c <= pixels for c in counts):
        lengths = np.array(counts, dtype=np.int64)
    else:
        raise DataError(
            f"the runs {shown(counts)} are neither whole numbers up to {pixels}, the pixels of the"
            " picture, nor compressed text. Export it again."
        )
    if (lengths < 0).any() or lengths.max(initial=0) > pixels or lengths.sum() != pixels:
        raise DataError(
            f"the runs must fill the {pixels} pixels of the picture, but their sum is"
            f" {lengths.sum()}. Export it again."
        )
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return inside.reshape(size[1], size[0]).T


def _decompressed(text: str) -> Int64[np.ndarray, " n"]:
    """Undo the compression; every character but the last of a number has the bit 0x20."""
    bits = np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(bits & 0x20 == 0)
    starts = np.concatenate([[0], ends + 1])[:-1]
    digits = ends - starts + 1
    whole = text.isascii() and ends[-1:].tolist() == [len(bits) - 1] and digits.max() <= _DIGITS
    if not whole or ((bits < 0) | (bits > 63)).any():
        raise DataError("the compressed runs are damaged. Export it again.")
    place = np.arange(len(bits)) - np.repeat(starts, digits)
    values = np.add.reduceat((bits & 0x1F) << (5 * place), starts)
    values -= np.where(bits[ends] & 0x10, 1 << (5 * digits), 0)  # the sign
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
