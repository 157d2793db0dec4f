"""Names and colours from ``classes.txt``."""

from pathlib import Path

import numpy as np
import pytest

from agmm.datasets.classes import VOID_COLOR, Classes, read_classes, voc_colors
from agmm.errors import DataError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "classes.txt"


@pytest.mark.parametrize(
    "content",
    [b"sky\ntraffic light\n", b"sky\r\n traffic light \r\n\r\n", b"\xef\xbb\xbfsky\ntraffic light"],
)
def test_names_are_read_whatever_the_line_ends(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    classes = read_classes(file)
    assert classes.names == ("sky", "traffic light")
    assert classes.colors == ((0, 0, 0), (128, 0, 0))
    assert not classes.colors_given


def test_colours_are_read_in_both_notations(file: Path) -> None:
    file.write_text("Straße #0A0b0C\ntraffic light 1 2\t3\n", encoding="utf-8")
    classes = read_classes(file)
    assert classes.names == ("Straße", "traffic light")
    assert classes.colors == ((10, 11, 12), (1, 2, 3))
    assert classes.colors_given


def test_255_classes_are_possible_and_256_are_not(file: Path) -> None:
    file.write_text("\n".join(f"c{i}" for i in range(255)))
    assert len(read_classes(file)) == 255
    file.write_text("\n".join(f"c{i}" for i in range(256)))
    with pytest.raises(DataError, match=r"classes.txt, line 256: there are 256 .*at most 255"):
        read_classes(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty. Write the name"),
        (b" \n\n", "is empty. Write the name"),
        (b"sky\n\nroad\n", "line 2: is empty"),
        (b"sky\nroad\nSky\n", "line 3: sky is taken already"),
        (b"sky\nstra\xdfe\n", "line 2: is not UTF-8 .byte 0xdf"),
        (b"sky 0 0 256\n", "line 1: the colour 0 0 256"),
        (b"sky #000000\nroad\n", "line 2: 'road' has no colour, unlike line 1"),
        (b"sky\nroad 1 2 3\n", "line 2: 'road' has a colour, unlike line 1"),
        (b"sky 1 2 3\nroad #010203\n", r"line 2: \(1, 2, 3\) is taken already"),
        (b"sky 224 224 192\n", "line 1: .*255 = unlabelled has it"),
    ],
)
def test_a_bad_file_is_named_with_its_line(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"classes.txt.*{message}"):
        read_classes(file)


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(DataError, match=r"classes.txt: there is no such file. Write one"):
        read_classes(file)


@pytest.mark.parametrize(
    ("names", "colors", "message"),
    [
        ((), (), "there are 0"),
        (("a",) * 256, ((0, 0, 0),) * 256, "there are 256"),
        (("a",), (), "1 names, but 0 colours"),
        (("a", "A"), voc_colors(2), "name a is there twice"),
        (("a",), ((0, 0, 256),), "channels are"),
        (("a", "b"), ((1, 1, 1), (1, 1, 1)), "there twice"),
        (("a",), (VOID_COLOR,), "255 = unlabelled"),
    ],
)
def test_impossible_classes_are_refused(
    names: tuple[str, ...], colors: tuple[tuple[int, int, int], ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Classes(names, colors)


def test_the_background_is_found_by_its_name() -> None:
    assert Classes(("cat", "Background"), voc_colors(2)).background == 1
    assert Classes(("cat", "back"), voc_colors(2)).background is None


def test_a_palette_colours_classes_that_have_no_colours() -> None:
    plain = Classes(("a", "b"), voc_colors(2), colors_given=False)
    assert plain.with_palette([1, 2, 3, 4, 5, 6, 7, 8, 9]).colors == ((1, 2, 3), (4, 5, 6))
    assert plain.with_palette([1, 2, 3]) == plain  # too short
    assert plain.with_palette([0, 0, 0, 0, 0, 0]) == plain  # all the same
    assert plain.with_palette([*VOID_COLOR, 0, 0, 0]) == plain  # that of unlabelled
    own = Classes(("a", "b"), voc_colors(2))
    assert own.with_palette([1, 2, 3, 4, 5, 6]) == own


def test_voc_colours_are_those_of_its_development_kit() -> None:
    colors = voc_colors(256)
    assert colors[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert colors[20] == (0, 64, 128)
    assert colors[255] == VOID_COLOR
    assert len(set(colors)) == 256


def test_the_real_background_of_voc(shared: Path) -> None:
    classes = read_classes(shared / "data" / "voc_mini" / "classes.txt")
    assert classes.background == 0
    assert np.array(classes.colors).shape == (21, 3)
