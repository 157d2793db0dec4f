"""The JSON export of Label Studio."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agmm.datasets.label_studio import read_label_studio
from agmm.datasets.reader import read_dataset
from agmm.errors import DataError
from agmm.labels.annotations import Blocks, Boxes, Points, Tags

Draw = Callable[..., Path]
BRUSH = [0, 0, 0, 60, 57, 27, 254, 23, 0, 183, 255, 132, 192, 35, 255, 0]
"""5x3 pixels: row 1 has columns 1 to 3, row 2 column 4. See test_brush.py."""


def result(kind: str, names: object = ("cat",), **value: object) -> dict[str, Any]:
    return {
        "id": "x",
        "type": kind,
        "value": {**value, kind: names},
        "original_width": 5,
        "original_height": 3,
        "image_rotation": 0,
    }


BOX = result("rectanglelabels", x=20, y=0, width=40, height=100, rotation=0)
EVERY = [
    BOX,
    result("polygonlabels", ["dog"], points=[[0, 0], [100, 0], [100, 100 / 3], [0, 100 / 3]]),
    result("brushlabels", format="rle", rle=BRUSH),
    result("keypointlabels", ["dog"], x=50, y=50, width=0.3),
    result("choices", ["cat", "dog"]),
    {"type": "relation", "from_id": "x", "to_id": "y"},
    {"type": "textarea", "value": {"text": ["a note"]}},
    {**result("choices", ["blurred"], x=1), "id": "y"},
]


def task(results: object = (), image: object = "/data/upload/1/0123abcd-a.png", **more: Any) -> Any:
    annotation = {"result": list(results) if isinstance(results, tuple) else results}
    return {"id": 1, "data": {"image": image}, "annotations": [annotation], **more}


def write(root: Path, tasks: object, name: str = "export") -> Path:
    path = root / f"{name}.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


@pytest.fixture
def studio(tmp_path: Path, draw: Draw) -> Path:
    draw("images/a.png", size=(3, 5))
    write(tmp_path, [task(EVERY)])
    return tmp_path


def test_every_result_is_read(studio: Path) -> None:
    dataset = pickle.loads(pickle.dumps(read_dataset(studio)))
    assert dataset.classes.names == ("cat", "dog")
    [a] = dataset.split("train")
    assert (a.name, a.image, set(a.labels)) == (
        "a",
        studio / "images" / "a.png",
        {"boxes", "blocks", "points", "tags"},
    )
    boxes, blocks, points, tags = (a.labels[f]() for f in ("boxes", "blocks", "points", "tags"))
    assert isinstance(boxes, Boxes)
    assert (boxes.xyxy.tolist(), boxes.classes.tolist()) == ([[1, 0, 3, 3]], [0])
    assert isinstance(blocks, Blocks)
    assert blocks.mask.tolist() == [[1] * 5, [255, 0, 0, 0, 255], [255, 255, 255, 255, 0]]
    assert isinstance(points, Points)
    assert (points.xy.tolist(), points.classes.tolist()) == ([[2.5, 1.5]], [1])
    assert isinstance(tags, Tags)
    assert tags.classes.tolist() == [0, 1]


def test_labels_ellipses_and_turned_rectangles(studio: Path) -> None:
    turned = result("rectanglelabels", x=60, y=0, width=60, height=100 / 3, rotation=90)
    separate = result("labels", ["dog"], x=0, y=0, width=20, height=100 / 3, rotation=0)
    bare = {**separate, "type": "rectangle"}
    circle = result("ellipselabels", x=40, y=200 / 3, radiusX=20, radiusY=100 / 3)
    several = result("keypointlabels", ["cat", "dog"], x=0, y=0, width=1)
    write(studio, [task([turned, bare, separate, circle, several])])
    a = read_label_studio(studio).split("train")[0]
    boxes, blocks, points = (a.labels[f]() for f in ("boxes", "blocks", "points"))
    assert isinstance(boxes, Boxes)
    # 3 wide and 1 high, turned about its corner (3, 0) so that it is 1 wide and 3 high left of it.
    np.testing.assert_allclose(boxes.xyxy, [[2, 0, 3, 3], [0, 0, 1, 1]], atol=1e-9)
    assert boxes.classes.tolist() == [0, 1]
    assert isinstance(blocks, Blocks)
    assert np.argwhere(blocks.mask == 0).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert isinstance(points, Points)
    assert points.classes.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("image", "upload", "file"),
    [
        ("/data/upload/1/0123abcd-a.png", None, "images/a.png"),
        ("/data/upload/1/0123abcd-a.png", None, "0123abcd-a.png"),
        ("/data/local-files/?d=b%20c/a.png", None, "images/b c/a.png"),
        ("s3://bucket/b/a.png", None, "b/a.png"),
        ("https://example.org/b/a.png?size=3", None, "a.png"),
        ("/image7", None, "images/image7.PNG"),
        ("/whatever", "0123abcd-a.png", "a.png"),
    ],
)
def test_pictures_are_found_by_path_or_name(
    tmp_path: Path, draw: Draw, image: str, upload: str | None, file: str
) -> None:
    draw(file, size=(3, 5))
    write(tmp_path, [task([BOX], image, file_upload=upload)])
    [record] = read_label_studio(tmp_path).split("train")
    assert record.image == tmp_path / file


def test_all_annotations_but_cancelled_ones_count(studio: Path) -> None:
    twice = task([BOX])
    twice["annotations"] += [{"result": [BOX]}, {"result": [BOX], "was_cancelled": True}]
    twice["predictions"] = [{"result": [BOX]}]
    write(studio, [twice])
    write(studio, [task([EVERY[3]])], "more")
    (studio / "clicks.json").write_text("{}")
    a = read_dataset(studio).split("train")[0]
    boxes = a.labels["boxes"]()
    assert isinstance(boxes, Boxes)
    assert len(boxes.classes) == 2
    assert set(a.labels) == {"boxes", "points"}


def test_two_pictures_of_one_name_are_refused(studio: Path, draw: Draw) -> None:
    draw("images/a.jpg", size=(3, 5))
    write(studio, [task([BOX]), task([], "a.jpg")])
    with pytest.raises(DataError, match=r"a\.png and .*a\.jpg: two pictures of one name, 'a'"):
        read_label_studio(studio)


def test_missing_pictures_are_unmatched(studio: Path) -> None:
    write(studio, [task(EVERY), task([BOX], "/data/upload/1/b.png")])
    [unmatched] = read_label_studio(studio).unmatched
    assert (unmatched.form, unmatched.split) == ("boxes", "train")


@pytest.mark.parametrize(
    ("sample", "name", "size", "form", "count"),
    [
        ("boxes", "image1", (2800, 2800), "boxes", 4),
        ("polygons", "image2", (426, 640), "blocks", 1),
    ],
)
def test_the_samples(
    shared: Path,
    tmp_path: Path,
    draw: Draw,
    sample: str,
    name: str,
    size: tuple[int, int],
    form: Any,
    count: int,
) -> None:
    """The samples come without their pictures."""
    folder = shared / "data/formats/label_studio"
    with pytest.raises(DataError, match="none of the 3 pictures is there"):
        read_dataset(folder)
    (tmp_path / f"{sample}.json").write_bytes((folder / f"{sample}.json").read_bytes())
    draw(f"{name}.png", size=size)
    dataset = read_dataset(tmp_path)
    label = dataset.split("train")[0].labels[form]()
    if sample == "boxes":
        assert dataset.classes.names == ("parasites", "white")
        assert isinstance(label, Boxes)
        assert label.classes.tolist() == [0, 1, 0, 1]
        assert len(label.classes) == count
        # 37.158 % and 70.674 % of 2800, and 4.189 % and 4.736 % more.
        np.testing.assert_allclose(
            label.xyxy[0], [1040.437, 1978.871, 1157.741, 2111.475], atol=1e-3
        )
    else:
        assert dataset.classes.names == ("Airplane",)
        assert isinstance(label, Blocks)
        # The shoelace formula on the corners of the file.
        task = json.loads((folder / "polygons.json").read_text())[0]
        corners = np.array(task["annotations"][0]["result"][0]["value"]["points"]) * (6.4, 4.26)
        x, y = corners.T
        area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
        assert abs((label.mask == 0).sum() - area) < 0.01 * area


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, "must be a list of tasks"),
        ([3], "must have data and annotations"),
        ([{"image": "a.png", "label": []}], "not as JSON-MIN"),
        ([task(image="../a.png")], "leads out of the data folder"),
        ([task(image="/../../a.png")], "leads out of the data folder"),
        ([task(image="/data/local-files/?d=/etc/passwd")], "leads out of the data folder"),
        ([task(image="/data/local-files/?d=../a.png")], "leads out of the data folder"),
        ([task(image="//[")], "leads out of the data folder"),
        ([task(image=["a.png"])], "not clear which picture"),
        ([task(image="")], "not clear which picture"),
        ([task(annotations=3)], "must have a list"),
        ([task(annotations=[3])], "an annotation is 3"),
        ([task(3)], "must have a list, but has 3"),
        ([task([3])], "a result is 3"),
        ([task([result("vectorlabels")])], "'vectorlabels' is not known"),
        ([task([BOX], "b.png")], "none of the 1 pictures is there"),
        ([task([BOX]), task([BOX])], "two labels of one form"),
    ],
)
def test_a_bad_file_is_one_clear_error(studio: Path, tasks: object, message: str) -> None:
    write(studio, tasks)
    with pytest.raises(DataError, match=message):
        read_label_studio(studio)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (result("keypointlabels", [], x=1, y=1), "has no label"),
        (result("keypointlabels", "cat", x=1, y=1), "has no label"),
        (result("keypointlabels", [3], x=1, y=1), "has no label"),
        (result("keypointlabels", ["cow"], x=1, y=1), "'cow' is no class"),
        (result("keypointlabels", x=1), "y must be a number"),
        (result("keypointlabels", x=1, y="2"), "y must be a number"),
        (result("keypointlabels", x=1e300, y=2), "x must be a number"),
        (result("rectanglelabels", x=1, y=1, width=1), "height must be a number"),
        (result("rectanglelabels", x=1, y=1, width=1, height=1, rotation="x"), "rotation must be"),
        (result("polygonlabels", points=[[1, 2], [3]]), "points must be"),
        (result("polygonlabels", points=[[1, 2], [3, 4]]), "at least three points"),
        (result("polygonlabels", points=[[1, 2], [3, 4], [True, 1]]), "a point must be a number"),
        (result("brushlabels", format="rle", rle=BRUSH[:9]), "ends too soon"),
        (result("brushlabels", format="rle", rle="AAAA"), "whole numbers"),
        (BOX | {"original_width": 6}, "drawn on 6x3 pixels"),
        (BOX | {"original_width": None}, "drawn on nullx3 pixels"),
        (BOX | {"image_rotation": 90}, "was turned"),
    ],
)
def test_a_bad_result_is_told_when_it_is_read(studio: Path, bad: Any, message: str) -> None:
    (studio / "classes.txt").write_text("cat\ndog\n")
    write(studio, [task([bad, result("choices")])])
    labels = read_label_studio(studio).split("train")[0].labels
    [form] = set(labels) - {"tags"}
    with pytest.raises(DataError, match=message) as caught:
        labels[form]()
    assert str(studio / "export.json") in str(caught.value)
    assert isinstance(labels["tags"](), Tags)


def test_one_picture_in_two_folders_is_refused(studio: Path, draw: Draw) -> None:
    draw("a.png", size=(3, 5))
    with pytest.raises(DataError, match=r"images/a\.png and .*a\.png: two files of one name"):
        read_dataset(studio)


def test_the_name_of_an_upload_says_which_picture_is_meant(studio: Path, draw: Draw) -> None:
    """Another one may have the name without the letters."""
    file = draw("0123abcd-a.png", size=(3, 5))
    assert read_dataset(studio).split("train")[0].image == file
