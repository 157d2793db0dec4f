"""The lists of PASCAL VOC with the masks of SBD."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agmm.datasets.reader import read_dataset
from agmm.errors import DataError
from tests.datasets.reading import masks

Draw = Callable[..., Path]
OFFICIAL, AUGMENTED = [[0, 8, 8, 255]] * 3, [[0, 8, 8, 8]] * 3


@pytest.fixture
def sbd(tmp_path: Path, draw: Draw) -> Path:
    """One official picture to train on and one of SBD, one to validate with, and their lists."""
    for name in "abc":
        draw(f"JPEGImages/{name}.jpg")
        draw(f"SegmentationClassAug/{name}.png", AUGMENTED)
    for name in "ac":
        draw(f"SegmentationClass/{name}.png", OFFICIAL)
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    for name, text in (("train", "a\n"), ("val", "c\n"), ("trainval", "a\nc\n")):
        (tmp_path / f"ImageSets/Segmentation/{name}.txt").write_text(text)
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / f"ImageSets/Segmentation/{name}.txt").write_text(text)


@pytest.mark.parametrize("name", ["train_aug", "trainaug"])
def test_the_longer_list_takes_the_place_of_train(sbd: Path, name: str) -> None:
    write(sbd, name, "a\nb\n")
    write(sbd, "trainval_aug", "a\nb\nc\n")
    dataset = read_dataset(sbd)
    assert masks(dataset) == {"train": {"a": OFFICIAL, "b": AUGMENTED}, "val": {"c": OFFICIAL}}
    assert list(dataset.splits) == ["train", "val"]


def test_lines_that_name_two_files(sbd: Path) -> None:
    lines = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n" for name in "ab"]
    write(sbd, "train_aug", "".join(lines))
    assert masks(read_dataset(sbd))["train"] == {"a": AUGMENTED, "b": AUGMENTED}


def test_without_the_masks_the_list_is_a_split_of_its_own(sbd: Path) -> None:
    (sbd / "SegmentationClassAug").rename(sbd / "elsewhere")
    write(sbd, "train_aug", "a\nb\n")
    dataset = read_dataset(sbd)
    assert {split: len(records) for split, records in dataset.splits.items()} == {
        "train": 1,
        "val": 1,
        "train_aug": 2,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b\n", r"train_aug.txt: takes the place of train.txt, .* has not its 'a' \(1 such"),
        ("a\nb\nc\n", r"val.txt: 'c' is in train_aug.txt too"),
        ("/JPEGImages/z.jpg /SegmentationClassAug/z.png\n", "there is no picture JPEGImages/z"),
        ("/JPEGImages/a.jpg /SegmentationClassAug/z.png\n", "there is no mask Segm"),
        ("/JPEGImages/a.jpg /SegmentationClassAug/b.png\n", "has not the name of its picture"),
        ("/JPEGImages/a.jpg ../../b.png\n", "leads out of the data folder"),
        ("/JPEGImages/a.jpg b c\n", "must name a picture, or a picture and its mask"),
        ("a\n/JPEGImages/a.jpg\n", "'a' is in line 1 too"),
    ],
)
def test_bad_lists_are_told(sbd: Path, text: str, message: str) -> None:
    write(sbd, "train_aug", text)
    with pytest.raises(DataError, match=message):
        read_dataset(sbd)


def test_masks_that_differ_between_lists_are_told(sbd: Path) -> None:
    write(sbd, "train", "/JPEGImages/a.jpg /SegmentationClass/a.png\n")
    write(sbd, "train_aug", "a\nb\n")
    assert masks(read_dataset(sbd))["train"]["a"] == OFFICIAL
    write(sbd, "train_aug", "/JPEGImages/a.jpg /SegmentationClassAug/a.png\nb\n")
    with pytest.raises(DataError, match="another list names another one"):
        read_dataset(sbd)
