"""Pictures from disk: RGB, upright, and never a crash on a broken file."""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from agmm.errors import DataError, TooLargeError
from agmm.shapes import ImageArray

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Endings of picture files, in lower case; compare with ``path.suffix.lower()``."""

UNREAD_SUFFIXES = frozenset(
    {
        *(".avif", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".pgm", ".ppm", ".tga"),
        *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),  # of cameras
    }
)
"""Endings of pictures that are not read, so that they can be told and are not missed later."""

_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP")
"""What a file may hold, whatever its name says: for some of its formats, Pillow runs programs that
run what is in the file. MPO, several pictures of a camera, is opened as the JPEG that it begins
with."""

MAX_PIXELS = 89_478_485
"""The largest picture that is read: 0.27 GB as RGB. A file of a few kilobytes may claim any size.

It is the limit that Pillow warns at. Pillow's own limit is a global of that module, which one
thread cannot lift without lifting it for all, so a larger one is not offered; larger TIFFs are read
by `agmm.datasets.windows`.
"""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation to what makes the picture upright; 1 and everything else: nothing."""

BROKEN_FILE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
)
"""What Pillow's decoders raise on damaged files."""


def read_image(path: Path) -> ImageArray:
    """Read a picture as RGB, turned as its EXIF orientation says.

    Grey is repeated, palettes are looked up, CMYK is converted, transparency is dropped, and
    16-bit grey is scaled to 8 bits. Of an animation it is the first frame.

    Args:
        path: The file: JPEG, PNG, BMP, TIFF or WebP, whatever its suffix.

    Returns:
        (H, W, 3), uint8, the same (H, W) as `image_size`.

    Raises:
        DataError: The file is missing, truncated, or no picture; `TooLargeError` above
            `MAX_PIXELS`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "grey.png"
        >>> Image.new("L", (3, 2), 7).save(path)
        >>> read_image(path).shape
        (2, 3, 3)
    """
    with opened_image(path) as image:
        return np.array(_as_rgb(upright(image), path))


def image_size(path: Path) -> tuple[int, int]:
    """Read the size of a picture from its header, without decoding the pixels.

    Args:
        path: The file: JPEG, PNG, BMP, TIFF or WebP, whatever its suffix.

    Returns:
        (H, W) in pixels, as the picture stands after its EXIF orientation is applied.

    Raises:
        DataError: The file is missing, or no picture; `TooLargeError` above `MAX_PIXELS`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "grey.png"
        >>> Image.new("L", (3, 2)).save(path)
        >>> image_size(path)
        (2, 3)
    """
    with opened_image(path) as image:
        width, height = image.size
        return (width, height) if _orientation(image) in {5, 6, 7, 8} else (height, width)


@contextlib.contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """Open a picture; whatever Pillow raises inside the block becomes a `DataError`.

    Args:
        path: The file.

    Yields:
        The picture, its pixels not decoded yet.

    Raises:
        DataError: The file is missing, truncated, or no picture; `TooLargeError` above
            `MAX_PIXELS`.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(path, f"{image.width}x{image.height} pixels (width x height)")
            yield image
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file. Correct the path.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, str(error)) from error
    except BROKEN_FILE as error:
        remedy = (
            "It is a TIFF that is damaged, or whose bands are not RGB or grey with 8 bits (grey"
            " also 16): copy it again, save it with such bands, or remove it."
            if isinstance(error, UnidentifiedImageError) and _begins_as_tiff(path)
            else "It may be truncated, or not JPEG, PNG, BMP, TIFF or WebP: copy it again, save it"
            " as one of these, or remove it."
        )
        raise DataError(f"{path}: cannot be read as a picture ({error}). {remedy}") from error


def _begins_as_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF orientation says.

    Args:
        image: A picture as `opened_image` gives it.

    Returns:
        The picture as a viewer shows it.

    Example:
        >>> upright(Image.new("L", (3, 2))).size
        (3, 2)
    """
    # Read first: decoding a PNG may bring up further metadata that image_size could not know of.
    turn = _TURNS.get(_orientation(image))
    image.load()
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1  # Pillow turns TIFF by itself, its size included
    # The base class's method: PNG's own would decode all pixels to look for EXIF behind them.
    value = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    return value if value in _TURNS else 1  # a file may say a text or infinity, too


def _as_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _scaled_to_8_bits(image, path)
    if image.mode == "F":
        raise DataError(
            f"{path}: a picture of floating-point numbers, whose black and white are not known."
            " Save it with 8 bits per channel."
        )
    # By way of RGBA, as Pillow warns when it drops a palette's transparency directly.
    return image.convert("RGBA").convert("RGB") if image.mode == "P" else image.convert("RGB")


def _scaled_to_8_bits(image: Image.Image, path: Path) -> Image.Image:
    """Scale 0..65535 to 0..255, as Pillow would clip everything above 255."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(
            f"{path}: grey values {values.min()}..{values.max()}, but 16 bits end at 65535. Save"
            " it with 8 bits per channel."
        )
    return Image.fromarray(grey_of_16_bits(values)).convert("RGB")


def grey_of_16_bits(values: np.ndarray) -> np.ndarray:
    """Scale 0..65535 to 0..255.

    Args:
        values: Integers in that range, of any shape.

    Returns:
        The same shape, uint8.

    Example:
        >>> grey_of_16_bits(np.array([0, 128, 129, 65535])).tolist()
        [0, 0, 1, 255]
    """
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _too_large(path: Path, found: str) -> TooLargeError:
    return TooLargeError(
        f"{path}: too large to be read safely: {found}; the limit is {MAX_PIXELS} pixels. Cut it"
        " into tiles, or remove it."
    )
