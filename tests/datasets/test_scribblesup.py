"""The strokes of ScribbleSup."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agmm.datasets.reader import read_dataset
from agmm.datasets.scribblesup import read_scribblesup
from agmm.datasets.voc import VOC_CLASSES
from agmm.errors import DataError
from agmm.labels.annotations import Scribbles

Draw = Callable[..., Path]


def stroke(tag: str, *points: tuple[object, object]) -> str:
    body = "".join(f"<point><X>{x}</X><Y>{y}</Y></point>" for x, y in points)
    return f"<polygon><tag>{tag}</tag>{body}</polygon>"


SIZE = "<size><width>10</width><height>6</height><depth>3</depth></size>"


def write(root: Path, body: str, name: str = "a", before: str = "") -> Path:
    path = root / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"{before}<annotation><filename>{name}.jpg</filename>{SIZE}{body}</annotation>"
    path.write_text(text, encoding="utf-8")
    return path


def mask_of(root: Path) -> np.ndarray:
    label = read_dataset(root).split("train")[0].labels["scribbles"]()
    assert isinstance(label, Scribbles)
    return label.mask


@pytest.fixture
def strokes(tmp_path: Path, draw: Draw) -> Path:
    draw("a.jpg", size=(6, 10))
    write(tmp_path, stroke("plane", (2, 1), (5, 1)) + stroke("background", (8, 5), (20, 5)))
    return tmp_path


def test_strokes_are_three_pixels_wide_and_cut_off(strokes: Path) -> None:
    dataset = pickle.loads(pickle.dumps(read_dataset(strokes)))
    assert dataset.classes.names == VOC_CLASSES
    mask = mask_of(strokes)
    # Rows 0..2 and columns 1..6; rows 4..5 and columns 7..9.
    expected = np.full((6, 10), 255)
    expected[0:3, 1:7] = 1
    expected[4:6, 7:10] = 0
    assert (mask == expected).all()


def test_the_sample_beside_voc(shared: Path, tmp_path: Path) -> None:
    """Lines from (20, 8) to (380, 8) and from (147, 127) to (260, 127), 400x274 pixels."""
    sample = shared / "data/formats/scribblesup"
    with pytest.raises(DataError, match="no picture for any of its 1 files"):
        read_dataset(sample)
    image = next((shared / "data/voc_mini").rglob("2007_001288.jpg"))
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    shutil.copy(image, tmp_path / "JPEGImages")
    shutil.copytree(sample, tmp_path / "scribblesup")
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("2007_001288\n")
    mask = mask_of(tmp_path)
    assert mask.shape == (274, 400)
    expected = np.full_like(mask, 255)
    expected[126:129, 146:262] = 1
    assert (np.where(mask == 1, 1, 255) == expected).all()
    # 3 pixels high from column 19 to 381, rising by 2 in the middle.
    background = mask == 0
    assert np.flatnonzero(background.any(axis=0))[[0, -1]].tolist() == [19, 381]
    assert np.flatnonzero(background.any(axis=1))[[0, -1]].tolist() == [7, 11]
    assert set(background[:, 25:375].sum(axis=0).tolist()) <= {2, 3, 4}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (stroke("cow shed", (1, 1)), "'cow shed' is no class"),
        (stroke("", (1, 1)), "'' is no class"),
        (stroke("cat"), "needs at least one point"),
        (stroke("cat", (1, "x")), "could not convert"),
        (stroke("cat", (1, "")), "could not convert"),
        (stroke("cat", (1, "nan")), "no number of pixels"),
        (stroke("cat", (1, "1e300")), "no number of pixels"),
        ("<polygon>", "cannot be read as XML"),
    ],
)
def test_a_bad_stroke_is_told_when_it_is_read(strokes: Path, body: str, message: str) -> None:
    path = write(strokes, stroke("cat", (1, 1)) + body)
    with pytest.raises(DataError, match=message) as caught:
        mask_of(strokes)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><filename>../a.jpg</filename></annotation>", "leads out"),
        ("<annotation><size><width>9</width><height>6</height></size></annotation>", "says 9x6"),
        ("<annotations/>", "must be an <annotation>"),
        ('<!DOCTYPE l [<!ENTITY a "x">]><annotation>&a;</annotation>', "entities"),
        ("<?xml version='1.0' encoding='what'?><annotation/>", "cannot be read as XML"),
        ("", "cannot be read as XML"),
    ],
)
def test_a_bad_file_is_one_clear_error(strokes: Path, text: str, message: str) -> None:
    (strokes / "a.xml").write_text(text)
    read = read_scribblesup(strokes).split("train")[0].labels["scribbles"]
    with pytest.raises(DataError, match=message):
        read()


BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>"
OBJECT = f"<object><name>cat</name>{BOX}</object>"


def test_boxes_of_voc_are_no_strokes(strokes: Path) -> None:
    """They would be read as an empty label."""
    write(strokes, stroke("cat", (1, 1)), "b")  # so that the layout is known
    path = write(strokes, OBJECT)
    with pytest.raises(DataError) as caught:
        mask_of(strokes)
    assert str(caught.value) == (
        f"{path}: must have strokes of ScribbleSup, each a <polygon>, but has <object> only, as"
        " boxes of PASCAL VOC have. Export the strokes, or move the file into Annotations/ beside"
        " JPEGImages/."
    )


@pytest.mark.parametrize(("body", "labelled"), [("", 0), (stroke("cat", (1, 1)) + OBJECT, 9)])
def test_no_stroke_at_all_is_an_empty_label(strokes: Path, body: str, labelled: int) -> None:
    """And beside strokes, objects are not looked at."""
    write(strokes, stroke("cat", (1, 1)), "b")
    write(strokes, body)
    assert (mask_of(strokes) != 255).sum() == labelled


@pytest.mark.parametrize("second", ["JPEGImages/a.jpg", "images/a.png", "a.png"])
def test_one_picture_in_two_places_is_refused(strokes: Path, draw: Draw, second: str) -> None:
    draw(second, size=(6, 10))
    with pytest.raises(DataError, match=rf"/a\.jpg and .*{second}: two files of one name"):
        read_dataset(strokes)


def names(root: Path) -> dict[str, list[tuple[str, Path]]]:
    splits = read_dataset(root).splits
    return {s: [(r.name, r.image.relative_to(root)) for r in rs] for s, rs in splits.items()}


@pytest.mark.parametrize("alone", [False, True])
def test_files_in_folders_are_read(strokes: Path, draw: Draw, alone: bool) -> None:
    for place in ("part/b.jpg", "images/Val/c.jpg", "JPEGImages/d.jpg", "JPEGImages/sub/e.jpg"):
        draw(place, size=(6, 10))
    for n, path in enumerate(("part/b", "Val/c", "xml/d", "JPEGImages/sub/e"), start=1):
        write(strokes, stroke("cat", (n, 1)), path)
    missing = write(strokes, stroke("cat", (1, 1)), "part/f")
    expected = [
        ("a", Path("a.jpg")),
        ("d", Path("JPEGImages/d.jpg")),
        ("part/b", Path("part/b.jpg")),
        ("sub/e", Path("JPEGImages/sub/e.jpg")),
    ]
    if alone:
        (strokes / "a.xml").unlink()
    assert names(strokes) == {
        "train": expected[alone:],
        "val": [("Val/c", Path("images/Val/c.jpg"))],
    }
    dataset = read_dataset(strokes)
    assert dataset.format == "scribblesup"
    [c] = dataset.split("val")
    label = c.labels["scribbles"]()
    assert isinstance(label, Scribbles)
    assert np.argwhere(label.mask == 8).min(axis=0).tolist() == [0, 1]
    [unmatched] = dataset.unmatched
    assert (unmatched.name, unmatched.file) == ("part/f", missing)


def test_two_files_of_one_picture_are_refused(strokes: Path) -> None:
    file = write(strokes, stroke("cat", (1, 1)), "old/a")
    message = rf"{strokes / 'a.xml'} and {file}: two files with the strokes of one picture, 'a'"
    with pytest.raises(DataError, match=message):
        read_dataset(strokes)
    file.parent.rename(strokes / "scribblesup")  # which lies beside
    with pytest.raises(DataError, match="two labels of one form for 'a'"):
        read_dataset(strokes)


def test_a_folder_scribblesup_alone_is_no_layout(strokes: Path) -> None:
    (strokes / "scribblesup").mkdir()
    (strokes / "a.xml").rename(strokes / "scribblesup/a.xml")
    with pytest.raises(DataError, match="has no layout that is known"):
        read_dataset(strokes)


def test_strokes_without_a_picture_are_unmatched(strokes: Path) -> None:
    write(strokes, stroke("cat", (1, 1)), "b")
    [unmatched] = read_dataset(strokes).unmatched
    assert (unmatched.name, unmatched.form) == ("b", "scribbles")
