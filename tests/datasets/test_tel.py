"""The layout of Tree Energy Loss."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agmm.datasets.mapping import mapped
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Unmatched
from agmm.errors import DataError
from agmm.labels.annotations import Blocks

Draw = Callable[..., Path]


@pytest.fixture
def tel(tmp_path: Path, draw: Draw) -> Path:
    (tmp_path / "classes.txt").write_text("other\nwall\nsky\n")
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        draw(f"{split}/image/{name}.jpg")
        draw(f"{split}/label/{name}.png", [[0, 1, 2, 255]] * 3)
    draw("train/sparse_label/block10/a.png", [[0, 1, 255, 255]] * 3)
    draw("train/sparse_label/block10/z.png", [[255] * 4] * 3)
    return tmp_path


def test_blocks_and_dense_masks_are_read(tel: Path) -> None:
    dataset = read_dataset(tel)
    assert {
        split: {record.name: set(record.labels) for record in records}
        for split, records in dataset.splits.items()
    } == {"train": {"a": {"blocks", "dense"}, "b": {"dense"}}, "val": {"c": {"dense"}}}
    file = tel / "train/sparse_label/block10/z.png"
    assert dataset.unmatched == (Unmatched("z", file, "blocks", "train"),)
    blocks = mapped(dataset, {"other": None}).split("train")[0].labels["blocks"]()
    assert isinstance(blocks, Blocks)
    assert blocks.mask.tolist() == [[255, 0, 255, 255]] * 3


def test_every_split_is_read(tel: Path, draw: Draw) -> None:
    (tel / "val").rename(tel / "validation")
    draw("test/image/d.jpg")
    lost = draw("monday/label/e.png", [[0] * 4] * 3)
    dataset = read_dataset(tel)
    assert {split: len(records) for split, records in dataset.splits.items()} == {
        "test": 1,
        "train": 2,
        "val": 1,
    }
    assert set(dataset.split("val")[0].labels) == {"dense"}
    assert Unmatched("monday/e", lost, "dense", None) in dataset.unmatched
    draw("val/image/c.jpg")
    with pytest.raises(DataError, match=r"val and .*validation: both are the split 'val'"):
        read_dataset(tel)


def test_several_shares_of_blocks_are_refused(tel: Path, draw: Draw) -> None:
    draw("train/sparse_label/block50/a.png", [[0, 1, 255, 255]] * 3)
    with pytest.raises(DataError, match="several kinds of blocks, block10, block50"):
        read_dataset(tel)


def test_classes_are_needed(tel: Path) -> None:
    (tel / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"classes\.txt: there is no such file"):
        read_dataset(tel)
