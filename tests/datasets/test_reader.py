"""The ``folder`` layout, and what is said when a folder has none."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from agmm.config import Format
from agmm.datasets.reader import FORMATS, read_dataset
from agmm.datasets.records import Dataset, Unmatched
from agmm.errors import ConfigError, DataError
from agmm.labels.annotations import Blocks, DenseMask, Points, Scribbles

Draw = Callable[..., Path]
LABEL = [[255, 0, 1, 255]] * 3


def names(dataset: Dataset) -> dict[str, list[str]]:
    return {split: [r.name for r in records] for split, records in dataset.splits.items()}


@pytest.mark.parametrize("format_", ["auto", "folder"])
def test_the_tiny_set_is_read(tiny: Path, format_: str) -> None:
    dataset = read_dataset(str(tiny), format=format_)
    assert dataset.root == tiny
    assert dataset.classes.names == ("sky", "road")
    assert names(dataset) == {"train": ["a", "b"], "val": ["c"]}
    clicks = dataset.splits["train"][0].labels["points"]()
    assert isinstance(clicks, Points)
    assert clicks.xy.tolist() == [[2, 1], [0, 2]]
    assert clicks.classes.tolist() == [0, 1]
    assert dataset.unmatched == ()
    assert dataset.skipped == ()


def test_every_form_is_found_where_it_may_lie(tiny: Path, draw: Draw) -> None:
    draw("scribbles/train/a.png", LABEL)
    draw("blocks/a.PNG", LABEL)
    draw("masks/train/a.png", LABEL)
    record = read_dataset(tiny).splits["train"][0]
    kinds = {form: type(read()) for form, read in record.labels.items()}
    expected = {"points": Points, "scribbles": Scribbles, "blocks": Blocks, "dense": DenseMask}
    assert kinds == expected


def test_records_can_be_pickled(tiny: Path) -> None:
    record = pickle.loads(pickle.dumps(read_dataset(tiny))).splits["val"][0]
    assert record.labels["dense"]().mask.tolist() == [[0, 0, 1, 1]] * 3


def test_without_folders_everything_is_to_train_on(tiny: Path, draw: Draw) -> None:
    (tiny / "images").rename(tiny / "before")
    for name in ("z.JPG", "Größe 1.Png", "b.c.webp"):
        draw(f"images/{name}")
    draw("points/b.c.png", LABEL)
    dataset = read_dataset(tiny)
    assert names(dataset) == {"train": ["Größe 1", "b.c", "z"]}
    assert list(dataset.splits["train"][1].labels) == ["points"]
    # No picture is left for the labels of the fixture.
    assert dataset.unmatched == (
        Unmatched("a", tiny / "points/a.png", "points", None),
        Unmatched("b", tiny / "points/b.png", "points", None),
        Unmatched("c", tiny / "masks/val/c.png", "dense", "val"),
    )


def test_the_folders_of_labels_may_say_the_split(tiny: Path, draw: Draw) -> None:
    for file in [*(tiny / "images").rglob("*.jpg")]:
        file.rename(tiny / "images" / file.name)
    for folder in ("train", "val"):
        (tiny / "images" / folder).rmdir()
    assert names(read_dataset(tiny)) == {"train": ["a", "b"], "val": ["c"]}
    draw("scribbles/train/c.png", LABEL)
    with pytest.raises(DataError, match=r"c.jpg: its labels .*train.c.png.* say two splits"):
        read_dataset(tiny)


@pytest.mark.parametrize("flat", [False, True])
def test_usual_spellings_of_splits_mean_them(tiny: Path, flat: bool) -> None:
    (tiny / "masks/val").rename(tiny / "masks/Validation")
    (tiny / "points/training").mkdir()
    (tiny / "points/a.png").rename(tiny / "points/training/a.png")
    if flat:
        for file in [*(tiny / "images").rglob("*.jpg")]:
            file.rename(tiny / "images" / file.name)
        (tiny / "images/train").rmdir()
        (tiny / "images/val").rmdir()
    else:
        (tiny / "images/train").rename(tiny / "images/training")
        (tiny / "images/val").rename(tiny / "images/valid")

    dataset = read_dataset(tiny)

    assert names(dataset) == {"train": ["a", "b"], "val": ["c"]}
    assert [list(record.labels) for record in dataset.splits["train"]] == [["points"]] * 2
    assert list(dataset.splits["val"][0].labels) == ["dense"]
    assert not dataset.unmatched


def test_names_may_have_folders(tiny: Path, draw: Draw) -> None:
    draw("images/train/bonn/a.jpg")
    draw("points/bonn/a.png", LABEL)
    draw("points/train/köln/a.png", LABEL)
    draw("points/köln/b.png", LABEL)
    dataset = read_dataset(tiny)
    assert names(dataset)["train"] == ["a", "b", "bonn/a"]
    assert "points" in dataset.splits["train"][2].labels
    assert dataset.unmatched == (
        Unmatched("köln/b", tiny / "points/köln/b.png", "points", None),
        Unmatched("köln/a", tiny / "points/train/köln/a.png", "points", "train"),
    )


def test_other_files_do_not_matter(tiny: Path, draw: Draw) -> None:
    (tiny / "tags.csv").write_text("image,tags\n")
    (tiny / "boxes.csv").write_text("image,class,xmin,ymin,xmax,ymax\n")
    (tiny / "points" / "notes.txt").write_text("drawn on a Sunday")
    draw("images/train/.hidden.jpg")
    assert names(read_dataset(tiny)) == {"train": ["a", "b"], "val": ["c"]}


@pytest.mark.parametrize("wrong", ["cvat", "label-studio", "labelme", "labelme-web", "voc"])
def test_a_wrong_format_is_told_beside_what_it_lacks(tiny: Path, wrong: str) -> None:
    with pytest.raises(DataError, match=f"The format '{wrong}' is known by .* looks like folder"):
        read_dataset(tiny, format=wrong)
    (tiny / "classes.txt").unlink()
    with pytest.raises(DataError, match=f"The format '{wrong}' is known by .* not look like it"):
        read_dataset(tiny, format=wrong)


def test_a_fault_in_the_right_format_is_told_alone(tiny: Path) -> None:
    (tiny / "classes.txt").write_text("sky\nsky\n")
    with pytest.raises(DataError) as caught:
        read_dataset(tiny, format="folder")
    assert "is known by" not in str(caught.value)


def test_links_are_followed(tiny: Path) -> None:
    (tiny / "images" / "train" / "d.jpg").symlink_to(tiny / "images" / "train" / "a.jpg")
    (tiny / "points" / "d.png").symlink_to(tiny / "points" / "a.png")
    assert list(read_dataset(tiny).splits["train"][2].labels) == ["points"]


def test_the_palette_of_the_masks_colours_the_classes(tiny: Path) -> None:
    image = Image.open(tiny / "masks/val/c.png").convert("L")
    image.putpalette([1, 2, 3, 4, 5, 6])
    image.save(tiny / "masks/val/c.png")
    assert read_dataset(tiny).classes.colors == ((1, 2, 3), (4, 5, 6))
    (tiny / "masks/val/c.png").write_bytes(b"broken")  # is told when it is needed
    assert read_dataset(tiny).classes.colors == ((0, 0, 0), (128, 0, 0))


def test_a_label_of_another_size_names_both_files(tiny: Path, draw: Draw) -> None:
    draw("points/a.png", [[0, 1]])
    with pytest.raises(DataError, match=r"a.png: has 2x1 .* its picture .*a.jpg has 4x3"):
        read_dataset(tiny).splits["train"][0].labels["points"]()


def test_a_split_that_is_not_there_is_named(tiny: Path) -> None:
    dataset = read_dataset(tiny)
    assert len(dataset.split("train")) == 2
    with pytest.raises(DataError, match=r"no pictures for the split 'test'; found: train \(2\)"):
        dataset.split("test")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("images/train/a.png", r"a.jpg and .*a.png: two files of one name"),
        ("points/a.PNG", r"two files of one name"),
        ("points/train/a.png", r"a.jpg: has two labels of the form points"),
        ("images/val/a.jpg", r"a.png: is the label of both .*train.a.jpg and .*val.a.jpg"),
        ("images/x.jpg", r"images: has pictures in itself and in folders"),
        ("images/training/d.jpg", r"train and .*training: both are the split 'train'"),
    ],
)
def test_what_is_not_clear_is_refused(tiny: Path, draw: Draw, extra: str, message: str) -> None:
    draw(extra, None if extra.startswith("images") else LABEL)
    with pytest.raises(DataError, match=message):
        read_dataset(tiny)


def test_missing_and_empty_folders_are_named(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(DataError, match=r"gone: there is no such folder. Correct the path"):
        read_dataset(tmp_path / "gone")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"empty: is empty. Put pictures into"):
        read_dataset(empty)
    (empty / "images").mkdir()
    with pytest.raises(DataError, match=r"images: there are no pictures in it"):
        read_dataset(empty, format="folder")
    (tiny / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"classes.txt: there is no such file"):
        read_dataset(tiny, format="folder")
    with pytest.raises(DataError, match=r"points: there is no such folder|images: there is no"):
        read_dataset(tiny / "points", format="folder")


def test_an_unknown_layout_says_what_it_looked_for(tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / f"entry{i:02}").mkdir()
    with pytest.raises(
        DataError,
        match=r"voc: .*; folder: images/ and classes.txt. Found entry00, .*entry09 and more",
    ):
        read_dataset(tmp_path)
    with pytest.raises(ConfigError, match=r"format must be one of auto, .*folder, .*but is 'yolo'"):
        read_dataset(tmp_path, format="yolo")


def test_camvid_is_read(shared: Path) -> None:
    dataset = read_dataset(shared / "data" / "camvid")
    assert {split: len(records) for split, records in dataset.splits.items()} == {
        "train": 367,
        "val": 101,
    }
    assert len(dataset.classes) == 11
    assert dataset.unmatched == ()
    record = dataset.splits["train"][0]
    assert set(record.labels) == {"points", "scribbles", "blocks", "dense"}
    assert set(dataset.splits["val"][0].labels) == {"dense"}
    clicks, dense = record.labels["points"](), record.labels["dense"]()
    assert isinstance(clicks, Points)
    assert isinstance(dense, DenseMask)
    x, y = clicks.xy.T
    assert len(clicks.classes) > 10
    assert np.array_equal(dense.mask[y, x], clicks.classes)


def test_the_command_line_knows_every_format() -> None:
    assert set(get_args(Format)) == set(FORMATS)
