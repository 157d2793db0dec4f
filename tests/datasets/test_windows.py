"""Pictures read by windows are those that Pillow reads as a whole; broken ones become errors."""

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from agmm.datasets import images, windows
from agmm.datasets.images import read_image
from agmm.datasets.windows import opened_rows, opened_tiff
from agmm.errors import DataError, TooLargeError

Field = tuple[int, int, int, int]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def joined(path: Path) -> np.ndarray:
    with opened_tiff(path) as picture:
        image = np.concatenate(list(picture.chunks))
        assert image.shape == (picture.height, picture.width, 3)
    return image


def write_tiff(path: Path, image: np.ndarray, **options: Any) -> None:
    """Write with GDAL: tiles, planes and BigTIFF are nothing that Pillow writes."""
    import rasterio

    height, width, bands = image.shape
    kind = {"driver": "GTiff", "dtype": image.dtype.name, "photometric": "rgb", **options}
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(path, "w", height=height, width=width, count=bands, **kind) as file,
    ):
        file.write(image.transpose(2, 0, 1))


def tiff(data: bytes, *changes: Field, size: tuple[int, int] = (64, 64), tile: int = 64) -> bytes:
    """A grey TIFF of one tile, by hand; fields are (tag, type, count, value)."""
    fields = {
        tag: (tag, kind, 1, value)
        for tag, kind, value in (
            (256, 4, size[1]), (257, 4, size[0]), (258, 3, 8), (259, 3, 1), (262, 3, 1),
            (277, 3, 1), (322, 4, tile), (323, 4, tile), (324, 4, 0), (325, 4, len(data)),
        )
    }  # fmt: skip
    fields |= {field[0]: field for field in changes}
    fields[324] = (324, 4, 1, 8 + 2 + 12 * len(fields) + 4)
    entries = [
        struct.pack("<HHI", *field[:3]) + struct.pack("<I" if field[1] == 4 else "<Hxx", field[3])
        for _, field in sorted(fields.items())
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + b"".join(entries) + bytes(4) + data


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"blockysize": 7},
        {"tiled": True, "blockxsize": 16, "blockysize": 32},
        {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "lzw"},
        {"compress": "deflate", "predictor": 2, "interleave": "band"},
        {"tiled": True, "blockxsize": 32, "blockysize": 16, "interleave": "band"},
        {"BIGTIFF": "YES", "compress": "packbits"},
        {"ENDIANNESS": "BIG"},
        {"compress": "zstd"},
    ],
    ids=str,
)
def test_every_layout_is_the_same_picture(tmp_path: Path, options: dict[str, Any]) -> None:
    image = noise(600, 37)
    write_tiff(tmp_path / "picture.tif", image, **options)

    assert np.array_equal(joined(tmp_path / "picture.tif"), image)


@pytest.mark.parametrize(
    ("mode", "color"),
    [
        ("RGB", (1, 2, 3)),
        ("RGBA", (1, 2, 3, 0)),
        ("L", 7),
        ("LA", (7, 0)),
        ("1", 1),
        ("I;16", 32768),
    ],
)
def test_every_mode_is_as_pillow_reads_it(tmp_path: Path, mode: str, color: Any) -> None:
    path = tmp_path / "picture.tif"
    Image.new(mode, (5, 4), color).save(path)

    assert np.array_equal(joined(path), read_image(path))


def test_inks_are_converted_as_pillow_does_it(tmp_path: Path) -> None:
    path = tmp_path / "print.tif"
    Image.new("CMYK", (5, 4), (0, 200, 100, 10)).save(path)

    assert np.abs(joined(path).astype(int) - read_image(path)).max() <= 1


def test_palettes_are_looked_up(tmp_path: Path) -> None:
    path = tmp_path / "palette.tif"
    image = Image.new("P", (2, 1), 1)
    image.putpalette([9, 9, 9, 10, 20, 30])
    image.save(path)

    assert joined(path).tolist() == [[[10, 20, 30], [10, 20, 30]]]


def test_jpeg_inside_a_tiff_is_as_pillow_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "photo.tif"
    smooth = Image.fromarray(noise(4, 5)).resize((90, 70), Image.Resampling.BICUBIC)
    smooth.save(path, compression="jpeg", quality=95)

    assert np.abs(joined(path).astype(int) - read_image(path)).max() <= 4


def test_white_is_zero_where_the_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "white.tif"
    path.write_bytes(tiff(bytes(64 * 64), (262, 3, 1, 0)))

    assert (joined(path) == 255).all()


def test_chunks_are_whole_rows_of_blocks(tmp_path: Path) -> None:
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 96}
    write_tiff(tmp_path / "picture.tif", noise(500, 20), **tiles)

    with opened_tiff(tmp_path / "picture.tif") as picture:
        assert [len(chunk) for chunk in picture.chunks] == [192, 192, 116]


def test_small_pictures_are_read_as_ever_and_large_ones_by_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, image = tmp_path / "picture.tif", noise(600, 20)
    write_tiff(path, image)
    with opened_rows(path) as picture:
        assert [chunk.shape for chunk in picture.chunks] == [(600, 20, 3)]

    monkeypatch.setattr(images, "MAX_PIXELS", 11_999)
    with opened_rows(path) as picture:
        chunks = list(picture.chunks)
    assert len(chunks) > 1
    assert np.array_equal(np.concatenate(chunks), image)


def test_a_large_picture_that_is_no_tiff_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    Image.new("RGB", (10, 10)).save(tmp_path / "map.png")

    message = r"map\.png: .*not a TIFF.*rio convert .*TILED=YES.* map\.png map\.tif$"
    with pytest.raises(TooLargeError, match=message), opened_rows(tmp_path / "map.png"):
        pass


@pytest.mark.parametrize("size", [(9_500, 9_500), (20_000, 20_000)])  # Pillow warns; it refuses
def test_pillow_is_not_asked_for_what_it_warns_of(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "sparse.tif"
    options = {"driver": "GTiff", "dtype": "uint8", "count": 1, "tiled": True, "SPARSE_OK": "TRUE"}
    import rasterio

    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(path, "w", height=size[0], width=size[1], **options),
    ):
        pass

    with opened_rows(path) as picture:
        assert (picture.height, picture.width) == size
        first = next(picture.chunks)
    assert first.shape == (256, size[1], 3)
    assert not first.any()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tiff(b"", size=(2**20, 2**20)), r"1048576x1048576 pixels.*100000"),
        # One strip that holds everything, packed: it could only be unpacked as a whole.
        (
            tiff(b"", (259, 3, 1, 8), size=(90_000, 1_000), tile=99_999 // 16 * 16),
            r"its blocks have 99984 rows.*Store it in tiles: rio convert",
        ),
    ],
)
def test_a_picture_that_cannot_be_held_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "bomb.tif").write_bytes(content)

    with pytest.raises(TooLargeError, match=message), opened_tiff(tmp_path / "bomb.tif"):
        pass


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_a_turned_picture_is_refused(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (4, 3)).save(tmp_path / "turned.tif", exif=exif)

    message = rf"turned\.tif: stored turned.*orientation {orientation}.*upright"
    with pytest.raises(DataError, match=message), opened_tiff(tmp_path / "turned.tif"):
        pass


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((4, 4, 3), np.uint16), {}, r"red, green, blue \(uint16\)"),
        (np.zeros((4, 4, 1), np.float32), {"photometric": "minisblack"}, r"gray \(float32\)"),
        (np.zeros((4, 4, 5), np.uint8), {"photometric": "minisblack"}, r"gray, undefined"),
        (np.zeros((4, 4, 1), np.uint16), {"photometric": "minisblack", "NBITS": 12}, r"\(12 bits"),
    ],
)
def test_other_kinds_of_pictures_are_refused(
    tmp_path: Path, image: np.ndarray, options: dict[str, Any], message: str
) -> None:
    write_tiff(tmp_path / "map.tif", image, **options)

    match = rf"map\.tif: .*{message}.*8 bits"
    with pytest.raises(DataError, match=match), opened_tiff(tmp_path / "map.tif"):
        pass


@pytest.mark.parametrize("compress", ["none", "deflate", "jpeg", "lzw"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_truncated_picture_is_named(tmp_path: Path, compress: str, share: float) -> None:
    path = tmp_path / "half.tif"
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    write_tiff(path, noise(300, 300), compress=compress, **tiles)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(DataError, match=r"half\.tif: cannot be read as a TIFF.*copy it again"):
        joined(path)


def jpeg(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (side, side)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    "content", [b"II*\0", b"II*\0" + bytes(20), tiff(jpeg(640), (259, 3, 1, 7))]
)
def test_what_is_no_picture_inside_is_named(tmp_path: Path, content: bytes) -> None:
    """The last one is a tile of 64 whose JPEG claims to be of 640: it is not unpacked."""
    path = tmp_path / "broken.tif"
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"broken\.tif: cannot be read as a TIFF"):
        joined(path)


def test_a_tile_that_unpacks_to_more_than_its_size_stays_in_bounds(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    path.write_bytes(tiff(zlib.compress(bytes([3]) * 10_000_000), (259, 3, 1, 8)))

    image = joined(path)

    assert image.shape == (64, 64, 3)
    assert (image[:60] == 3).all()  # libtiff may lose the end of such a tile


SAMPLES = [
    tiff(bytes(range(64)) * 64),
    tiff(zlib.compress(bytes(4096)), (259, 3, 1, 8)),
    tiff(jpeg(64), (259, 3, 1, 7)),
]


@given(
    sample=st.sampled_from(SAMPLES),
    damage=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4),
)
@settings(max_examples=150)
def test_damage_never_ends_in_a_crash(
    tmp_path_factory: pytest.TempPathFactory, sample: bytes, damage: Sequence[tuple[int, int]]
) -> None:
    content = bytearray(sample)
    for place, value in damage:
        content[place % len(content)] = value
    path = tmp_path_factory.mktemp("damaged") / "picture.tif"
    path.write_bytes(content)

    try:
        with opened_tiff(path) as picture:
            rows = sum(len(chunk) for chunk in picture.chunks)
            assert rows == picture.height <= windows.MAX_SIDE
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017 - either is right
