"""The layout of ADE20K SceneParsing."""

import csv
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agmm.datasets.ade20k import ADE20K_CLASSES
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Unmatched
from agmm.errors import DataError
from tests.datasets.reading import mask, names

Draw = Callable[..., Path]


@pytest.fixture
def ade(tmp_path: Path, draw: Draw) -> Path:
    for name in ("training/ADE_train_1", "validation/ADE_val_1"):
        draw(f"images/{name}.jpg")
        draw(f"annotations/{name}.png", [[0, 1, 13, 150]] * 3)
    return tmp_path


@pytest.mark.parametrize("format_", ["auto", "ade20k"])
def test_the_layout_is_read(ade: Path, format_: str) -> None:
    dataset = pickle.loads(pickle.dumps(read_dataset(ade, format=format_)))
    assert names(dataset) == {
        "train": ["ADE_train_1"],
        "val": ["ADE_val_1"],
    }
    assert len(dataset.classes) == 150
    assert (dataset.classes.names[12], dataset.classes.names[149]) == ("person", "flag")
    assert mask(dataset.splits["val"][0]) == [[255, 0, 12, 149]] * 3
    assert dataset.unmatched == ()


@pytest.mark.parametrize("folder", ["images", "annotations"])
def test_two_folders_of_one_split_are_refused(ade: Path, draw: Draw, folder: str) -> None:
    draw(f"{folder}/train/ADE_train_1.png", [[2] * 4] * 3)
    message = rf"{folder}/train and .*{folder}/training: both are the split 'train'"
    with pytest.raises(DataError, match=message):
        read_dataset(ade)


def test_pictures_without_folders_are_to_train_on(tmp_path: Path, draw: Draw) -> None:
    draw("images/a.jpg")
    draw("annotations/ADE_1.png", [[1] * 4] * 3)
    draw("annotations/a.png", [[0, 1, 13, 150]] * 3)
    dataset = read_dataset(tmp_path)
    assert names(dataset) == {"train": ["a"]}
    assert mask(dataset.splits["train"][0]) == [[255, 0, 12, 149]] * 3
    assert [label.name for label in dataset.unmatched] == ["ADE_1"]


def test_other_names_and_labels_beside(ade: Path, draw: Draw) -> None:
    (ade / "classes.txt").write_text("\n".join(f"class {k}" for k in range(150)))
    draw("scribbles/train/ADE_train_1.png", [[255, 3, 255, 255]] * 3)
    extra = draw("annotations/validation/ADE_val_9.png", [[1] * 4] * 3)
    dataset = read_dataset(ade)
    assert dataset.classes.names[3] == "class 3"
    assert set(dataset.splits["train"][0].labels) == {"scribbles", "dense"}
    assert dataset.unmatched == (Unmatched("ADE_val_9", extra, "dense", "val"),)


def test_a_mask_that_is_no_png_is_told_and_not_left_out(ade: Path) -> None:
    file = ade / "annotations/training/ADE_train_1.png"
    Image.open(file).save(file.with_suffix(".tif"))
    with pytest.raises(DataError, match=r"1\.png and .*1\.tif: two files of one name"):
        read_dataset(ade)
    file.unlink()
    with pytest.raises(DataError, match=r"1\.tif: a mask must be PNG"):
        read_dataset(ade).split("train")[0].labels["dense"]()


def test_labels_beside_may_spell_the_splits_as_the_pictures_do(ade: Path, draw: Draw) -> None:
    draw("scribbles/training/ADE_train_1.png", [[255, 3, 255, 255]] * 3)
    draw("points/validation/ADE_val_1.png", [[255, 3, 255, 255]] + [[255] * 4] * 2)
    dataset = read_dataset(ade)
    assert set(dataset.split("train")[0].labels) == {"scribbles", "dense"}
    assert set(dataset.split("val")[0].labels) == {"points", "dense"}
    assert dataset.unmatched == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0, 151, 1, 1]] * 3, r"the value 151 on 3 pixels, first at x=1, y=0; .*0 = other"),
        # A mask that was converted already has 255 for what is other.
        ([[0, 255, 1, 1]] * 3, r"the value 255 on 3 pixels"),
        ([[[1, 2, 3]] * 4] * 3, "has colours, but must have grey values"),
        ([[1] * 3] * 3, r"has 3x3 pixels .* has 4x3"),
    ],
)
def test_bad_masks_are_told(ade: Path, draw: Draw, values: object, message: str) -> None:
    draw("annotations/training/ADE_train_1.png", values)
    with pytest.raises(DataError, match=message):
        read_dataset(ade).splits["train"][0].labels["dense"]()


def test_the_real_sample(shared: Path) -> None:
    root = shared / "data/formats/ade20k_sceneparsing"
    records = read_dataset(root).splits["train"]
    assert [r.name for r in records] == [f"ADE_val_0000000{n}" for n in (1, 2, 3)]
    values, counts = np.unique(mask(records[0]), return_counts=True)
    # Values 0, 1, 2, 3, 5, 7, 10, 18 of the file: other, wall, building, sky, tree, road, grass,
    # plant.
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {
        0: 14538,
        1: 123406,
        2: 134492,
        4: 8784,
        6: 1755,
        9: 53099,
        17: 10009,
        255: 3613,
    }
    assert [ADE20K_CLASSES[k] for k in (1, 4, 6, 9, 17)] == [
        *("building", "tree", "road", "grass", "plant")
    ]


def test_the_names_are_the_first_ones_of_the_table(shared: Path) -> None:
    path = shared / "data/formats/ade20k_sceneparsing/objectInfo150.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["Idx"]) for row in rows] == list(range(1, 151))
    for name, row in zip(ADE20K_CLASSES, rows, strict=True):
        assert f"{row['Name']};".startswith(f"{name.replace(' ', ';')};")
    assert len(set(ADE20K_CLASSES)) == 150
