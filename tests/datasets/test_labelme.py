"""The JSON files of labelme."""

import base64
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agmm.datasets.labelme import is_labelme, read_labelme
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Unmatched
from agmm.errors import DataError
from agmm.labels.annotations import Blocks, Boxes, Points, Scribbles

Draw = Callable[..., Path]


def png(mask: object) -> str:
    file = io.BytesIO()
    Image.fromarray(np.asarray(mask, dtype=np.uint8) * 255).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def shape(label: object, kind: object, points: object, **more: object) -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": points, "group_id": None, **more}


EVERY = [
    shape("cat", "polygon", [[0, 0], [3, 0], [3, 2], [0, 2]]),
    shape("dog", "polygon", [[2, 1], [9, 1], [9, 4], [2, 4]]),
    shape("cat", "rectangle", [[7.5, 5], [2, 1]]),
    shape("dog", "point", [[3.7, 2.2]]),
    shape("cat", "points", [[0.5, 0.5], [1.5, 0.5]]),
    shape("cat", "line", [[1.5, 4.5], [3.5, 4.5]]),
    shape("dog", "linestrip", [[6.5, 1.5], [6.5, 2.5], [6.5, 3.5]]),
    shape("cat", "circle", [[6, 4], [6, 3]]),
    shape("dog", "mask", [[8, 0], [9, 1]], mask=png([[1, 0], [1, 1]])),
]


def write(root: Path, name: str, shapes: object = (), **more: object) -> Path:
    """Write what labelme 5 writes for a picture of 10x6."""
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes) if isinstance(shapes, tuple | list) else shapes,
        "imagePath": f"{Path(name).name}.jpg",
        "imageData": None,
        "imageHeight": 6,
        "imageWidth": 10,
        **more,
    }
    path = root / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def labelme(tmp_path: Path, draw: Draw) -> Path:
    draw("a.jpg", size=(6, 10))
    write(tmp_path, "a", EVERY)
    return tmp_path


def test_every_shape_is_read(labelme: Path) -> None:
    dataset = pickle.loads(pickle.dumps(read_dataset(labelme)))
    assert dataset.classes.names == ("cat", "dog")
    assert dataset.classes.background is None
    [a] = dataset.split("train")
    assert (a.name, a.image, set(a.labels)) == (
        "a",
        labelme / "a.jpg",
        {"blocks", "boxes", "points", "scribbles"},
    )
    blocks, boxes, points, strokes = (
        a.labels[form]() for form in ("blocks", "boxes", "points", "scribbles")
    )
    assert isinstance(blocks, Blocks)
    # cat 3x2, then dog 7x3 over it, then a circle of radius 1 (2x2 centres), then a mask over it.
    assert [
        "".join({0: "c", 1: "d", 255: "."}[value] for value in row) for row in blocks.mask.tolist()
    ] == [
        "ccc.....d.",
        "ccdddddddd",
        "..ddddddd.",
        "..dddccdd.",
        ".....cc...",
        "..........",
    ]
    assert isinstance(boxes, Boxes)
    assert boxes.xyxy.tolist() == [[2, 1, 7.5, 5]]  # clicked from the lower right corner
    assert boxes.classes.tolist() == [0]
    assert isinstance(points, Points)
    assert points.xy.tolist() == [[3.7, 2.2], [0.5, 0.5], [1.5, 0.5]]
    assert points.classes.tolist() == [1, 0, 0]
    assert isinstance(strokes, Scribbles)
    # 3 pixels wide with round ends: 5 columns x 3 rows, the last of them rows 3..5; then dog's.
    assert (strokes.mask == 0).sum() == 15
    assert (strokes.mask == 1).sum() == 15
    assert np.argwhere(strokes.mask == 1).min(axis=0).tolist() == [0, 5]
    assert np.argwhere(strokes.mask == 0).max(axis=0).tolist() == [5, 4]


def test_what_labelme_ignores_is_unlabelled(labelme: Path) -> None:
    square = [[0, 0], [4, 0], [4, 4], [0, 4]]
    inner = [[1, 1], [3, 1], [3, 3], [1, 3]]
    write(
        labelme,
        "a",
        [shape("_background_", "polygon", square), shape("__ignore__", None, inner)],
    )
    dataset = read_labelme(labelme)
    assert (dataset.classes.names, dataset.classes.background) == (("background",), 0)
    mask = dataset.split("train")[0].labels["blocks"]().mask  # type: ignore[union-attr]
    assert (mask == 0).sum() == 16 - 4


def test_splits_classes_and_what_lies_beside(labelme: Path, draw: Draw) -> None:
    (labelme / "classes.txt").write_text("dog\ncat\nbird\n")
    draw("val/b.png", size=(6, 10))
    write(labelme, "val/b", [shape("cat", "point", [[1, 1]])], imagePath="b.png")
    draw("masks/val/val/b.png", np.zeros((6, 10)))
    draw("pictures/c.jpg", size=(6, 10))
    write(labelme, "json/c", [], imagePath="..\\pictures\\c.jpg")
    write(labelme, "json/missing", EVERY)
    (labelme / "clicks.json").write_text("{}")
    dataset = read_dataset(labelme)
    assert dataset.classes.names == ("dog", "cat", "bird")
    assert {split: [r.name for r in found] for split, found in dataset.splits.items()} == {
        "train": ["a", "json/c"],
        "val": ["val/b"],
    }
    assert set(dataset.split("val")[0].labels) == {"points", "dense"}
    assert dataset.split("train")[1].labels == {}
    assert dataset.split("train")[1].image == labelme / "pictures" / "c.jpg"
    file = labelme / "json" / "missing.json"
    assert set(dataset.unmatched) == {
        Unmatched("json/missing", file, form, "train")
        for form in ("blocks", "boxes", "points", "scribbles")
    }


@pytest.mark.parametrize(
    ("shapes", "more", "message"),
    [
        ([], {"imagePath": "../../a.jpg"}, "leads out of the data folder"),
        ([], {"imagePath": "/etc/passwd"}, "leads out of the data folder"),
        ([], {"imagePath": "C:\\a.jpg"}, "leads out of the data folder"),
        ([], {"imagePath": ""}, "leads out of the data folder"),
        ([], {"imagePath": None}, "imagePath must name"),
        (EVERY, {"imagePath": "b.jpg"}, "none of the 1 pictures is there"),
        ({"a": 1}, {}, "must be a file of labelme"),
        ([3], {}, "shape 1: must have a label"),
        ([{"points": []}], {}, "shape 1: must have a label"),
        ([shape("cat", "spiral", [[1, 1]])], {}, 'the type "spiral" is not known'),
        ([shape("cat", ["x"], [[1, 1]])], {}, "is not known"),
        ([shape("cat", "point", [[1, 1]]), shape("Cat", "point", [[1, 1]])], {}, "there twice"),
    ],
)
def test_a_bad_file_is_one_clear_error(
    labelme: Path, shapes: object, more: dict[str, object], message: str
) -> None:
    write(labelme, "a", shapes, **more)
    with pytest.raises(DataError, match=message):
        read_labelme(labelme)


def test_two_files_of_one_picture_are_refused(labelme: Path) -> None:
    write(labelme, "a (copy)", EVERY, imagePath="a.jpg")
    with pytest.raises(
        DataError, match=r"a\.jpg: is 'a \(copy\)' of .*a \(copy\)\.json and 'a' of .*a\.json, so"
    ):
        read_labelme(labelme)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (shape("cat", "polygon", [[1, 1], [2, 2]]), "blocks 1: needs at least three points"),
        (shape("cat", "polygon", []), "needs at least three points, but has 0"),
        (shape("cat", "polygon", None), "points must be a list"),
        (shape("cat", "polygon", [[1], [2], [3]]), r"a point must be \[x, y\]"),
        (shape("cat", "polygon", [[1, "2"], [2, 2], [3, 3]]), r"a point must be \[x, y\]"),
        (shape("cat", "point", [[True, 1]]), r"a point must be \[x, y\]"),
        (shape("cat", "point", [[1e308, 1]]), r"a point must be \[x, y\]"),
        (shape("cat", "rectangle", [[1, 1]]), "a rectangle needs two points"),
        (shape("cat", "circle", [[1, 1]] * 3), "a circle needs two points"),
        (shape("cat", "mask", [[1, 1], [2, 2]]), "no PNG in base64"),
        (shape("cat", "mask", [[1, 1], [2, 2]], mask="@@@"), "no PNG in base64"),
        (shape("cat", "mask", [[1, 1], [2, 2]], mask="aGVsbG8="), "no PNG in base64"),
        (shape("cat", "mask", [[1, 1], [2, 2]], mask=png([[1]])[:40]), "no PNG in base64"),
        (shape("cat", "mask", [[9, 1], [10, 2]], mask=png([[1, 1]])), "reaches out of the picture"),
        (shape("cat", "mask", [[-1, 1], [0, 2]], mask=png([[1, 1]])), "reaches out of the picture"),
        (shape("cow", "point", [[1, 1]]), "'cow' is no class"),
    ],
)
def test_a_bad_shape_is_told_when_it_is_read(
    labelme: Path, bad: dict[str, Any], message: str
) -> None:
    (labelme / "classes.txt").write_text("cat\ndog\n")
    write(labelme, "a", [bad, shape("cat", "line", [[1, 1], [2, 2]])])
    labels = read_labelme(labelme).split("train")[0].labels
    [form] = set(labels) - {"scribbles"}
    with pytest.raises(DataError, match=message) as caught:
        labels[form]()
    assert str(labelme / "a.json") in str(caught.value)
    assert isinstance(labels["scribbles"](), Scribbles)  # another form is not touched by it


def test_another_size_is_refused(labelme: Path) -> None:
    write(labelme, "a", EVERY, imageWidth=11)
    with pytest.raises(DataError, match="says 11x6 pixels"):
        read_labelme(labelme).split("train")[0].labels["boxes"]()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"shapes": [], "imagePath"', "is not JSON"),
        (b'{"shapes": [NaN], "imagePath": "a.jpg"}', "NaN"),
        (b'{"shapes": [], "shapes": [], "imagePath": "a.jpg"}', "there twice"),
        (b'{"shapes": [{"label": "\xff"}], "imagePath": "a.jpg"}', "not UTF-8"),
        (b'{"shapes": [' + b"[" * 100_000 + b'"imagePath"', "is not JSON"),
        (b"[]", "must be a file of labelme"),
        (b"", "is not JSON"),
    ],
)
def test_no_json_of_labelme_is_refused(labelme: Path, content: bytes, message: str) -> None:
    (labelme / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_labelme(labelme)


def test_a_link_out_of_the_folder_is_refused(labelme: Path, tmp_path_factory: Any) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.jpg"
    (labelme / "a.jpg").rename(outside)
    (labelme / "a.jpg").symlink_to(outside)
    with pytest.raises(DataError, match="is a link that leads out"):
        read_labelme(labelme)


def test_recognition_reads_the_head_and_the_end_only(labelme: Path) -> None:
    assert is_labelme(labelme)
    write(labelme, "a", EVERY, imageData="A" * 300_000)
    content = json.loads((labelme / "a.json").read_text())
    first = {"imageData": content.pop("imageData"), **content}
    (labelme / "a.json").write_text(json.dumps(first))
    assert is_labelme(labelme)
    (labelme / "a.json").write_text('{"images": [], "annotations": []}')
    assert not is_labelme(labelme)
