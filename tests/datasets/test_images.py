"""Pictures of every kind become RGB; broken files become errors with a remedy."""

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from agmm.datasets.images import MAX_PIXELS, image_size, read_image
from agmm.errors import DataError


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 0), (1, 2, 3)),  # alpha is dropped, not composed
        ("L", 7, (7, 7, 7)),
        ("LA", (7, 0), (7, 7, 7)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(
    tmp_path: Path, mode: str, color: int | tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    path = tmp_path / "picture.png"
    Image.new(mode, (5, 2), color).save(path)
    image = read_image(path)
    assert image.shape == (2, 5, 3)
    assert (image == expected).all()


@pytest.mark.parametrize("transparency", [None, 0, b"\x00\x80"])
def test_palettes_are_looked_up(tmp_path: Path, transparency: int | bytes | None) -> None:
    path = tmp_path / "palette.png"
    image = Image.new("P", (2, 1), 1)
    image.putpalette([9, 9, 9, 10, 20, 30])
    if transparency is None:
        image.save(path)
    else:
        image.save(path, transparency=transparency)
    assert read_image(path).tolist() == [[[10, 20, 30], [10, 20, 30]]]


def test_cmyk_is_converted(tmp_path: Path) -> None:
    path = tmp_path / "print.tif"
    Image.new("CMYK", (2, 1), (0, 255, 255, 0)).save(path)
    assert read_image(path)[0, 0].tolist() == [255, 0, 0]


def test_16_bit_grey_is_scaled(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 257, 32768, 65535]], dtype=np.uint16)).save(path)
    assert read_image(path)[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0, 65536]], dtype=np.int32), r"0\.\.65536"),
        (np.array([[0, 0.5]], dtype=np.float32), "floating-point"),
    ],
)
def test_unknown_scales_are_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    path = tmp_path / "measured.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(DataError, match=f"measured.tif.*{message}.*8 bits"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 10))
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    # What a viewer shows: dark above, light below. The file holds it turned the other way.
    shown = np.repeat(np.array([[20, 20, 60], [200, 200, 240]], dtype=np.uint8), 16, axis=0)
    shown = np.repeat(shown, 16, axis=1)  # whole JPEG blocks
    stored: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a.T, 2),
        8: lambda a: np.rot90(a, -1),
    }
    path = tmp_path / f"turned.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = np.ascontiguousarray(stored.get(orientation, np.array)(shown))
    Image.fromarray(array).convert("RGB").save(path, exif=exif)
    assert image_size(path) == shown.shape
    assert np.abs(read_image(path)[..., 0].astype(int) - shown).max() < 20


@pytest.mark.parametrize(
    ("kind", "size", "content"),
    [
        (12, 1, struct.pack("<d", np.inf)),
        (12, 1, struct.pack("<d", np.nan)),
        (12, 1, struct.pack("<d", 6.5)),
        (2, 8, b"upright\0"),
        (7, 8, bytes(8)),
        (3, 4, struct.pack("<4H", 9, 6, 6, 6)),
    ],
    ids=["infinity", "nan", "fraction", "text", "bytes", "several"],
)
@pytest.mark.filterwarnings("ignore:Metadata Warning")  # Pillow's: tag 274 had too many entries
def test_an_orientation_that_is_none_turns_nothing(
    tmp_path: Path, kind: int, size: int, content: bytes
) -> None:
    path = tmp_path / "odd.jpg"
    entry = struct.pack("<HHHII", 1, 0x0112, kind, size, 26) + bytes(4)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + entry + content
    Image.new("RGB", (6, 4)).save(path, exif=exif)
    assert image_size(path) == (4, 6)
    assert read_image(path).shape == (4, 6, 3)


def _png(width: int, height: int) -> bytes:
    """A PNG that claims a size; its pixels are missing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk
    return start + struct.pack(">I", zlib.crc32(chunk)) + struct.pack(">I", 0) + b"IDAT"


# At the first size Pillow warns, at the second it raises by itself.
@pytest.mark.parametrize("side", [9_500, 20_000])
@pytest.mark.parametrize("action", ["error", "ignore"])
@pytest.mark.parametrize("read", [read_image, image_size])
def test_a_picture_that_claims_too_much_is_refused(
    tmp_path: Path, read: Callable[[Path], object], side: int, action: Literal["error", "ignore"]
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_png(side, side))
    assert side**2 > MAX_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter(action, Image.DecompressionBombWarning)
        with pytest.raises(DataError, match=r"bomb.png: too large.*into tiles"):
            read(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp", "webp"])
def test_a_truncated_picture_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"half.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"half.{suffix}: cannot be read.*copy it again"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
@pytest.mark.parametrize("read", [read_image, image_size])
def test_what_is_no_picture_is_named(
    tmp_path: Path, read: Callable[[Path], object], content: bytes
) -> None:
    path = tmp_path / "text.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"text.jpg: cannot be read as a picture"):
        read(path)


@pytest.mark.parametrize("read", [read_image, image_size])
def test_postscript_under_another_name_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    path, ran = tmp_path / "photo.jpg", tmp_path / "ran"
    Image.new("RGB", (4, 4)).save(path, "EPS")
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {ran}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", str(ghostscript))
    with pytest.raises(DataError, match=r"photo.jpg: cannot be read.*not JPEG, PNG.*save it as"):
        read(path)
    assert not ran.exists()


def test_the_pictures_of_a_camera_are_read(tmp_path: Path) -> None:
    """MPO: the picture, and a preview behind it."""
    path = tmp_path / "photo.jpg"
    preview = Image.new("RGB", (2, 1))
    Image.new("RGB", (6, 4)).save(path, "MPO", save_all=True, append_images=[preview])
    with Image.open(path) as image:
        assert image.format == "MPO"
    assert read_image(path).shape == (4, 6, 3)


@pytest.mark.parametrize(("count", "dtype"), [(3, "uint16"), (5, "uint8"), (2, "uint8")])
def test_a_tiff_of_other_bands_is_not_told_to_be_no_picture(
    tmp_path: Path, count: int, dtype: str
) -> None:
    import rasterio

    path = tmp_path / "bands.tif"
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(path, "w", height=3, width=4, count=count, dtype=dtype) as file,
    ):
        file.write(np.ones((count, 3, 4), dtype))
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"bands.tif: .* bands are not RGB or grey with 8 bits"):
            read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.jpg: there is no such file"):
        read_image(tmp_path / "gone.jpg")
