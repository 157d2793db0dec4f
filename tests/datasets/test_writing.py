"""What is written in the folder layout is read back as it was."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from agmm.datasets.classes import Classes, read_classes, voc_colors
from agmm.datasets.reader import read_dataset
from agmm.datasets.tables import read_boxes, read_tags
from agmm.datasets.writing import (
    write_boxes,
    write_classes,
    write_label,
    write_picture,
    write_tags,
)
from agmm.errors import DataError
from agmm.labels.annotations import Blocks, Boxes, DenseMask, Points, Scribbles, Tags
from agmm.shapes import MaskArray

LIGHTS = Classes(("light", "traffic", "traffic light", 'a "big", sign'), voc_colors(4))


def tags(*labels: int) -> Tags:
    return Tags(np.array(labels, dtype=np.uint8))


def boxes(*rows: tuple[float, ...], labels: tuple[int, ...] = ()) -> Boxes:
    return Boxes(np.array(rows, dtype=np.float64).reshape(-1, 4), np.array(labels, dtype=np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("written")


@settings(max_examples=40)
@given(
    mask=hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
        elements=st.sampled_from([0, 1, 2, 3, 255]),
    )
)
def test_index_pngs(folder: Path, mask: MaskArray) -> None:
    size: tuple[int, int] = mask.shape
    picture = folder / "picture.png"
    Image.new("RGB", size[::-1]).save(picture)
    write_picture(folder, "train/a/b.1", picture)
    labels = (Points.from_mask(mask), Scribbles(mask), Blocks(mask), DenseMask(mask))
    for label in labels:
        write_label(folder, "train/a/b.1", label, size, LIGHTS)
    write_classes(folder / "classes.txt", LIGHTS)

    dataset = read_dataset(folder)
    (record,) = dataset.split("train")
    assert record.name == "a/b.1"
    assert dataset.unmatched == ()
    for label in labels:
        read = record.labels[label.form]()
        assert type(read) is type(label)
        for name, value in vars(label).items():
            np.testing.assert_array_equal(getattr(read, name), value)
    with Image.open(folder / "blocks/train/a/b.1.png") as image:
        assert image.getpalette()[3:6] == [128, 0, 0]  # type: ignore[index]


NAMES = st.sampled_from(["train/a.jpg", "train/b.png.jpg", "val/c.d", 'val/e, "f" .png'])
KEYS = {"train/a.jpg": "train/a", "train/b.png.jpg": "train/b.png", "val/c.d": "val/c.d"}
KEYS['val/e, "f" .png'] = 'val/e, "f" '
SIDES = st.floats(-1e6, 1e6) | st.integers(0, 500).map(float)
BOXES = st.lists(st.tuples(SIDES, SIDES, SIDES, SIDES, st.integers(0, 3)), max_size=4)


@settings(max_examples=60)
@given(table=st.dictionaries(NAMES, BOXES))
def test_boxes(
    folder: Path, table: dict[str, list[tuple[float, float, float, float, int]]]
) -> None:
    given_boxes = {
        name: boxes(*[row[:4] for row in rows], labels=tuple(row[4] for row in rows))
        for name, rows in table.items()
    }
    write_boxes(folder / "boxes.csv", given_boxes, LIGHTS)

    read = read_boxes(folder / "boxes.csv", LIGHTS)
    assert list(read) == [KEYS[name] for name in given_boxes]
    for name, expected in given_boxes.items():
        np.testing.assert_array_equal(read[KEYS[name]].xyxy, expected.xyxy)
        np.testing.assert_array_equal(read[KEYS[name]].classes, expected.classes)


@settings(max_examples=60)
@given(table=st.dictionaries(NAMES, st.lists(st.integers(0, 3), unique=True)))
def test_tags(folder: Path, table: dict[str, list[int]]) -> None:
    write_tags(folder / "tags.csv", {name: tags(*found) for name, found in table.items()}, LIGHTS)

    read = read_tags(folder / "tags.csv", LIGHTS)
    assert {key: sorted(found.classes.tolist()) for key, found in read.items()} == {
        KEYS[name]: sorted(found) for name, found in table.items()
    }


def test_tags_that_would_be_read_as_another_class_change_places(tmp_path: Path) -> None:
    write_tags(tmp_path / "tags.csv", {"a": tags(1, 0)}, LIGHTS)
    assert (tmp_path / "tags.csv").read_text() == "image,tags\na,light traffic\n"


def test_tags_that_cannot_be_told_from_others_are_refused(tmp_path: Path) -> None:
    classes = Classes(("a", "b", "a b", "b a"), voc_colors(4))
    with pytest.raises(DataError, match="p: its tags 'b a' would be read as others"):
        write_tags(tmp_path / "tags.csv", {"p": tags(0, 1)}, classes)
    assert list(tmp_path.iterdir()) == []


def test_classes_keep_names_and_colours(tmp_path: Path) -> None:
    names = ("road #ff0000", "way 1 2 3", "größer", "traffic light")
    classes = Classes(names, voc_colors(4), colors_given=False)
    write_classes(tmp_path / "classes.txt", classes)
    read = read_classes(tmp_path / "classes.txt")
    assert (read.names, read.colors) == (names, classes.colors)


@pytest.mark.parametrize("name", [" a", "a\t", "a\nb", "a\r", "a\x0bb"])
def test_a_name_that_does_not_fit_on_a_line_is_refused(tmp_path: Path, name: str) -> None:
    classes = Classes((name, "b"), voc_colors(2))
    with pytest.raises(DataError, match=r"classes\.txt: the class .* cannot be written"):
        write_classes(tmp_path / "classes.txt", classes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", [False, True])
def test_pictures_are_copied_or_linked(tmp_path: Path, link: bool) -> None:
    source = tmp_path / "source.JPG"
    source.write_bytes(b"any bytes")
    (tmp_path / "name.JPG").symlink_to(source)
    write_picture(tmp_path, "train/a", tmp_path / "name.JPG", link=link)
    target = tmp_path / "images/train/a.JPG"
    assert target.read_bytes() == b"any bytes"
    assert not target.is_symlink()
    assert target.samefile(source) == link
    assert [path.name for path in target.parent.iterdir()] == ["a.JPG"]


def test_where_links_are_impossible_the_picture_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_device(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_device)
    source = tmp_path / "source.jpg"
    source.write_bytes(b"any bytes")
    write_picture(tmp_path, "a", source, link=True)
    assert (tmp_path / "images/a.jpg").read_bytes() == b"any bytes"
    assert not (tmp_path / "images/a.jpg").samefile(source)
