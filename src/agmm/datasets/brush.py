"""The masks of Label Studio's brush: run lengths packed into bits, as thi.ng/rle-pack writes them.

A stream of bits: 32 of the number of words, 5 of the bits per word less one, four times 4 of the
bits of a length less one; then runs: a bit that says whether one word is repeated or every word
follows, 2 that choose the size of the length, the length less one, and the word or words. The words
are red, green, blue and opacity of each pixel; a pixel is labelled where it is not transparent.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8

from agmm.errors import DataError


def decode_brush(rle: Sequence[object], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Decode the mask of a brush.

    Args:
        rle: The bytes, as whole numbers 0..255.
        size: (H, W) that the mask must have.

    Returns:
        (H, W), True where something was brushed.

    Raises:
        DataError: No bytes, another size, words that are not bytes, or a stream that ends too soon.

    Example:
        >>> decode_brush([0, 0, 0, 8, 57, 27, 252, 255, 224], (1, 2)).tolist()
        [[True, True]]
    """
    if not all(type(byte) is int and 0 <= byte <= 255 for byte in rle):
        raise DataError("the brush's rle must be whole numbers 0..255. Export it again.")
    stream = _Bits(np.array(rle, dtype=np.uint8))
    count, word = stream.read(32), stream.read(5) + 1
    H, W = size
    if count != 4 * H * W or word != 8:
        raise DataError(
            f"the brush's rle has {count} words of {word} bits, but a mask of {W}x{H} pixels (width"
            f" x height) has {4 * H * W} of 8. Export it again."
        )
    lengths = [stream.read(4) + 1 for _ in range(4)]
    words = np.zeros(count, dtype=np.uint8)
    start = 0
    while start < count:
        repeated = stream.read(1)
        end = start + 1 + stream.read(lengths[stream.read(2)])
        if end > count:
            raise DataError("the brush's rle has more words than its mask. Export it again.")
        words[start:end] = stream.read(8) if repeated else stream.read_bytes(end - start)
        start = end
    opaque: np.ndarray = words.reshape(H, W, 4)[..., 3] > 0
    return opaque


class _Bits:
    """Bits, the highest of each byte first."""

    def __init__(self, data: UInt8[np.ndarray, " n"]) -> None:
        self._bits = np.unpackbits(data)
        self._at = 0

    def read(self, count: int) -> int:
        """The next bits as a number."""
        value = 0
        for bit in self._take(count).tolist():
            value = 2 * value + bit
        return value

    def read_bytes(self, count: int) -> UInt8[np.ndarray, " n"]:
        """The next bytes."""
        return np.packbits(self._take(8 * count))

    def _take(self, count: int) -> UInt8[np.ndarray, " n"]:
        taken = self._bits[self._at : self._at + count]
        if len(taken) < count:
            raise DataError("the brush's rle ends too soon. Export it again.")
        self._at += count
        return taken
