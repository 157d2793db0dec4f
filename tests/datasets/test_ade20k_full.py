"""The full ADE20K, as published in 2016/17 and in 2020/21."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agmm.datasets.reader import read_dataset
from agmm.errors import DataError
from tests.datasets.reading import masks

Draw = Callable[..., Path]
SKY, DOOR, NONE = (10, 3, 1), (20, 4, 2), (0, 0, 0)
ATR = '001 # 0 # 0 # sky # blue sky # ""\n002 # 0 # 1 # Door, entry # door # "open, red"\n'
ATR += '001 # 1 # 0 # knob # knob # ""\n'


def entry(index: object = 259, name: object = "sky", level: object = 0) -> dict[str, object]:
    return {"name_ndx": index, "name": name, "parts": {"part_level": level}}


OBJECTS = [entry(), entry(516, "Door, entry"), entry(9, "knob", 1)]


def write(root: Path, name: str, objects: object) -> None:
    content = {"annotation": {"object": objects}}
    (root / f"{name}.json").write_text(json.dumps(content))


def counts(rows: list[list[int]]) -> dict[int, int]:
    values, found = np.unique(rows, return_counts=True)
    return dict(zip(values.tolist(), found.tolist(), strict=True))


@pytest.fixture(params=["2017", "2021"])
def ade(request: pytest.FixtureRequest, tmp_path: Path, draw: Draw) -> Path:
    """One picture to train on and one to validate with, in the layout of the year."""
    base = "" if request.param == "2017" else "images/ADE/"
    for name in (f"{base}training/street/a", f"{base}validation/b"):
        draw(f"{name}.jpg")
        draw(f"{name}_seg.png", [[SKY, DOOR, DOOR, NONE]] * 3)
        draw(f"{name}_parts_1.png", [[SKY] * 4] * 3)
        if request.param == "2017":
            (tmp_path / f"{name}_atr.txt").write_text(ATR)
        else:
            write(tmp_path, name, OBJECTS)
    return tmp_path


def test_both_layouts_are_read(ade: Path) -> None:
    dataset = pickle.loads(pickle.dumps(read_dataset(ade)))
    assert dataset.classes.names == ("door", "sky")
    expected = [[1, 0, 0, 255]] * 3
    assert masks(dataset) == {"train": {"street/a": expected}, "val": {"b": expected}}
    assert dataset.unmatched == ()


def test_transparent_pixels_are_no_object(ade: Path, draw: Draw) -> None:
    (mask,) = ade.rglob("a_seg.png")
    row = [(*SKY, 255), (*DOOR, 0), (9, 9, 9, 0), (*DOOR, 255)]
    draw(str(mask), [row] * 3)
    assert masks(read_dataset(ade))["train"] == {"street/a": [[1, 255, 255, 0]] * 3}


def test_listed_classes_count_and_no_others(ade: Path) -> None:
    (ade / "classes.txt").write_text("Sky\nwall\n")
    dataset = read_dataset(ade)
    assert dataset.classes.names == ("Sky", "wall")
    assert masks(dataset)["val"]["b"] == [[0, 255, 255, 255]] * 3
    (ade / "dataset_meta.json").write_text('{"label_map": {"1": "sky", "0": "door"}}')
    assert masks(read_dataset(ade))["val"]["b"] == [[1, 0, 0, 255]] * 3


def test_two_folders_of_one_split_are_refused(ade: Path, draw: Draw) -> None:
    [folder] = (path for path in ade.rglob("training"))
    draw(f"{folder.relative_to(ade)}/../train/c.jpg")
    with pytest.raises(DataError, match=r"train and .*training: both are the split 'train'"):
        read_dataset(ade)


@pytest.mark.parametrize("place", ["training", "images/training", "images/ADE/train"])
def test_folders_of_one_split_in_two_places_are_refused(ade: Path, draw: Draw, place: str) -> None:
    """Also where the second has pictures only."""
    [folder] = (path for path in ade.rglob("training"))
    draw(f"{place}/c.jpg")
    if ade / place == folder:
        assert {record.name for record in read_dataset(ade).split("train")} == {"street/a", "c"}
        return
    both = "|".join(f"{a} and {b}" for a, b in ((folder, ade / place), (ade / place, folder)))
    with pytest.raises(DataError, match=f"^({both}): both are the split 'train'"):
        read_dataset(ade)


def test_splits_may_lie_in_several_places(ade: Path, draw: Draw) -> None:
    draw("images/test/c.jpg")
    dataset = read_dataset(ade)
    found = {split: [record.name for record in dataset.split(split)] for split in dataset.splits}
    assert found == {"train": ["street/a"], "val": ["b"], "test": ["c"]}


def test_blue_grows_with_the_number_of_the_object(tmp_path: Path, draw: Draw) -> None:
    draw("training/a.jpg")
    (tmp_path / "training/a_atr.txt").write_text(ATR)
    draw("training/a_seg.png", [[(10, 3, 40), (20, 4, 90), (20, 4, 90), (0, 0, 0)]] * 3)
    assert masks(read_dataset(tmp_path))["train"]["a"] == [[1, 0, 0, 255]] * 3


def test_latin_1_is_read(tmp_path: Path, draw: Draw) -> None:
    draw("training/a.jpg")
    draw("training/a_seg.png", [[SKY, DOOR, DOOR, NONE]] * 3)
    content = {"annotation": {"object": [entry(), entry(516, "café")]}}
    text = json.dumps(content, ensure_ascii=False)
    (tmp_path / "training/a.json").write_bytes(text.encode("latin-1"))
    assert read_dataset(tmp_path).classes.names == ("café", "sky")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("001 # 0 # 0 # sky # sky\n", r"a_atr.txt, line 1: must be 'number # part level"),
        ('one # 0 # 0 # sky # sky # ""\n', "line 1: must be 'number # part level"),
        ('001 # 0 # 0 #  # sky # ""\n', "line 1: the number 1 with the name '' is none"),
        (ATR + '002 # 0 # 0 # wall # wall # ""\n', "line 4: the number 2 .*'wall'.*another"),
        ('001 # 0 # 0 # sky # sky # ""\n', "the object or class 2, first at x=1, y=0, is not in"),
        ("", r"the object or class 1.* is not in a_atr.txt"),
    ],
)
def test_bad_text_is_told(tmp_path: Path, draw: Draw, text: str, message: str) -> None:
    draw("training/a.jpg")
    draw("training/a_seg.png", [[SKY, DOOR, DOOR, NONE]] * 3)
    (tmp_path / "training/a_atr.txt").write_text(text)
    (tmp_path / "classes.txt").write_text("sky\ndoor\n")
    label = read_dataset(tmp_path).splits["train"][0].labels["dense"]
    with pytest.raises(DataError, match=message):
        label()


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (None, "must have a list annotation.object"),
        ([entry(), 7], r"object 2: must have whole numbers name_ndx"),
        ([entry(True)], r"object 1: must have whole numbers name_ndx"),
        ([entry(259.5)], r"object 1: must have whole numbers name_ndx"),
        ([entry(name=None)], r"object 1: must have whole numbers name_ndx"),
        ([{**entry(), "parts": []}], r"object 1: must have whole numbers name_ndx"),
        ([entry(-1)], r"object 1: the number -1"),
        ([entry(), entry(259, "wall")], r"object 2: the number 259 .*another name"),
        ([entry()], r"the object or class 516, first at x=1, y=0, is not in a.json"),
        ([], r"the object or class 259"),
    ],
)
def test_bad_json_is_told(tmp_path: Path, draw: Draw, objects: object, message: str) -> None:
    draw("training/a.jpg")
    draw("training/a_seg.png", [[SKY, DOOR, DOOR, NONE]] * 3)
    write(tmp_path, "training/a", objects)
    (tmp_path / "classes.txt").write_text("sky\ndoor\n")
    label = read_dataset(tmp_path).splits["train"][0].labels["dense"]
    with pytest.raises(DataError, match=message):
        label()


def test_missing_and_unfitting_files_are_told(ade: Path, draw: Draw) -> None:
    (ade / "classes.txt").write_text("sky\n")
    base = next(ade.rglob("b_seg.png")).parent
    draw(str(base / "b_seg.png"), [[SKY] * 5] * 3)
    label = read_dataset(ade).splits["val"][0].labels["dense"]
    with pytest.raises(DataError, match=r"has 5x3 pixels .* has 4x3"):
        label()
    draw(str(base / "b_seg.png"), [[1] * 4] * 3)
    with pytest.raises(DataError, match="must have colours, which say class and object"):
        label()
    draw(str(base / "b_seg.png"), [[SKY] * 4] * 3)
    for path in (*base.glob("b_atr.txt"), *base.glob("b.json")):
        path.unlink()
    with pytest.raises(DataError, match="there is no such file"):
        read_dataset(ade).splits["val"][0].labels["dense"]()


def test_too_many_classes_are_told(tmp_path: Path, draw: Draw) -> None:
    draw("training/a.jpg")
    draw("training/a_seg.png", [[NONE] * 4] * 3)
    write(tmp_path, "training/a", [entry(k, f"name {k}") for k in range(1, 257)])
    with pytest.raises(DataError, match=r"have 256 classes, .* Write those that count"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("folder", "names", "train", "val"),
    [
        ("ade20k2017_dataset/dataset", ["person", "sky"], {0: 6, 1: 3, 255: 3}, {0: 3, 1: 6}),
        (
            "ade20k2017_dataset/dataset_with_meta_file",
            ["sky", "person", "license plate", "rim"],
            {0: 3, 1: 6, 255: 3},
            None,
        ),
        ("ade20k2020_dataset/dataset", ["car", "person"], {0: 15, 1: 5, 255: 5}, {0: 15, 1: 5}),
        (
            "ade20k2020_dataset/dataset_with_meta_file",
            ["car", "person", "door", "rim"],
            {0: 15, 1: 5, 255: 5},
            None,
        ),
    ],
)
def test_the_samples(
    shared: Path,
    folder: str,
    names: list[str],
    train: dict[int, int],
    val: dict[int, int] | None,
) -> None:
    dataset = read_dataset(shared / "data/formats" / folder)
    assert list(dataset.classes.names) == names
    found = masks(dataset)
    assert counts(found["train"]["street/1"]) == train
    assert set(found) == ({"train"} if val is None else {"train", "val"})
    if val is not None:
        unlabelled = 3 if "2017" in folder else 5
        assert counts(found["val"]["2"]) == {**val, 255: unlabelled}
