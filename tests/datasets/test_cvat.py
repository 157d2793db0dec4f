"""The XML of CVAT."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agmm.datasets.check import check
from agmm.datasets.cvat import read_cvat
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Record, Unmatched
from agmm.errors import DataError
from agmm.labels.annotations import Blocks, Boxes, Points, Scribbles, Tags
from agmm.labels.forms import Form

Draw = Callable[..., Path]

META = (
    "<version>1.1</version><meta><task><labels>"
    "<label><name>cat</name><color>#ff0000</color></label>"
    "<label><name>dog</name><color>#00ff00</color></label>"
    "</labels></task></meta>"
)
EVERY = """
<tag label="dog"/><tag label="cat"/>
<points label="dog" points="3.75,2.25;0.5,0.5" z_order="0"/>
<polyline label="cat" points="1.5,4.5;3.5,4.5"/>
<box label="cat" xtl="2" ytl="1" xbr="7.5" ybr="5"/>
<box label="dog" xtl="7" ytl="1" xbr="2" ybr="99"/>
<polygon label="cat" points="0,0;3,0;3,2;0,2" z_order="2"/>
<polygon label="dog" points="2,1;9,1;9,4;2,4" z_order="-1"/>
<ellipse label="cat" cx="6" cy="4" rx="1" ry="1"/>
<mask label="dog" rle="0,1,1,2" left="8" top="0" width="2" height="2"/>
"""


def write(root: Path, body: str, name: str = "annotations", meta: str = META) -> Path:
    path = root / f"{name}.xml"
    path.write_text(f"<?xml version='1.0'?><annotations>{meta}{body}</annotations>", "utf-8")
    return path


def image(shapes: str, name: str = "a.jpg", more: str = "") -> str:
    return f'<image id="0" name="{name}" width="10" height="6" {more}>{shapes}</image>'


def letters(mask: np.ndarray) -> list[str]:
    return ["".join({0: "c", 1: "d", 255: "."}[value] for value in row) for row in mask.tolist()]


@pytest.fixture
def cvat(tmp_path: Path, draw: Draw) -> Path:
    draw("images/a.jpg", size=(6, 10))
    write(tmp_path, image(EVERY))
    return tmp_path


def test_every_shape_is_read(cvat: Path) -> None:
    dataset = pickle.loads(pickle.dumps(read_dataset(cvat)))
    assert dataset.classes.names == ("cat", "dog")
    assert dataset.classes.colors == ((255, 0, 0), (0, 255, 0))
    [a] = dataset.split("train")
    assert (a.name, a.image) == ("a", cvat / "images" / "a.jpg")
    tags, points, strokes, boxes, blocks = (
        a.labels[form]() for form in ("tags", "points", "scribbles", "boxes", "blocks")
    )
    assert isinstance(tags, Tags)
    assert tags.classes.tolist() == [0, 1]
    assert isinstance(points, Points)
    assert points.xy.tolist() == [[3.75, 2.25], [0.5, 0.5]]
    assert points.classes.tolist() == [1, 1]
    assert isinstance(strokes, Scribbles)
    assert letters(strokes.mask) == [".........."] * 3 + ["ccccc....."] * 3
    assert isinstance(boxes, Boxes)
    assert boxes.xyxy.tolist() == [[2, 1, 7.5, 5], [7, 1, 2, 99]]  # as they are
    assert boxes.classes.tolist() == [0, 1]
    assert isinstance(blocks, Blocks)
    # From the lowest z_order: dog 7x3, the circle, the mask of 3 pixels, cat 3x2.
    assert letters(blocks.mask) == [
        "ccc.....d.",
        "cccddddddd",
        "..ddddddd.",
        "..dddccdd.",
        ".....cc...",
        "..........",
    ]


def test_a_turned_box_is_the_upright_one_round_it(cvat: Path) -> None:
    turned = '<box label="cat" xtl="2" ytl="1" xbr="6" ybr="3" rotation="90"/>'
    write(cvat, image(turned))
    boxes = read_cvat(cvat).split("train")[0].labels["boxes"]()
    assert isinstance(boxes, Boxes)
    np.testing.assert_allclose(boxes.xyxy, [[3, 0, 5, 4]], atol=0.01)


def test_splits_come_from_subsets_and_files(cvat: Path, draw: Draw) -> None:
    point = '<points label="cat" points="1,1"/>'
    draw("images/Validation/a.jpg", size=(6, 10))
    draw("images/Monday/sub/b.png", size=(6, 10))
    bodies = [
        image(point, more='subset="default"'),
        image(point, more='subset="Validation"'),
        image(point, "sub/b.png", 'subset="Monday"'),
        image(point, "missing.jpg", 'subset="Monday"'),
    ]
    write(cvat, "".join(bodies))
    draw("test/c.jpg", size=(6, 10))
    write(cvat, image(point, "c.jpg"), name="test")
    draw("scribbles/Monday/sub/b.png", np.full((6, 10), 255))
    dataset = read_cvat(cvat)
    images = {s: [(r.name, r.image) for r in records] for s, records in dataset.splits.items()}
    assert images == {
        "Monday": [("sub/b", cvat / "images/Monday/sub/b.png")],
        "test": [("c", cvat / "test/c.jpg")],
        "train": [("a", cvat / "images/a.jpg")],
        "val": [("a", cvat / "images/Validation/a.jpg")],
    }
    assert set(dataset.split("Monday")[0].labels) == {"points", "scribbles"}
    file = cvat / "annotations.xml"
    assert dataset.unmatched == (Unmatched("missing", file, "points", "Monday"),)


def test_pictures_of_several_tasks_are_told_apart_by_their_folders(cvat: Path, draw: Draw) -> None:
    """Also where a picture of this name lies in images/ itself."""
    for task, label in (("task1", "cat"), ("task2", "dog")):
        draw(f"images/{task}/a.jpg", size=(6, 10))
        write(cvat, image(f'<tag label="{label}"/>'), name=task)
    records = read_cvat(cvat).split("train")
    assert [(r.name, r.image) for r in records] == [
        (name, cvat / f"images/{name}.jpg") for name in ("a", "task1/a", "task2/a")
    ]
    assert [r.labels["tags"]().classes.tolist() for r in records] == [[0, 1], [0], [1]]  # type: ignore[union-attr]


TASKS = {"task1/annotations": "cat", "task2/annotations": "dog", "more/task3/job": "cow"}


@pytest.fixture
def tasks(tmp_path: Path, draw: Draw) -> Path:
    """Three tasks as they were exported, each with a picture of the same name."""
    for place, label in TASKS.items():
        folder = draw(f"{place.rpartition('/')[0]}/images/a.jpg", size=(6, 10)).parents[1]
        meta = META.replace("dog", label)
        write(folder, image(f'<tag label="{label}"/>'), Path(place).name, meta)
    return tmp_path


@pytest.mark.parametrize("format_", ["auto", "cvat"])
def test_tasks_in_folders_of_their_own(tasks: Path, draw: Draw, format_: str) -> None:
    draw("points/task1/a.png", np.full((6, 10), 255))
    write(tasks / "task2", image('<tag label="cat"/>', "sub/b.jpg"), name="Validation")
    picture = draw("images/task2/sub/b.jpg", size=(6, 10))
    unused = draw("task2/images/c.jpg", size=(6, 10))
    dataset = read_dataset(tasks, format=format_)
    assert dataset.format == "cvat"
    assert set(dataset.classes.names) == {"cat", "dog", "cow"}
    found = {s: [(r.name, r.image) for r in records] for s, records in dataset.splits.items()}
    assert found == {
        "train": [(f"{n}/a", tasks / n / "images/a.jpg") for n in ("more/task3", "task1", "task2")],
        "val": [("task2/sub/b", picture)],
    }
    for record, label in zip(dataset.split("train"), ("cow", "cat", "dog"), strict=True):
        tags = record.labels["tags"]()
        assert isinstance(tags, Tags)
        assert [dataset.classes.names[k] for k in tags.classes] == [label]
    assert set(dataset.split("train")[1].labels) == {"tags", "points"}
    assert (dataset.unused, dataset.unmatched) == ((unused,), ())


def test_files_below_are_read_beside_one_in_the_folder_itself(cvat: Path, tasks: Path) -> None:
    assert cvat == tasks
    records = read_dataset(cvat).split("train")
    assert [r.name for r in records] == ["a", "more/task3/a", "task1/a", "task2/a"]


def test_labels_of_a_task_without_their_pictures_are_unmatched(tasks: Path, draw: Draw) -> None:
    """A picture of this name elsewhere is another one."""
    draw("images/a.jpg", size=(6, 10))
    (tasks / "task1/images/a.jpg").unlink()
    file = tasks / "task1/annotations.xml"
    assert read_dataset(tasks).unmatched == (Unmatched("task1/a", file, "tags", "train"),)


def test_a_folder_may_be_a_split(cvat: Path, draw: Draw) -> None:
    """ "default" is a subset that nobody has chosen."""
    (cvat / "annotations.xml").unlink()
    for folder, more in (("Training", ""), ("old/val", 'subset="default"'), ("x", 'subset="val"')):
        draw(f"{folder}/images/a.jpg", size=(6, 10))
        write(cvat / folder, image('<tag label="cat"/>', more=more))
    found = {s: [r.name for r in rs] for s, rs in read_dataset(cvat).splits.items()}
    assert found == {"train": ["Training/a"], "val": ["old/val/a", "x/a"]}
    file = write(cvat / "old/val", image('<tag label="cat"/>', more='subset="Train"'))
    with pytest.raises(DataError) as caught:
        read_dataset(cvat)
    assert str(caught.value).startswith(
        f"{file}: 'Train' is the split train, but the folder old/val/ is val, so that"
    )
    file.rename(file.with_name("monday.xml"))
    with pytest.raises(DataError, match=r"monday\.xml: 'Train' is the split train"):
        read_dataset(cvat)


@pytest.mark.parametrize("text", ["<annotation/>", "<annotations", ""])
def test_another_xml_below_is_refused(cvat: Path, text: str) -> None:
    """Only scribblesup/ may lie beside any layout."""
    file = cvat / "old/Annotations/b.xml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(DataError, match=rf"{file}: (must be <annotations>.* or take|cannot be)"):
        read_dataset(cvat)
    file.parent.rename(cvat / "scribblesup")
    assert set(read_dataset(cvat).split("train")[0].labels) >= {"tags", "boxes"}


def test_another_layout_is_not_taken_for_tasks(tasks: Path, draw: Draw) -> None:
    (tasks / "classes.txt").write_text("cat\ndog\n")
    draw("images/a.jpg", size=(6, 10))
    assert read_dataset(tasks).format == "folder"


def test_classes_txt_wins(cvat: Path) -> None:
    (cvat / "classes.txt").write_text("background\ndog\ncat\n")
    dataset = read_dataset(cvat)
    assert dataset.classes.names == ("background", "dog", "cat")
    tags = dataset.split("train")[0].labels["tags"]()
    assert isinstance(tags, Tags)
    assert tags.classes.tolist() == [1, 2]


def points_of(record: Record) -> list[list[float]]:
    points = record.labels["points"]()
    assert isinstance(points, Points)
    rounded: list[list[float]] = points.xy.round(2).tolist()
    return rounded


def test_the_sample_of_a_task(shared: Path) -> None:
    """train.xml: img0 8x8 with a box and a line without label, img1 10x10."""
    dataset = read_dataset(shared / "data/formats/cvat_dataset/for_images/export_task")
    assert dataset.classes.names == ("label1", "label2")
    first, second = dataset.split("train")
    assert (first.name, set(first.labels)) == ("img0", {"boxes", "scribbles"})
    boxes = first.labels["boxes"]()
    assert isinstance(boxes, Boxes)
    assert (boxes.xyxy.tolist(), boxes.classes.tolist()) == ([[0, 2, 4, 4]], [0])
    assert points_of(second) == [[1, 2], [3, 4], [5, 6]]
    # The faults of the sample: nobody said what the line and the polygon are.
    with pytest.raises(DataError, match=r"img0.jpg, scribbles: 1: the <polyline> has no label"):
        first.labels["scribbles"]()
    with pytest.raises(DataError, match=r"img1.jpg, blocks: 1: the <polygon> has no label"):
        second.labels["blocks"]()


def test_the_sample_of_a_project(shared: Path) -> None:
    dataset = read_dataset(shared / "data/formats/cvat_dataset/for_images/export_project")
    forms: tuple[Form, ...] = ("points", "scribbles", "blocks", "boxes")
    report = check(dataset, dict.fromkeys(("train", "val", "test"), forms))
    for split, records in dataset.splits.items():
        assert [record.name for record in records] == ["img0", "img1"]
        counts = {form: found.per_class for form, found in report.counts[split].items()}
        # 8x8 pixels, from (1, 2) to (7, 8): centres nearer than 1.5.
        along = [(x, y) for x in range(8) for y in range(8) if abs(x - y + 1) < 1.5 * 2**0.5]
        near = [(x, y) for x, y in along if x + y + 1 >= 3 or np.hypot(x - 0.5, y - 1.5) < 1.5]
        assert counts["scribbles"] == (0, len(near))
        assert counts["boxes"] == (1, 0)
        # A fault of the sample: the click (1, 2) is a corner of the triangle (1, 2) (3, 4) (6, 5).
        [fault] = report.faults[split]
        assert (
            "x=1, y=2 is class 1 (label2) in points and class 0 (label1) in blocks" in fault.reason
        )
        assert points_of(records[1]) == [[1, 2], [3, 4], [5, 6]]
        blocks = records[1].labels["blocks"]()
        assert isinstance(blocks, Blocks)
        # The centres of three pixels lie in it, or on its left edge.
        assert np.argwhere(blocks.mask == 0).tolist() == [[2, 1], [3, 2], [4, 4]]
    assert {split: str(r[0].image.parent.name) for split, r in dataset.splits.items()} == {
        "test": "Test",
        "train": "Train",
        "val": "Validation",
    }


def test_the_samples_are_tasks_too(shared: Path) -> None:
    dataset = read_dataset(shared / "data/formats/cvat_dataset/for_images")
    found = {s: [r.name for r in records] for s, records in dataset.splits.items()}
    project = [f"export_project/img{n}" for n in (0, 1)]
    task = [f"export_task/img{n}" for n in (0, 1)]
    assert found == {"test": project, "train": [*project, *task], "val": project}


def test_the_sample_of_a_video(shared: Path) -> None:
    """Frames 10, 13 and 16 of 20x25 pixels; tracks of a box, points and a line."""
    dataset = read_dataset(shared / "data/formats/cvat_dataset/for_video")
    assert dataset.classes.names == ("klhg", "z U k", "II")
    records = dataset.split("train")
    assert [(r.name, set(r.labels)) for r in records] == [
        ("frame_000010", {"boxes", "points"}),
        ("frame_000013", {"scribbles"}),
        ("frame_000016", set()),
    ]
    boxes = records[0].labels["boxes"]()
    assert isinstance(boxes, Boxes)
    assert (boxes.xyxy.tolist(), boxes.classes.tolist()) == ([[3, 4, 10, 5]], [2])
    assert points_of(records[0]) == [[21.95, 8], [2.55, 15.09], [2.23, 3.16]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (image("", "../a.jpg"), "leads out of the data folder"),
        (image("", "images/../../a.jpg"), "leads out of the data folder"),
        (image("", "/etc/passwd"), "leads out of the data folder"),
        (image("", "C:\\a.jpg"), "leads out of the data folder"),
        (image("", ""), "leads out of the data folder"),
        (image("", more='subset="../.."'), "leads out of the data folder"),
        (image('<cuboid label="cat"/>'), "a <cuboid> is none of"),
        (image("", "b.jpg"), "none of the 1 pictures is there"),
        (image('<tag label="cat"/>') * 2, "two labels of one form"),
        (
            image('<tag label="cat"/>') + image("", "a.png"),
            r"images/a\.jpg and a missing one of .*\.xml: two pictures of one name, 'a', so that",
        ),
        (
            image("", more='subset="train"') + image("", "images/a.jpg", 'subset="default"'),
            r"a\.jpg: is 'a' of .*\.xml and 'images/a' of .*\.xml, so that it would count as two",
        ),
        (
            image("", more='subset="train"') + image("", more='subset="val"'),
            "is in two splits, train and val",
        ),
        ('<track label="cat"><box/></track>', "a <box> has no frame"),
        ("<image", "cannot be read as XML"),
    ],
)
def test_a_bad_file_is_one_clear_error(cvat: Path, body: str, message: str) -> None:
    write(cvat, body)
    with pytest.raises(DataError, match=message):
        read_cvat(cvat)


@pytest.mark.parametrize(
    ("first", "second", "more"),
    [
        ("images/a.jpg", "a.jpg", ""),
        ("images/task/a.jpg", "task/a.jpg", ""),
        ("one/images/a.jpg", "one/a.jpg", ""),
        ("one/images/a.jpg", "images/one/a.jpg", ""),
        ("one/images/task/a.jpg", "one/task/a.jpg", ""),
        ("images/monday/a.jpg", "monday/a.jpg", 'subset="monday"'),
        ("images/a.jpg", "a.jpg", 'subset="monday"'),
    ],
)
def test_one_picture_in_two_folders_is_refused(
    tmp_path: Path, draw: Draw, first: str, second: str, more: str
) -> None:
    for name in (first, second):
        draw(name, size=(6, 10))
    folder = tmp_path / "one" if first.startswith("one/") else tmp_path
    write(folder, image('<tag label="cat"/>', more=more), name="task")
    with pytest.raises(DataError, match=f"{first} and .*{second}: two files of one name"):
        read_cvat(tmp_path)


def test_two_pictures_of_one_name_are_refused(cvat: Path, draw: Draw) -> None:
    draw("images/a.png", size=(6, 10))
    write(cvat, image('<tag label="cat"/>') + image("", "a.png"))
    with pytest.raises(DataError, match=r"a\.jpg and .*a\.png: two pictures of one name, 'a'"):
        read_cvat(cvat)
    (cvat / "annotations.xml").unlink()
    draw("images/default/a.jpg", size=(6, 10))
    draw("images/train/a.jpg", size=(6, 10))
    subsets = (image("", more=f'subset="{subset}"') for subset in ("default", "train"))
    write(cvat, "".join(subsets))
    with pytest.raises(DataError, match=r"default/a\.jpg and .*train/a\.jpg: two pictures of one"):
        read_cvat(cvat)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<points label="" points="1,1"/>', "1: the <points> has no label"),
        ('<points label="cow" points="1,1"/>', "'cow' is no class"),
        ('<points label="cat"/>', "cannot be read"),
        ('<points label="cat" points=""/>', "cannot be read"),
        ('<points label="cat" points="1,1;2"/>', "cannot be read|has a coordinate"),
        ('<points label="cat" points="1,x"/>', "cannot be read"),
        ('<points label="cat" points="NaN,1"/>', "no number of pixels"),
        ('<points label="cat" points="inf,1"/>', "no number of pixels"),
        ('<points label="cat" points="1e300,1"/>', "no number of pixels"),
        ('<box label="cat" xtl="1" ytl="1" xbr="2"/>', "cannot be read"),
        ('<box label="cat" xtl="nan" ytl="1" xbr="2" ybr="3"/>', "no number of pixels"),
        ('<box label="cat" xtl="1" ytl="1" xbr="2" ybr="3" rotation="nan"/>', "no number"),
        ('<polygon label="cat" points="1,1;2,2"/>', "at least three points|cannot be read"),
        ('<ellipse label="cat" cx="1" cy="1"/>', "an ellipse needs"),
        ('<ellipse label="cat" cx="1" cy="nan" rx="1" ry="1"/>', "no number of pixels"),
        ('<mask label="cat" rle="4" left="9" top="0" width="2" height="2"/>', "reaches out"),
        ('<mask label="cat" rle="5" left="0" top="0" width="2" height="2"/>', "do not fill it"),
        ('<mask label="cat" rle="4,-1,1" left="0" top="0" width="2" height="2"/>', "do not fill"),
        ('<mask label="cat" rle="9" left="0" top="0" width="99999" height="99999"/>', "reaches"),
        ('<mask label="cat" left="0" top="0" width="2"/>', "a mask needs left"),
    ],
)
def test_a_bad_shape_is_told_when_it_is_read(cvat: Path, shape: str, message: str) -> None:
    write(cvat, image(shape + '<tag label="cat"/>'))
    labels = read_cvat(cvat).split("train")[0].labels
    [form] = set(labels) - {"tags"}
    with pytest.raises(DataError, match=message) as caught:
        labels[form]()
    assert str(cvat / "annotations.xml") in str(caught.value)
    assert isinstance(labels["tags"](), Tags)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '<!DOCTYPE l [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><annotations>&b;</annotations>',
            "entities",
        ),
        ("<annotations><image></annotations>", "cannot be read as XML"),
        ("", "cannot be read as XML"),
        ("<?xml version='1.0' encoding='what'?><annotations/>", "cannot be read as XML"),
        ("<annotation/>", "must be <annotations>"),
        ("<annotations/>", "there are 0"),
    ],
)
def test_no_xml_of_cvat_is_refused(cvat: Path, content: str, message: str) -> None:
    (cvat / "annotations.xml").write_text(content)
    with pytest.raises(DataError, match=message):
        read_cvat(cvat)


def test_another_size_is_refused(cvat: Path, draw: Draw) -> None:
    draw("images/a.jpg", size=(6, 11))
    with pytest.raises(DataError, match="says 10x6 pixels"):
        read_cvat(cvat).split("train")[0].labels["points"]()


def test_a_link_out_of_the_folder_is_refused(
    cvat: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "images"
    shutil.move(cvat / "images", outside)
    (cvat / "images").symlink_to(outside)
    with pytest.raises(DataError, match="is a link that leads out"):
        read_cvat(cvat)
