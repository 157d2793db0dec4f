"""Masks of every kind become class indices; 255 stays what it is."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from agmm.datasets.classes import VOID_COLOR, Classes, voc_colors
from agmm.datasets.masks import read_index_mask, read_palette, write_index_mask
from agmm.errors import DataError, InputError

COLORS = ((128, 64, 128), (0, 0, 0), (10, 200, 30))
CLASSES = Classes(("road", "sky", "tree"), COLORS)
PLAIN = Classes(("road", "sky", "tree"), COLORS, colors_given=False)
VALUES = np.array([[0, 1, 2], [255, 2, 1]], dtype=np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mask.png"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_values_are_classes(path: Path, dtype: type[np.integer]) -> None:
    Image.fromarray(VALUES.astype(dtype)).save(path)
    assert np.array_equal(read_index_mask(path, PLAIN), VALUES)


def test_palette_indices_are_classes_whatever_their_colours(path: Path) -> None:
    image = Image.fromarray(VALUES)
    image.putpalette([7] * 768)
    image.save(path)
    assert np.array_equal(read_index_mask(path, PLAIN), VALUES)


def small_png(
    bits: int, values: list[int], color_type: int, transparency: bytes | None = None
) -> bytes:
    """A PNG of one row, its samples packed; Pillow itself does not write all kinds."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    row = "".join(f"{value:0{bits}b}" for value in values)
    row = row.ljust(-(-len(row) // 8) * 8, "0")
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color_type]
    header = struct.pack(">IIBBBBB", len(values) // channels, 1, bits, color_type, 0, 0, 0)
    pixels = zlib.compress(b"\0" + int(row, 2).to_bytes(len(row) // 8, "big"))
    palette = chunk(b"PLTE", bytes(range(3 * 2**bits))) if color_type == 3 else b""
    clear = b"" if transparency is None else chunk(b"tRNS", transparency)
    body = chunk(b"IHDR", header) + palette + clear + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("color_type", [0, 3], ids=["grey", "palette"])
@pytest.mark.parametrize(("bits", "values"), [(1, [0, 1, 1]), (2, [0, 1, 2, 1]), (4, [2, 1])])
def test_values_of_few_bits_are_not_stretched(
    path: Path, color_type: int, bits: int, values: list[int]
) -> None:
    path.write_bytes(small_png(bits, values, color_type))
    assert read_index_mask(path, PLAIN).tolist() == [values]


def test_one_bit_is_two_classes(path: Path) -> None:
    Image.fromarray(np.array([[False, True]])).save(path)
    assert read_index_mask(path, PLAIN).tolist() == [[0, 1]]


@pytest.mark.parametrize("value", [0, 77])
def test_transparent_grey_is_unlabelled(path: Path, value: int) -> None:
    """Whatever lies below, be it the 0 that programs write there or no class."""
    alpha = np.array([[0, 1, 255], [255, 0, 128]], np.uint8)
    Image.fromarray(np.stack([np.where(alpha, VALUES, np.uint8(value)), alpha], -1)).save(path)
    with Image.open(path) as image:
        assert image.mode == "LA"
    assert read_index_mask(path, PLAIN).tolist() == [[255, 1, 2], [255, 255, 1]]


@pytest.mark.parametrize(
    ("transparency", "expected"),
    [(0, [255, 1, 2, 1]), (1, [0, 255, 2, 255]), (b"\x00\x01\x00", [255, 1, 255, 1])],
)
def test_transparent_indices_of_a_palette_are_unlabelled(
    path: Path, transparency: int | bytes, expected: list[int]
) -> None:
    image = Image.fromarray(np.array([[0, 1, 2, 1]], np.uint8))
    image.putpalette([7, 8, 9] * 3)
    image.save(path, transparency=transparency)
    assert read_index_mask(path, PLAIN).tolist() == [expected]


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey_value_is_unlabelled(path: Path, bits: int) -> None:
    path.write_bytes(small_png(bits, [0, 1, 1, 0], 0, struct.pack(">H", 1)))
    assert read_index_mask(path, PLAIN).tolist() == [[0, 255, 255, 0]]


@pytest.mark.parametrize(("bits", "scale"), [(8, 1), (16, 257)])
def test_a_transparent_colour_is_unlabelled(path: Path, bits: int, scale: int) -> None:
    samples = [value * scale for color in (COLORS[1], COLORS[0], (0, 0, 7)) for value in color]
    path.write_bytes(small_png(bits, samples, 2, struct.pack(">HHH", 0, 0, 7 * scale)))
    assert read_index_mask(path, CLASSES).tolist() == [[1, 0, 255]]


@pytest.mark.parametrize(("color_type", "channels"), [(4, 2), (6, 4)], ids=["grey", "colours"])
def test_16_bits_with_an_alpha_channel_are_refused(
    path: Path, color_type: int, channels: int
) -> None:
    """Pillow gives their upper halves, so that class 1 would be class 0 and look right."""
    path.write_bytes(small_png(16, [1] * channels, color_type))
    with pytest.raises(DataError, match=r"mask.png: has 16 bits .* alpha channel.* with 8 bits"):
        read_index_mask(path, CLASSES)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_looked_up(path: Path, mode: str) -> None:
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[:3], palette[255] = COLORS, VOID_COLOR
    Image.fromarray(palette[VALUES]).convert(mode).save(path)
    assert np.array_equal(read_index_mask(path, CLASSES), VALUES)


def test_a_colour_of_no_class_is_named(path: Path) -> None:
    image = np.zeros((2, 3, 3), dtype=np.uint8)
    image[0, 2] = image[1, 0] = (9, 8, 7)
    Image.fromarray(image).save(path)
    with pytest.raises(
        DataError, match=r"mask.png: the colour \(9, 8, 7\).* first at x=2, y=0, on 2 pixels"
    ):
        read_index_mask(path, CLASSES)


def test_colours_need_a_table(path: Path) -> None:
    Image.fromarray(np.zeros((2, 3, 3), dtype=np.uint8)).save(path)
    with pytest.raises(DataError, match=r"mask.png: a mask of colours.*classes.txt"):
        read_index_mask(path, PLAIN)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_unknown_class_is_named(path: Path, dtype: type[np.integer]) -> None:
    Image.fromarray(np.array([[0, 3, 3], [254, 255, 1]], dtype=dtype)).save(path)
    with pytest.raises(DataError) as caught:
        read_index_mask(path, PLAIN)
    assert "mask.png: the value 3 on 2 pixels, first at x=1, y=0" in str(caught.value)
    assert "the value 254 on 1 pixels, first at x=0, y=1, but there are 3" in str(caught.value)
    assert "classes.txt, or repaint these pixels as 255" in str(caught.value)


def test_of_many_unknown_values_five_are_listed(path: Path) -> None:
    Image.fromarray(np.arange(20, dtype=np.uint8)[None]).save(path)
    with pytest.raises(DataError, match=r"the value 7 .* and 12 more values"):
        read_index_mask(path, PLAIN)


def test_16_bit_values_do_not_wrap_round(path: Path) -> None:
    Image.fromarray(np.array([[256, 65535]], dtype=np.uint16)).save(path)
    with pytest.raises(DataError, match=r"the value 256 on 1 pixels"):
        read_index_mask(path, PLAIN)


@pytest.mark.parametrize("format_", ["JPEG", "BMP"])
def test_only_png_is_a_mask(path: Path, format_: str) -> None:
    Image.fromarray(VALUES).save(path, format=format_)
    with pytest.raises(DataError, match=rf"mask.png: a mask must be PNG, but this is {format_}"):
        read_index_mask(path, PLAIN)


def test_a_truncated_mask_is_named(path: Path) -> None:
    write_index_mask(path, np.random.default_rng(0).integers(0, 3, (50, 50), np.uint8), CLASSES)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"mask.png: cannot be read"):
        read_index_mask(path, CLASSES)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    hnp.arrays(
        np.uint8,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.sampled_from([0, 1, 2, 255]),
    )
)
def test_what_is_written_is_read_again(tmp_path: Path, mask: np.ndarray) -> None:
    path = tmp_path / "a" / "mask.png"
    write_index_mask(path, mask, CLASSES)
    assert np.array_equal(read_index_mask(path, CLASSES), mask)
    with Image.open(path) as image:  # in colours too
        colors = np.asarray(image.convert("RGB"))
    Image.fromarray(colors).save(path)
    assert np.array_equal(read_index_mask(path, CLASSES), mask)


def test_all_255_classes_and_unlabelled_can_be_written(path: Path) -> None:
    classes = Classes(tuple(f"c{i}" for i in range(255)), voc_colors(255))
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_index_mask(path, mask, classes)
    assert np.array_equal(read_index_mask(path, classes), mask)
    palette = read_palette(path)
    assert palette is not None
    assert tuple(palette[-3:]) == VOID_COLOR


def test_a_mask_without_palette_has_none(path: Path) -> None:
    Image.fromarray(VALUES).save(path)
    assert read_palette(path) is None


def test_unwritable_masks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.png"):
        write_index_mask(tmp_path / "mask.jpg", VALUES, CLASSES)
    with pytest.raises(InputError, match="value 3, but there are 3 classes"):
        write_index_mask(tmp_path / "mask.png", VALUES + np.uint8(1), CLASSES)
    with pytest.raises(InputError, match="at least one pixel"):
        write_index_mask(tmp_path / "mask.png", VALUES[:0], CLASSES)
    assert not list(tmp_path.iterdir())


def test_real_masks_are_read(shared: Path) -> None:
    voc = Classes(tuple(f"c{i}" for i in range(21)), voc_colors(21))
    file = shared / "data" / "voc_mini" / "SegmentationClass" / "2007_000042.png"
    assert set(np.unique(read_index_mask(file, voc)).tolist()) == {0, 19, 255}


def test_transparent_pixels_of_a_drawing_are_unlabelled(tmp_path: Path) -> None:
    """Strokes on a transparent layer, as drawing programs export them: black below is no class."""
    classes = Classes(("ink", "leaf"), ((0, 0, 0), (0, 200, 0)))
    pixels = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [0, 200, 0, 255], [0, 200, 0, 0]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "strokes.png")
    assert read_index_mask(tmp_path / "strokes.png", classes).tolist() == [[255, 0, 1, 255]]
