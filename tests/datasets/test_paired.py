"""The layouts of mmsegmentation and of Datumaro: a folder of pictures, and one of masks."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Unmatched
from agmm.errors import DataError
from tests.datasets.reading import mask, names

Draw = Callable[..., Path]
META = '{"labels": ["background", "cat"], "label_map": {"0": "background", "1": "cat"}'
COLORED = META + ', "segmentation_colors": [[0, 0, 0], [9, 8, 7]], "background_label": "0"}'


@pytest.fixture
def mmseg(tmp_path: Path, draw: Draw) -> Path:
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    for name in ("train/a", "val/b"):
        draw(f"img_dir/{name}.jpg")
        draw(f"ann_dir/{name}.png", [[0, 1, 255, 0]] * 3)
    return tmp_path


@pytest.mark.parametrize("format_", ["auto", "mmseg"])
def test_mmsegmentation(mmseg: Path, draw: Draw, format_: str) -> None:
    extra = draw("ann_dir/val/x.png", [[0] * 4] * 3)
    dataset = pickle.loads(pickle.dumps(read_dataset(mmseg, format=format_)))
    assert names(dataset) == {"train": ["a"], "val": ["b"]}
    assert dataset.classes.names == ("sky", "road")
    assert mask(dataset.splits["val"][0]) == [[0, 1, 255, 0]] * 3  # 0 is a class
    assert dataset.unmatched == (Unmatched("x", extra, "dense", "val"),)


def test_mmsegmentation_without_folders(tmp_path: Path, draw: Draw) -> None:
    (tmp_path / "dataset_meta.json").write_text('{"labels": ["sky", "road"]}')
    draw("img_dir/a.jpg")
    draw("ann_dir/a.png", [[0, 1, 255, 0]] * 3)
    dataset = read_dataset(tmp_path)
    assert names(dataset) == {"train": ["a"]}
    assert mask(dataset.splits["train"][0]) == [[0, 1, 255, 0]] * 3


def test_mmsegmentation_with_other_spellings_of_the_splits(tmp_path: Path, draw: Draw) -> None:
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    for name in ("training/a", "validation/b", "monday/c"):
        draw(f"img_dir/{name}.jpg")
        draw(f"ann_dir/{name}.png", [[0, 1, 255, 0]] * 3)
    draw("scribbles/train/a.png", [[1, 255, 255, 255]] * 3)
    dataset = read_dataset(tmp_path)
    assert names(dataset) == {"monday": ["c"], "train": ["a"], "val": ["b"]}
    assert set(dataset.split("train")[0].labels) == {"scribbles", "dense"}
    assert mask(dataset.split("val")[0]) == [[0, 1, 255, 0]] * 3
    assert dataset.unmatched == ()
    draw("img_dir/train/d.jpg")
    with pytest.raises(DataError, match=r"train and .*training: both are the split 'train'"):
        read_dataset(tmp_path)


def test_labels_beside_may_spell_the_splits_as_the_pictures_do(mmseg: Path, draw: Draw) -> None:
    for folder in ("img_dir", "ann_dir"):
        (mmseg / folder / "train").rename(mmseg / folder / "training")
    file = draw("scribbles/training/a.png", [[1, 255, 255, 255]] * 3)
    draw("points/validation/b.png", [[255] * 4] * 3)
    extra = draw("points/Validation/z.png", [[255] * 4] * 3)
    (mmseg / "tags.csv").write_text("image,tags\ntraining/a.jpg,sky\n")
    dataset = read_dataset(mmseg)
    assert set(dataset.split("train")[0].labels) == {"scribbles", "tags", "dense"}
    assert set(dataset.split("val")[0].labels) == {"points", "dense"}
    assert dataset.unmatched == (Unmatched("z", extra, "points", "val"),)
    other = draw("scribbles/train/a.png", [[0, 255, 255, 255]] * 3)
    message = rf"{other} and {file}: two labels of one form for 'train/a'"
    with pytest.raises(DataError, match=message):
        read_dataset(mmseg)


def test_mmsegmentation_needs_classes(mmseg: Path) -> None:
    (mmseg / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"classes\.txt: there is no such file"):
        read_dataset(mmseg)


@pytest.mark.parametrize("indices", [False, True])
def test_datumaro(tmp_path: Path, draw: Draw, indices: bool) -> None:
    (tmp_path / "dataset_meta.json").write_text(COLORED)
    draw("images/a.jpg")
    colors = [(0, 0, 0), (9, 8, 7), (224, 224, 192), (0, 0, 0)]
    draw("masks/a.png", [[0, 1, 255, 0] if indices else colors] * 3)
    dataset = pickle.loads(pickle.dumps(read_dataset(tmp_path)))
    assert names(dataset) == {"train": ["a"]}
    assert dataset.classes.names == ("background", "cat")
    assert dataset.classes.colors == ((0, 0, 0), (9, 8, 7))
    assert dataset.classes.background == 0
    assert mask(dataset.splits["train"][0]) == [[0, 1, 255, 0]] * 3


def test_datumaro_with_folders_of_splits(tmp_path: Path, draw: Draw) -> None:
    for split in ("train", "validation"):
        draw(f"{split}/images/a.jpg")
        draw(f"{split}/masks/a.png", [[0, 1, 255, 0]] * 3)
        (tmp_path / split / "dataset_meta.json").write_text(META + "}")
    dataset = read_dataset(tmp_path)
    assert names(dataset) == {"train": ["a"], "val": ["a"]}
    assert mask(dataset.splits["val"][0]) == [[0, 1, 255, 0]] * 3
    (tmp_path / "train/dataset_meta.json").write_text('{"labels": ["cat", "background"]}')
    with pytest.raises(DataError, match="has other classes than"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("folders", [("train", "val"), ("train", "validation", "monday")])
def test_datumaro_with_splits_inside_of_images(
    tmp_path: Path, draw: Draw, folders: tuple[str, ...]
) -> None:
    """As in the folder layout, whose classes may be named in dataset_meta.json too."""
    (tmp_path / "dataset_meta.json").write_text(META + "}")
    (tmp_path / "classes.txt").write_text("background\ncat\n")
    for folder in folders:
        draw(f"images/{folder}/a.jpg")
        draw(f"masks/{folder}/a.png", [[0, 1, 255, 0]] * 3)
    dataset = read_dataset(tmp_path)
    assert (dataset.format, dataset.unmatched) == ("datumaro", ())
    assert {*names(dataset)} == {"train", "val", *folders[2:]}
    assert [len(records) for records in dataset.splits.values()] == [1] * len(folders)
    assert mask(dataset.split("val")[0]) == [[0, 1, 255, 0]] * 3
    draw("images/b.jpg")
    with pytest.raises(DataError, match="has pictures in itself and in folders"):
        read_dataset(tmp_path)


def test_datumaro_with_other_folders_inside_of_images(tmp_path: Path, draw: Draw) -> None:
    (tmp_path / "dataset_meta.json").write_text(META + "}")
    for name in ("a", "monday/b"):
        draw(f"images/{name}.jpg")
        draw(f"masks/{name}.png", [[0, 1, 255, 0]] * 3)
    dataset = read_dataset(tmp_path)
    assert names(dataset) == {"train": ["a", "monday/b"]}
    assert dataset.unmatched == ()


def test_datumaro_with_two_folders_of_one_split(tmp_path: Path, draw: Draw) -> None:
    for folder in ("default", "train"):
        draw(f"{folder}/images/{folder}.jpg")
        draw(f"{folder}/masks/{folder}.png", [[0, 1, 255, 0]] * 3)
        (tmp_path / folder / "dataset_meta.json").write_text(META + "}")
    with pytest.raises(DataError, match=r"default and .*train: both are the split 'train'"):
        read_dataset(tmp_path)


def test_no_folder_of_datumaro_is_left_out(tmp_path: Path, draw: Draw) -> None:
    """A split may have strokes in place of masks, but needs its classes."""
    for folder in ("train", "val"):
        draw(f"{folder}/images/a.jpg")
        (tmp_path / folder / "dataset_meta.json").write_text(META + "}")
    draw("val/masks/a.png", [[0, 1, 255, 0]] * 3)
    lost = draw("test/masks/b.png", [[0] * 4] * 3)
    draw("scribbles/train/a.png", [[1, 255, 255, 255]] * 3)
    with pytest.raises(DataError, match=r"test/dataset_meta\.json: must be there, beside"):
        read_dataset(tmp_path)
    (tmp_path / "test/dataset_meta.json").write_text(META + "}")
    dataset = read_dataset(tmp_path)
    assert names(dataset) == {"train": ["a"], "val": ["a"]}
    assert set(dataset.split("train")[0].labels) == {"scribbles"}
    assert dataset.unmatched == (Unmatched("test/b", lost, "dense", None),)


def test_datumaro_beside_folders_of_splits_is_refused(tmp_path: Path, draw: Draw) -> None:
    for folder in (".", "val"):
        draw(f"{folder}/images/a.jpg")
        draw(f"{folder}/masks/a.png", [[0] * 4] * 3)
        (tmp_path / folder / "dataset_meta.json").write_text(META + "}")
    with pytest.raises(DataError, match=r"in itself and in folders, such as .*val, so that their"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("format_", ["auto", "datumaro"])
def test_datumaro_needs_its_classes(tmp_path: Path, draw: Draw, format_: str) -> None:
    draw("images/a.jpg")
    draw("masks/a.png", [[0] * 4] * 3)
    message = "must be there, beside images/" if format_ == "datumaro" else "no layout that is"
    with pytest.raises(DataError, match=message):
        read_dataset(tmp_path, format=format_)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("[1, 2]", "must have label_map"),
        ('{"labels": "cat"}', "must have label_map"),
        ('{"labels": ["cat", 3]}', "must have label_map"),
        ('{"labels": [" "]}', "must have label_map"),
        ('{"label_map": {"0": "cat", "2": "dog"}}', r"the indices of label_map must be 0\.\.1"),
        ('{"label_map": {"0": "cat", "0": "dog"}}', "the key '0' is there twice"),
        ('{"labels": []}', "there are 0"),
        ('{"labels": ["cat", "Cat"]}', "dataset_meta.json: classes: the name"),
        ('{"labels": ["cat"], "segmentation_colors": {"0": 1}}', "must be a list"),
        ('{"labels": ["cat"], "segmentation_colors": [[1, 2]]}', r"the colour \[1, 2\] is none"),
        ('{"labels": ["cat"], "segmentation_colors": [[1, 2, true]]}', "is none"),
        ('{"labels": ["cat"], "segmentation_colors": [[1, 2, 256]]}', "channels are 0..255"),
        ('{"labels": ["cat"], "segmentation_colors": [[1, 2, 3], [4, 5, 6]]}', "1 names, but 2"),
    ],
)
def test_bad_lists_of_classes_are_told(tmp_path: Path, draw: Draw, text: str, message: str) -> None:
    draw("images/a.jpg")
    draw("masks/a.png", [[0] * 4] * 3)
    (tmp_path / "dataset_meta.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[2] * 4] * 3, "the value 2 on 12 pixels"),
        ([[(1, 2, 3)] * 4] * 3, r"the colour \(1, 2, 3\) is that of no class"),
        ([[0] * 5] * 3, "has 5x3 pixels"),
    ],
)
def test_bad_masks_are_told(tmp_path: Path, draw: Draw, values: object, message: str) -> None:
    draw("images/a.jpg")
    draw("masks/a.png", values)
    (tmp_path / "dataset_meta.json").write_text(COLORED)
    with pytest.raises(DataError, match=message):
        read_dataset(tmp_path).splits["train"][0].labels["dense"]()
