"""The layout of PASCAL VOC."""

import logging
import pickle
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Dataset, Record, Unmatched
from agmm.datasets.voc import VOC_CLASSES
from agmm.errors import DataError
from agmm.labels.annotations import Blocks, Boxes, DenseMask, Points, Scribbles, Tags

Draw = Callable[..., Path]
LAUGHS = (
    '<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;">]>',
    "<folder>&lol2;</folder>",
)
EXTERNAL = (
    '<!DOCTYPE a [<!ENTITY secret SYSTEM "file:///etc/hostname">]>',
    "<folder>&secret;</folder>",
)


def names(dataset: Dataset) -> dict[str, list[str]]:
    return {split: [r.name for r in records] for split, records in dataset.splits.items()}


def boxes_of(dataset: Dataset, split: str = "train", index: int = 0) -> Boxes:
    boxes = dataset.splits[split][index].labels["boxes"]()
    assert isinstance(boxes, Boxes)
    return boxes


def tags_of(record: Record) -> list[int]:
    tags = record.labels["tags"]()
    assert isinstance(tags, Tags)
    return [int(label) for label in tags.classes]


@pytest.fixture
def voc(tmp_path: Path, draw: Draw) -> Path:
    """A data set in the layout of VOC: two pictures of 4x3 to train on and one to validate with."""
    for name in ("a", "b", "c"):
        draw(f"JPEGImages/{name}.jpg")
        draw(f"SegmentationClass/{name}.png", [[0, 8, 8, 255]] * 3)
        write_xml(tmp_path, name, [("cat", 2, 1, 3, 3)])
    write_lists(tmp_path, train="a\nb\n", val="c\n")
    return tmp_path


def write_lists(root: Path, folder: str = "Segmentation", **lists: str) -> None:
    """Write lists of names, one per split."""
    (root / "ImageSets" / folder).mkdir(parents=True, exist_ok=True)
    for split, names in lists.items():
        (root / "ImageSets" / folder / f"{split}.txt").write_text(names, encoding="utf-8")


def write_xml(
    root: Path, name: str, objects: list[tuple[object, ...]], before: str = "", after: str = ""
) -> Path:
    """Write the boxes (class, xmin, ymin, xmax, ymax) of a picture as VOC has them on the disk."""
    tags = ("xmin", "ymin", "xmax", "ymax")
    found = "".join(
        f"<object><name>{label}</name><bndbox>"
        + "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, corners, strict=True))
        + "</bndbox></object>"
        for label, *corners in objects
    )
    path = root / "Annotations" / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}<annotation>{after}{found}</annotation>", encoding="utf-8")
    return path


def test_pictures_in_no_list_are_unused(voc: Path, draw: Draw) -> None:
    """Also where they have labels; those of a list that another one takes the place of are not."""
    write_lists(voc, trainval="a\nb\nc\n", odd="d\n")
    for name in "dgef":
        draw(f"JPEGImages/{name}.jpg")
    dataset = read_dataset(voc)
    assert names(dataset) == {"train": ["a", "b"], "val": ["c"], "odd": ["d"]}
    assert [file.name for file in dataset.unused] == ["e.jpg", "f.jpg", "g.jpg"]
    assert dataset.unused_as == "in no list"
    draw("SegmentationClassAug/e.png", [[0, 8, 8, 255]] * 3)
    draw("SegmentationClass/f.png", [[0, 8, 8, 255]] * 3)
    write_lists(voc, train_aug="a\nb\ne\n")
    dataset = read_dataset(voc)
    assert [file.name for file in dataset.unused] == ["f.jpg", "g.jpg"]
    assert dataset.unmatched == ()


def test_of_the_sample_every_picture_is_used(shared: Path) -> None:
    assert read_dataset(shared / "data/voc_mini").unused == ()


@pytest.mark.parametrize("format_", ["auto", "voc"])
def test_the_layout_is_read(voc: Path, format_: str) -> None:
    dataset = pickle.loads(pickle.dumps(read_dataset(voc, format=format_)))
    assert names(dataset) == {"train": ["a", "b"], "val": ["c"]}
    assert dataset.classes.names == VOC_CLASSES
    assert dataset.classes.colors[8] == (64, 0, 0)
    assert dataset.unmatched == ()
    record = dataset.splits["train"][0]
    assert record.image == voc / "JPEGImages" / "a.jpg"
    assert set(record.labels) == {"dense", "boxes", "tags"}
    assert record.labels["dense"]().mask.tolist() == [[0, 8, 8, 255]] * 3
    assert tags_of(record) == [8]
    # 1-based and inclusive: columns 2..3 and rows 1..3 of 4x3 pixels, as the mask shows them.
    assert boxes_of(dataset).xyxy.tolist() == [[1, 0, 3, 3]]
    assert boxes_of(dataset).classes.tolist() == [8]


def test_what_lies_beside_is_read(voc: Path, draw: Draw) -> None:
    for form in ("scribbles", "blocks", "points"):
        draw(f"{form}/a.png", [[255, 8, 255, 255]] * 3)
    (voc / "clicks.json").write_text('{"b": [{"x": 1.5, "y": 2, "cls": 0}], "z": []}')
    (voc / "tags.csv").write_text("image,tags\na,cat dog\nz.jpg,cat\n")
    draw("SegmentationClass/y.png", [[0] * 4] * 3)
    a, b = read_dataset(voc).splits["train"]
    assert {form: type(read()) for form, read in a.labels.items()} == {
        "points": Points,
        "scribbles": Scribbles,
        "blocks": Blocks,
        "boxes": Boxes,
        "tags": Tags,
        "dense": DenseMask,
    }
    assert tags_of(a) == [8, 12]
    assert set(b.labels) == {"points", "boxes", "dense"}  # tags.csv does not name it
    assert read_dataset(voc).unmatched == (
        Unmatched("z", voc / "clicks.json", "points", None),
        Unmatched("z", voc / "tags.csv", "tags", None),
        Unmatched("y", voc / "SegmentationClass/y.png", "dense", None),
    )


def test_strokes_in_the_folder_itself_are_read(voc: Path) -> None:
    """As they are without lists and masks of VOC beside; in silence they would be lost."""
    line = "<polygon><tag>cat</tag><point><X>0</X><Y>0</Y></point></polygon>"
    for name, body in (("a", line), ("b", ""), ("z", line)):
        (voc / f"{name}.xml").write_text(f"<annotation>{body}</annotation>")
    dataset = pickle.loads(pickle.dumps(read_dataset(voc)))
    a, b = (record.labels["scribbles"]() for record in dataset.split("train"))
    assert isinstance(a, Scribbles)
    assert isinstance(b, Scribbles)
    assert a.mask.tolist() == [[8, 8, 255, 255], [8, 8, 255, 255], [255] * 4]
    assert (b.mask == 255).all()
    assert dataset.unmatched == (Unmatched("z", voc / "z.xml", "scribbles", None),)
    assert boxes_of(dataset).classes.tolist() == [8]
    (voc / "scribblesup").mkdir()
    (voc / "scribblesup/b.xml").write_text("<annotation/>")
    with pytest.raises(DataError, match=r"sup/b\.xml and .*/b\.xml: two labels of one form"):
        read_dataset(voc)


def test_other_xml_in_the_folder_itself_is_no_label(voc: Path) -> None:
    (voc / "a.xml").write_text("<note/>")
    dataset = read_dataset(voc)
    assert "scribbles" not in dataset.split("train")[0].labels
    assert dataset.unmatched == ()


def test_labels_beside_may_say_their_split(voc: Path, draw: Draw) -> None:
    draw("scribbles/train/a.png", [[255, 8, 255, 255]] * 3)
    (voc / "tags.csv").write_text("image,tags\ntrain/a.jpg,dog\ntrain/c.jpg,cat\nval/z,cat\n")
    dataset = read_dataset(voc)
    a = dataset.splits["train"][0]
    assert {"scribbles", "tags"} < set(a.labels)
    assert tags_of(a) == [12]
    assert dataset.unmatched == (
        Unmatched("c", voc / "tags.csv", "tags", "train"),  # it is in val
        Unmatched("z", voc / "tags.csv", "tags", "val"),
    )
    (voc / "scribbles/train").rename(voc / "scribbles/training")
    assert "scribbles" in read_dataset(voc).split("train")[0].labels
    draw("scribbles/a.png", [[255, 8, 255, 255]] * 3)
    with pytest.raises(DataError, match=r"a\.jpg: has two labels of the form scribbles"):
        read_dataset(voc)


def test_the_name_of_another_picture_says_no_split(voc: Path, draw: Draw) -> None:
    draw("JPEGImages/train/a.jpg")
    draw("SegmentationClass/train/a.png", [[1] * 4] * 3)
    write_lists(voc, train="a\ntrain/a\n")
    first, second = read_dataset(voc).splits["train"]
    assert np.unique(first.labels["dense"]().mask).tolist() == [0, 8, 255]  # type: ignore[union-attr]
    assert np.unique(second.labels["dense"]().mask).tolist() == [1]  # type: ignore[union-attr]


def test_boxes_are_kept_as_they_are(voc: Path) -> None:
    objects = [("cat", 3, 1, 1, 3), ("dog", -4, 0, 99, 1e6), ("cat", 2, 2, 1, 1)]
    write_xml(voc, "a", [*objects, ("person", 45.70000076293945, 1, 47, 2.5)])
    boxes = boxes_of(read_dataset(voc))
    assert boxes.xyxy[:3].tolist() == [[2, 0, 1, 3], [-5, -1, 99, 1e6], [1, 1, 1, 1]]
    np.testing.assert_allclose(boxes.xyxy[3], [44.7, 0, 47, 2.5], atol=1e-5)
    assert boxes.classes.tolist() == [8, 12, 8, 15]
    assert tags_of(read_dataset(voc).splits["train"][0]) == [8, 12, 15]


def test_a_file_without_objects_says_that_nothing_is_there(voc: Path) -> None:
    write_xml(voc, "a", [])
    (voc / "Annotations/b.xml").unlink()
    a, b = read_dataset(voc).splits["train"]
    assert boxes_of(read_dataset(voc)).xyxy.shape == (0, 4)
    assert tags_of(a) == []
    assert set(b.labels) == {"dense"}


def test_parts_and_difficult_objects(voc: Path) -> None:
    path = write_xml(voc, "a", [("person", 1, 1, 2, 2)])
    part = (
        "<difficult>1</difficult><part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>1</xmax><ymax>1</ymax></bndbox></part></object>"
    )
    path.write_text(path.read_text().replace("</object>", part))
    boxes = boxes_of(read_dataset(voc))
    assert boxes.xyxy.tolist() == [[0, 0, 2, 2]]
    assert boxes.classes.tolist() == [15]


def test_lists_are_splits(voc: Path) -> None:
    write_lists(voc, trainval="a\nb\nc\n", test="\ufeff# mine\nb \n\n", train_aug="b\na")
    write_lists(voc, hard_train="a")
    assert names(read_dataset(voc)) == {
        "train": ["a", "b"],
        "val": ["c"],
        "hard_train": ["a"],
        "test": ["b"],
        "train_aug": ["a", "b"],
    }


def test_a_name_that_starts_like_a_comment_is_a_name(voc: Path, draw: Draw) -> None:
    draw("JPEGImages/#1.jpg")
    write_lists(voc, train="# all\n#a\n#1\nb\n")
    assert names(read_dataset(voc))["train"] == ["#1", "b"]


def test_trainval_is_a_split_if_it_is_not_the_union(voc: Path, draw: Draw) -> None:
    draw("JPEGImages/d.jpg")
    write_lists(voc, trainval="a\nd\n")
    assert names(read_dataset(voc))["trainval"] == ["a", "d"]
    assert set(read_dataset(voc).splits["trainval"][1].labels) == set()
    for split in ("train", "val"):
        (voc / f"ImageSets/Segmentation/{split}.txt").unlink()
    assert names(read_dataset(voc)) == {"trainval": ["a", "d"]}


def test_without_lists_for_segmentation_those_of_main_count(voc: Path) -> None:
    (voc / "ImageSets/Segmentation").rename(voc / "ImageSets/Main")
    write_lists(voc, "Main", cat_train="a  1\nb -1\n", cat_val="c  1\n")
    assert names(read_dataset(voc)) == {"train": ["a", "b"], "val": ["c"]}
    for path in (voc / "ImageSets/Main").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"Segmentation: there are no lists of pictures. Write"):
        read_dataset(voc)


def test_there_may_be_no_boxes(voc: Path) -> None:
    for path in (voc / "Annotations").iterdir():
        path.unlink()
    (voc / "Annotations").rmdir()
    assert [*read_dataset(voc).splits["train"][0].labels] == ["dense"]


def test_names_may_have_folders_and_files_may_be_links(voc: Path, draw: Draw) -> None:
    draw("JPEGImages/bonn/a.jpg")
    outside = draw("elsewhere/b.jpg").rename(voc.parent / f"{voc.name}.jpg")
    (voc / "JPEGImages/b.jpg").unlink()
    (voc / "JPEGImages/b.jpg").symlink_to(outside)
    (voc / "Annotations/bonn").mkdir()
    (voc / "Annotations/bonn/a.xml").symlink_to(voc / "Annotations/a.xml")
    write_lists(voc, train="bonn/a\nb\n")
    b, a = read_dataset(voc).splits["train"]
    assert (b.name, a.name) == ("b", "bonn/a")
    assert set(a.labels) == {"boxes", "tags"}
    assert boxes_of(read_dataset(voc)).xyxy.tolist() == [[1, 0, 3, 3]]


def test_classes_are_those_of_the_data_set(voc: Path) -> None:
    (voc / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncow:1,2,3:head:walking\ncat:4,5,6::\n"
        "ignored:224,224,192::\n"
    )
    for name in "abc":
        colors = np.array([[[1, 2, 3], [4, 5, 6], [0, 0, 0], [224, 224, 192]]] * 3, np.uint8)
        Image.fromarray(colors).save(voc / f"SegmentationClass/{name}.png")
    dataset = read_dataset(voc)
    assert dataset.classes.names == ("background", "cow", "cat")
    mask = dataset.splits["train"][0].labels["dense"]()
    assert isinstance(mask, DenseMask)
    assert mask.mask.tolist() == [[1, 2, 0, 255]] * 3
    assert boxes_of(dataset).classes.tolist() == [2]
    (voc / "labelmap.txt").write_text("cat:::\nbackground:0,0,0::\n")
    assert not read_dataset(voc).classes.colors_given
    (voc / "classes.txt").write_text("dog\nbackground\nblack cat\ncat\n")
    assert read_dataset(voc).classes.names == ("dog", "background", "black cat", "cat")
    write_xml(voc, "a", [("black cat", 1, 1, 2, 2), ("cat", 1, 1, 2, 2)])
    assert boxes_of(read_dataset(voc)).classes.tolist() == [2, 3]


def test_the_palette_of_the_masks_colours_the_classes(voc: Path) -> None:
    (voc / "classes.txt").write_text("background\ncat\n")
    image = Image.fromarray(np.zeros((3, 4), np.uint8))
    image.putpalette([1, 2, 3, 4, 5, 6])
    image.save(voc / "SegmentationClass/a.png")
    assert read_dataset(voc).classes.colors == ((1, 2, 3), (4, 5, 6))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat:0,0,0\n", "wrong number of fields"),
        ("cat:0,0::\n", "has wrong color"),
        ("cat:0,0,x::\n", "cannot be read as a label map"),
        ("cat:0,0,0::\ncat:0,0,1::\n", "already defined"),
        ("cat:0,0,0::\ndog:0,0,0::\n", r"labelmap.txt: classes: the colour \(0, 0, 0\)"),
        ("cat:0,0,300::\n", r"channels are 0..255"),
        ("", r"labelmap.txt: classes: there are 0"),
        (b"\xff:0,0,0::\n", "cannot be read as a label map"),
    ],
)
def test_a_bad_label_map_is_told(voc: Path, content: str | bytes, message: str) -> None:
    path = voc / "labelmap.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as error:
        read_dataset(voc)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": ""}, r"train.txt: is empty. Write one name per line"),
        ({"test": "# all of them\n\n"}, r"test.txt: is empty"),
        ({"train": "a\nz\n"}, r"train.txt, line 2: there is no picture JPEGImages/z.jpg"),
        ({"train": "a.jpg\n"}, r"line 1: there is no picture JPEGImages/a.jpg.jpg. .*no suffix"),
        ({"train": "../a\n"}, r"line 1: there is no picture JPEGImages/\.\./a.jpg"),
        ({"train": "../JPEGImages/a\n"}, r"there is no picture"),
        ({"train": "/etc/hostname\n"}, r"there is no picture"),
        ({"train": "a 1\nb -1\n"}, r"line 1: there is no picture JPEGImages/a 1.jpg"),
        ({"train": "a\n\nb\na\n"}, r"train.txt, line 4: 'a' is in line 1 too"),
        ({"val": "b\nc\n"}, r"val.txt: 'b' is in train.txt too \(1 such pictures\)"),
    ],
)
def test_bad_lists_are_told(voc: Path, lists: dict[str, str], message: str) -> None:
    write_lists(voc, **lists)
    with pytest.raises(DataError, match=message):
        read_dataset(voc)


def test_a_list_in_another_encoding_is_told(voc: Path) -> None:
    (voc / "ImageSets/Segmentation/train.txt").write_bytes("a\nGröße\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"train.txt, line 2: is not UTF-8"):
        read_dataset(voc)


BOX = ("cat", 1, 1, 2, 2)


@pytest.mark.parametrize(
    ("objects", "around", "message"),
    [
        ([BOX], LAUGHS, "have entities, which are refused"),
        ([BOX], EXTERNAL, "have entities, which are refused"),
        ([BOX], ("", "<filename>../../secret.jpg</filename>"), "leads out of the folder"),
        ([BOX], ("", "<filename>..\\secret.jpg</filename>"), "leads out of the folder"),
        ([BOX], ("", "<size><width>4</width><height>x</height></size>"), "'size/height' value"),
        ([BOX], ('<?xml version="1.0" encoding="klingon"?>', ""), "cannot be read as XML"),
        ([BOX], ("<a/>", ""), "cannot be read as XML"),
        ([("unicorn", 1, 1, 2, 2)], ("", ""), "object 1: 'unicorn' is no class; the classes are"),
        ([BOX, ("", 1, 1, 2, 2)], ("", ""), "object 2: '' is no class"),
        ([BOX], ("", "<object/>"), "object 1: None is no class"),
        ([BOX], ("", "<object><name>cat</name></object>"), "Missing annotation field 'bndbox'"),
        ([("cat", 1, 1, "", 2)], ("", ""), "'xmax' value"),
        ([("cat", 1, "two", 3, 2)], ("", ""), "'ymin' value"),
        ([BOX, ("cat", 1, "nan", 3, 2)], ("", ""), "object 2 has a coordinate that is no finite"),
        ([("cat", 1, "inf", 3, "inf")], ("", ""), "object 1 has a coordinate"),
        ([("cat", "-1e308", 1, "1e308", 2)], ("", ""), "object 1 has a coordinate"),
        ([("cat", 1, 1, "1e999", 2)], ("", ""), "object 1 has a coordinate"),
    ],
)
def test_a_bad_file_is_told_when_its_label_is_wanted(
    voc: Path, objects: list[tuple[object, ...]], around: tuple[str, str], message: str
) -> None:
    path = write_xml(voc, "a", objects, *around)
    dataset = read_dataset(voc)
    assert boxes_of(dataset, index=1).xyxy.tolist() == [[1, 0, 3, 3]]  # the others are well
    for form in ("boxes", "tags"):
        with pytest.raises(DataError, match=message) as error:
            dataset.splits["train"][0].labels[form]()
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as XML"),
        (b"<annotation><object><name>cat</na", "cannot be read as XML"),
        (b"\x89PNG\r\n\x1a\n", "cannot be read as XML"),
        (b"<annotation>\xff\xfe</annotation>", "cannot be read as XML"),
        (b"<html></html>", "must be an <annotation>, but is a <html>"),
        (b"<a>" * 100_000, "cannot be read as XML"),
        (b"<annotation>" + b" " * 2**24 + b"</annotation>", "is larger than 16777216 bytes"),
    ],
)
def test_what_is_no_such_xml_is_told(voc: Path, content: bytes, message: str) -> None:
    path = voc / "Annotations/a.xml"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        boxes_of(read_dataset(voc))
    assert str(path) in str(error.value)


def test_a_bad_file_of_a_picture_that_is_not_listed_does_not_matter(voc: Path, draw: Draw) -> None:
    draw("JPEGImages/d.jpg")
    (voc / "Annotations/d.xml").write_text("broken")
    (voc / "Annotations/z.xml").write_text("broken")
    dataset = read_dataset(voc)
    assert names(dataset)["train"] == ["a", "b"]
    assert dataset.unmatched == (Unmatched("z", voc / "Annotations/z.xml", "boxes", None),)


def test_sizes_must_agree(voc: Path, draw: Draw) -> None:
    size = "<size><width>{}</width><height>3</height><depth>3</depth></size>"
    write_xml(voc, "a", [BOX], "", size.format(4))
    assert len(boxes_of(read_dataset(voc)).classes) == 1
    write_xml(voc, "a", [BOX], "", size.format(0))  # some tools do not know it
    assert len(boxes_of(read_dataset(voc)).classes) == 1
    write_xml(voc, "a", [BOX], "", size.format(400))
    record = read_dataset(voc).splits["train"][0]
    with pytest.raises(DataError, match=r"a.xml: says 400x3 pixels .*a.jpg has 4x3"):
        record.labels["boxes"]()
    assert tags_of(record) == [8]
    draw("SegmentationClass/a.png", [[0, 1]])
    with pytest.raises(DataError, match=r"a.png: has 2x1 .* its picture .*a.jpg has 4x3"):
        read_dataset(voc).splits["train"][0].labels["dense"]()


def test_two_boxes_files_for_one_picture_are_refused(voc: Path) -> None:
    (voc / "boxes.csv").write_text("image,class,xmin,ymin,xmax,ymax\na,cat,0,0,1,1\n")
    with pytest.raises(DataError, match=r"boxes.csv and .*a.xml: two labels of one form for 'a'"):
        read_dataset(voc)


def test_datumaro_does_not_speak(voc: Path, capfd: pytest.CaptureFixture[str]) -> None:
    handlers = list(logging.getLogger().handlers)
    read_dataset(voc)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers


def test_the_samples_of_datumaro_are_read(shared: Path) -> None:
    root = shared / "data/formats/voc_dataset"
    dataset = read_dataset(root / "voc_dataset1")
    assert names(dataset) == {"train": ["2007_000001"], "test": ["2007_000002"]}
    assert boxes_of(dataset).xyxy.tolist() == [[0, 1, 3, 4], [3, 4, 6, 7]]
    assert [VOC_CLASSES[i] for i in boxes_of(dataset).classes] == ["cat", "person"]
    assert set(dataset.splits["test"][0].labels) == set()
    mask = dataset.splits["train"][0].labels["dense"]()
    assert isinstance(mask, DenseMask)
    assert mask.mask.shape == (10, 20)
    with pytest.raises(DataError, match="JPEGImages: has no pictures"):
        read_dataset(root / "voc_dataset2")  # it has no pictures


@pytest.fixture(scope="module")
def voc_mini(shared: Path) -> Dataset:
    return read_dataset(shared / "data" / "voc_mini")


def test_voc_mini_is_read(voc_mini: Dataset) -> None:
    root = voc_mini.root
    listed = {
        split: sorted((root / f"ImageSets/Segmentation/{split}.txt").read_text().split())
        for split in ("train", "val")
    }
    assert names(voc_mini) == listed
    assert voc_mini.unmatched == ()
    assert voc_mini.classes.names == VOC_CLASSES
    assert voc_mini.classes.colors[20] == (0, 64, 128)
    everything = {"points", "scribbles", "blocks", "boxes", "tags", "dense"}
    assert all(set(record.labels) == everything for record in voc_mini.splits["train"])
    assert all(
        set(record.labels) == everything - {"scribbles", "blocks"}
        for record in voc_mini.splits["val"]
    )
    started = time.process_time()
    read_dataset(root)
    assert time.process_time() - started < 8  # 0.4 s without type checks; 18 s if it decoded masks


def test_all_boxes_of_voc_mini_are_those_of_the_files(voc_mini: Dataset) -> None:
    total = 0
    for record in (record for records in voc_mini.splits.values() for record in records):
        text = (voc_mini.root / f"Annotations/{record.name}.xml").read_text()
        corners = [
            [int(n) for n in re.findall(r"<[xy]m\w\w>(\d+)", part)]
            for part in text.split("<object>")[1:]
        ]
        boxes = record.labels["boxes"]()
        assert isinstance(boxes, Boxes)
        assert boxes.xyxy.tolist() == [[a - 1, b - 1, c, d] for a, b, c, d in corners]
        found = [element.findtext("name") for element in ET.fromstring(text).iter("object")]
        assert [VOC_CLASSES[i] for i in boxes.classes] == found
        total += len(found)
    assert total > 1200


def test_boxes_lie_round_the_pieces_of_the_masks(voc_mini: Dataset) -> None:
    for record in voc_mini.splits["train"][:100]:
        mask = np.asarray(Image.open(voc_mini.root / f"SegmentationClass/{record.name}.png"))
        dense, boxes = record.labels["dense"](), record.labels["boxes"]()
        assert isinstance(dense, DenseMask)
        assert isinstance(boxes, Boxes)
        assert np.array_equal(dense.mask, mask)
        expected = []
        for k in set(np.unique(mask)) - {0, 255}:
            pieces, _ = ndimage.label(mask == k, np.ones((3, 3)))
            for number, (rows, columns) in enumerate(ndimage.find_objects(pieces), start=1):
                if (pieces == number).sum() >= 60:
                    corners = (columns.start, rows.start, columns.stop, rows.stop)
                    expected.append((int(k), *corners))
        found = [(k, *xyxy) for k, xyxy in zip(boxes.classes, boxes.xyxy.tolist(), strict=True)]
        assert sorted(found) == sorted(expected)
