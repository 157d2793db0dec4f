"""The layout of the web tool LabelMe."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agmm.datasets.labelme_web import read_labelme_web
from agmm.datasets.reader import read_dataset
from agmm.errors import DataError
from agmm.labels.annotations import Blocks, Boxes

Draw = Callable[..., Path]


def obj(name: str, *corners: tuple[object, object], more: str = "") -> str:
    points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in corners)
    return f"<object><name>{name}</name>{more}<id>0</id><polygon>{points}</polygon></object>"


def masked(name: str, file: str) -> str:
    return f"<object><name>{name}</name><segm><mask>{file}</mask></segm></object>"


SQUARE = ((0, 0), (4, 0), (4, 4), (0, 4))
BOX = "<type>bounding_box</type>"


def write(root: Path, body: str, name: str = "a.png", folder: str = "street") -> Path:
    path = root / "Annotations" / f"{Path(folder).name or 'x'}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    where = f"<filename>{name}</filename><folder>{folder}</folder>"
    path.write_text(f"<annotation>{where}{body}</annotation>", encoding="utf-8")
    return path


@pytest.fixture
def web(tmp_path: Path, draw: Draw) -> Path:
    draw("Images/street/a.png", size=(6, 10))
    draw("Masks/street/m.png", np.array([[0] * 9 + [255]] * 6))
    body = obj("cat", *SQUARE) + obj("dog", (2, 1), (9, 1), (9, 3), (2, 3)) + masked("cat", "m.png")
    deleted = obj("cow", *SQUARE, more="<deleted>1</deleted>")
    box = obj("dog", (7, 5), (2, 1), more=BOX)
    write(tmp_path, body + deleted + box)
    return tmp_path


def test_polygons_masks_and_boxes_are_read(web: Path) -> None:
    dataset = pickle.loads(pickle.dumps(read_dataset(web)))
    assert dataset.classes.names == ("cat", "dog")  # the deleted cow is none
    [a] = dataset.split("train")
    assert (a.name, a.image) == ("street/a", web / "Images/street/a.png")
    blocks, boxes = a.labels["blocks"](), a.labels["boxes"]()
    assert isinstance(blocks, Blocks)
    assert (blocks.mask == 0).sum() == 16 - 4 + 6
    assert (blocks.mask == 1).sum() == 14
    assert blocks.mask[:, 9].tolist() == [0] * 6
    assert isinstance(boxes, Boxes)
    assert (boxes.xyxy.tolist(), boxes.classes.tolist()) == ([[2, 1, 7, 5]], [1])


def test_the_sample(shared: Path) -> None:
    """img1 of 102x77: 4 polygons, 1 box, 2 masks."""
    dataset = read_dataset(shared / "data/formats/labelme_dataset")
    assert dataset.classes.names == ("b1", "hg", "license plate", "m1", "o1", "q1", "window")
    [img1] = dataset.split("train")
    assert (img1.name, set(img1.labels)) == ("subset1/img1", {"blocks", "boxes"})
    boxes = img1.labels["boxes"]()
    assert isinstance(boxes, Boxes)
    assert (boxes.xyxy.tolist(), boxes.classes.tolist()) == ([[13, 19, 23, 30]], [0])
    blocks = img1.labels["blocks"]()
    assert isinstance(blocks, Blocks)
    assert blocks.mask.shape == (77, 102)
    assert (blocks.mask == 6).sum() == 2 * 3  # the window (43, 34) to (45, 37)
    assert set(np.unique(blocks.mask).tolist()) == {1, 2, 3, 4, 5, 6, 255}


def test_a_folder_named_as_a_split_is_one(web: Path, draw: Draw) -> None:
    draw("Images/val/b.png", size=(6, 10))
    write(web, obj("cat", *SQUARE), "b.png", "val")
    assert [record.name for record in read_labelme_web(web).split("val")] == ["val/b"]


@pytest.mark.parametrize(
    ("body", "name", "folder", "message"),
    [
        ("", "../a.png", "street", "leads out of the data folder"),
        ("", "a.png", "../street", "leads out of the data folder"),
        ("", "/a.png", "street", "leads out of the data folder"),
        ("", "", "street", "leads out of the data folder"),
        (obj("", *SQUARE), "a.png", "street", "object 1: has no name"),
        ("<object><name>cat</name></object>", "a.png", "street", "neither a polygon nor a mask"),
        (obj("cat", *SQUARE), "b.png", "street", "none of the 1 pictures is there"),
        ("<object>", "a.png", "street", "cannot be read as XML"),
    ],
)
def test_a_bad_file_is_one_clear_error(
    web: Path, body: str, name: str, folder: str, message: str
) -> None:
    (web / "Annotations/street.xml").unlink()
    write(web, body, name, folder)
    with pytest.raises(DataError, match=message):
        read_labelme_web(web)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (obj("cat", (1, 1), (2, 2)), "at least three points|cannot be read"),
        (obj("cat", (1, "x"), (2, 2), (3, 3)), "cannot be read"),
        (obj("cat", (1, "nan"), (2, 2), (3, 3)), "no number of pixels"),
        (obj("cat", (1, "1e300"), (2, 2), (3, 3)), "no number of pixels"),
        (obj("cat", more=BOX), "cannot be read"),
        (obj("cat"), "at least three points|cannot be read"),
        (masked("cat", "../../a.png"), "leads out of the data folder"),
        (masked("cat", "/etc/passwd"), "leads out of the data folder"),
        (masked("cat", ""), "leads out of the data folder"),
        (masked("cat", "n.png"), "there is no file Masks/street/n.png"),
        (masked("cat", "small.png"), "has 4x3 pixels"),
        (masked("cat", "broken.png"), "cannot be read as a picture"),
    ],
)
def test_a_bad_object_is_told_when_it_is_read(
    web: Path, draw: Draw, body: str, message: str
) -> None:
    draw("Masks/street/small.png")
    (web / "Masks/street/broken.png").write_bytes(b"\x89PNG")
    write(web, body)
    [read] = read_labelme_web(web).split("train")[0].labels.values()
    with pytest.raises(DataError, match=message):
        read()


def test_entities_are_refused(web: Path) -> None:
    text = '<!DOCTYPE l [<!ENTITY a "x">]><annotation><filename>&a;</filename></annotation>'
    (web / "Annotations/street.xml").write_text(text)
    with pytest.raises(DataError, match="entities"):
        read_labelme_web(web)
