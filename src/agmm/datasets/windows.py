"""Pictures of any size, read from top to bottom a few rows at a time."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import TiffImageFile

from agmm.datasets.images import BROKEN_FILE, MAX_PIXELS, grey_of_16_bits, read_image
from agmm.errors import DataError, TooLargeError
from agmm.shapes import ImageArray

MAX_SIDE = 100_000
"""The longest side of a picture that is read by windows.

What is held grows with the width, and a file of a few kilobytes may claim any.
"""

ROWS_AT_ONCE = 256
"""Rows that are read together, where the file's own blocks are not larger."""

CACHE_MB = 64
"""GDAL's cache of blocks; it holds no more than that, as every block is asked for once."""

_TO_TIFF = (
    "rio convert --driver GTiff --co TILED=YES --co BLOCKXSIZE=512 --co BLOCKYSIZE=512"
    " --co COMPRESS=DEFLATE --co BIGTIFF=IF_SAFER"
)


class PictureRows(NamedTuple):
    """A picture whose rows can be read once, from top to bottom.

    Attributes:
        height: In pixels.
        width: In pixels.
        chunks: Arrays "h width 3", RGB, uint8, with any number of rows, ``height`` in all.
    """

    height: int
    width: int
    chunks: Iterator[ImageArray]


def whole_picture(image: ImageArray) -> PictureRows:
    """Give a picture in memory as rows.

    Args:
        image: RGB, "H W 3".

    Returns:
        All its rows in one piece.
    """
    return PictureRows(image.shape[0], image.shape[1], iter([image]))


@contextlib.contextmanager
def opened_rows(path: Path) -> Iterator[PictureRows]:
    """Open a picture of any size.

    A picture of at most `MAX_PIXELS` is read as `read_image` does it. A larger one must be a TIFF,
    BigTIFF or GeoTIFF, RGB or grey with 8 bits (grey also 16) or with a palette; its blocks are
    decoded once each.

    Args:
        path: The file.

    Yields:
        Its rows, to be read inside the block.

    Raises:
        TooLargeError: No TIFF, a side longer than `MAX_SIDE`, or blocks that are too large to be
            held.
        DataError: Missing, truncated, stored turned, or of another kind.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # no news, then
            image = read_image(path)
    except TooLargeError:
        if not _is_tiff(path):
            raise TooLargeError(
                f"{path}: larger than {MAX_PIXELS} pixels, and not a TIFF, the format that is read"
                f" by windows. Convert it: {_TO_TIFF} {path.name} {path.stem}.tif"
            ) from None
    else:
        yield whole_picture(image)
        return
    with opened_tiff(path) as picture:
        yield picture


@contextlib.contextmanager
def opened_tiff(path: Path) -> Iterator[PictureRows]:
    """Open a TIFF to be read by windows, whatever its size; see `opened_rows`.

    Args:
        path: The file.

    Yields:
        Its rows, to be read inside the block.

    Raises:
        TooLargeError: A side longer than `MAX_SIDE`, or blocks that are too large to be held.
        DataError: Missing, truncated, stored turned, or of another kind.
    """
    import rasterio
    from rasterio.errors import RasterioError

    # No other file is looked at: neither statistics nor masks nor overviews beside the picture.
    options = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_MB, **options):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of places on Earth, which nobody asks for
                dataset = rasterio.open(path.resolve(), driver="GTiff")
            with dataset:
                _check_size(path, dataset)
                bands = _bands(path, dataset)
                _check_upright(path)
                yield PictureRows(dataset.height, dataset.width, _chunks(dataset, bands))
    except RasterioError as error:
        raise DataError(
            f"{path}: cannot be read as a TIFF ({error.__cause__ or error}). It may be truncated:"
            " copy it again, or remove it."
        ) from error


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


def _check_size(path: Path, dataset: Any) -> None:
    height, width = dataset.height, dataset.width
    if max(height, width) > MAX_SIDE:
        raise TooLargeError(
            f"{path}: {width}x{height} pixels (width x height), but a side may have {MAX_SIDE} at"
            " most. Cut it into several pictures."
        )
    rows = max(block_rows for block_rows, _ in dataset.block_shapes)
    if rows * width > MAX_PIXELS:
        raise TooLargeError(
            f"{path}: its blocks have {rows} rows, and a row of blocks has {rows * width} pixels;"
            f" {MAX_PIXELS} can be held. Store it in tiles: {_TO_TIFF} {path.name}"
            f" {path.stem}-tiled.tif"
        )


def _check_upright(path: Path) -> None:
    """GDAL does not tell the orientation; Pillow reads it from the header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other tags
            header = TiffImageFile(path)  # Image.open would refuse the size
        with header:
            orientation = header.tag_v2.get(ExifTags.Base.Orientation, 1)
    except (*BROKEN_FILE, KeyError) as error:
        raise DataError(f"{path}: cannot be read as a TIFF ({error}). Save it anew.") from error
    if orientation != 1:
        raise DataError(
            f"{path}: stored turned or mirrored (orientation {orientation}), which is not undone in"
            " a picture of this size. Save it upright."
        )


def _bands(path: Path, dataset: Any) -> list[int]:
    """Numbers of the bands that make the colours: one of grey or of a palette, or three."""
    kinds = [interpretation.name for interpretation in dataset.colorinterp]
    types, bits = set(dataset.dtypes), dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    if types == {"uint8"} and kinds == ["palette"]:
        return [1]
    if bits is None and kinds in (["gray"], ["gray", "alpha"]) and types <= {"uint8", "uint16"}:
        return [1]
    if bits is None and types == {"uint8"} and kinds[:3] == ["red", "green", "blue"]:
        return [1, 2, 3]
    raise DataError(
        f"{path}: the bands are {', '.join(kinds)} ({bits or ', '.join(sorted(types))}"
        f"{' bits' if bits else ''}). Save it as RGB or grey with 8 bits (grey also 16), or with a"
        " palette."
    )


def _chunks(dataset: Any, bands: list[int]) -> Iterator[ImageArray]:
    """Whole rows of blocks, so that no block is decoded twice."""
    from rasterio.windows import Window

    palette = None
    if dataset.colorinterp[0].name == "palette":
        table = dataset.colormap(1)
        palette = np.array([table.get(i, (0, 0, 0))[:3] for i in range(256)], np.uint8)
    rows = max(block_rows for block_rows, _ in dataset.block_shapes)
    rows *= max(1, ROWS_AT_ONCE // rows)
    for first in range(0, dataset.height, rows):
        height = min(rows, dataset.height - first)
        values = dataset.read(bands, window=Window(0, first, dataset.width, height))
        yield _as_rgb(values, palette)


def _as_rgb(values: np.ndarray, palette: np.ndarray | None) -> ImageArray:
    """Bands x rows x columns to RGB."""
    if palette is not None:
        looked_up: ImageArray = palette[values[0]]
        return looked_up
    if values.dtype == np.uint16:
        values = grey_of_16_bits(values)
    if len(values) == 1:
        return np.repeat(values[0, ..., None], 3, axis=2)
    return np.ascontiguousarray(values.transpose(1, 2, 0))
