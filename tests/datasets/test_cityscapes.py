"""The layout of Cityscapes."""

import pickle
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agmm.datasets.cityscapes import CITYSCAPES
from agmm.datasets.reader import checked, read_dataset
from agmm.datasets.records import Dataset, Record, Unmatched
from agmm.errors import DataError
from agmm.labels.annotations import Blocks, DenseMask

Draw = Callable[..., Path]


def mask_of(record: Record, form: str = "dense") -> np.ndarray:
    label = record.labels[form]()  # type: ignore[index]
    assert isinstance(label, DenseMask | Blocks)
    return label.mask


def counts(record: Record) -> dict[int, int]:
    values, found = np.unique(mask_of(record), return_counts=True)
    return dict(zip(values.tolist(), found.tolist(), strict=True))


def put(
    draw: Draw, name: str, values: object, kind: str = "labelIds", folder: str = "gtFine"
) -> Path:
    """Write the mask of the picture "SPLIT/CITY/NAME"."""
    return draw(f"{folder}/{name}_{folder}_{kind}.png", values)


@pytest.fixture
def city(tmp_path: Path, draw: Draw) -> Path:
    """Two pictures to train on, one to validate with, and one to test with, as published."""
    for name in ("train/aa/a", "train/aa/b", "val/bb/c", "test/cc/d"):
        draw(f"leftImg8bit/{name}_leftImg8bit.png")
        test = name.startswith("test")
        put(draw, name, [[0, 1, 2, 3]] * 3 if test else [[7, 33, 5, 0]] * 3)
        draw(f"gtFine/{name}_gtFine_color.png")
    return tmp_path


@pytest.mark.parametrize("format_", ["auto", "cityscapes"])
def test_the_layout_is_read(city: Path, format_: str) -> None:
    dataset = pickle.loads(pickle.dumps(read_dataset(city, format=format_)))
    assert {s: [r.name for r in records] for s, records in dataset.splits.items()} == {
        "test": ["cc/d"],
        "train": ["aa/a", "aa/b"],
        "val": ["bb/c"],
    }
    assert dataset.classes.names[:2] == ("road", "sidewalk")
    assert dataset.classes.names[18] == "bicycle"
    assert dataset.classes.colors[13] == (0, 0, 142)
    assert len(dataset.classes) == 19
    assert mask_of(dataset.splits["train"][0]).tolist() == [[0, 18, 255, 255]] * 3
    assert dataset.unmatched == ()


def test_other_spellings_of_the_splits(city: Path) -> None:
    for folder in ("leftImg8bit", "gtFine"):
        (city / folder / "val").rename(city / folder / "validation")
    [record] = read_dataset(city).split("val")
    assert mask_of(record).tolist() == [[0, 18, 255, 255]] * 3


def test_the_test_split_as_published_has_no_labels_and_no_fault(city: Path) -> None:
    dataset = read_dataset(city)
    assert dict(dataset.splits["test"][0].labels) == {}
    assert checked(dataset, {"train": ("dense",), "val": ("dense",)}).skipped == ()


def test_a_test_split_with_labels_keeps_them(city: Path, draw: Draw) -> None:
    draw("leftImg8bit/test/cc/e_leftImg8bit.png")
    put(draw, "test/cc/e", [[26] * 4] * 3)
    d, e = read_dataset(city).splits["test"]
    assert counts(d) == {255: 12}
    assert counts(e) == {13: 12}


def test_ids_and_objects(city: Path, draw: Draw) -> None:
    (city / "gtFine/train/aa/a_gtFine_labelIds.png").unlink()
    (city / "gtFine/train/aa/b_gtFine_labelIds.png").unlink()
    put(draw, "train/aa/a", [[0, 18, 19, 255]] * 3, "labelTrainIds")
    put(draw, "train/aa/a", [[9] * 4] * 3, "instanceIds")  # not taken: there are train ids
    values = np.array([[7, 26001, 33999, 5]] * 3, np.uint16)
    Image.fromarray(values).save(city / "gtFine/train/aa/b_gtFine_instanceIds.png")
    a, b = read_dataset(city).splits["train"]
    assert mask_of(a).tolist() == [[0, 18, 255, 255]] * 3
    assert mask_of(b).tolist() == [[0, 13, 18, 255]] * 3


def test_transparent_pixels_have_no_id(city: Path) -> None:
    """Not even one that there is not, as a program may write anything below."""
    pixels = np.array([[[7, 255], [7, 0], [99, 0], [33, 1]]] * 3, np.uint8)
    Image.fromarray(pixels).save(city / "gtFine/train/aa/a_gtFine_labelIds.png")
    assert mask_of(read_dataset(city).splits["train"][0]).tolist() == [[0, 255, 255, 18]] * 3


def test_fine_masks_come_before_coarse_ones_which_are_blocks_too(city: Path, draw: Draw) -> None:
    (city / "gtFine/train/aa/b_gtFine_labelIds.png").unlink()
    for name in ("train/aa/a", "train/aa/b", "train_extra/zz/z"):
        put(draw, name, [[0, 0, 11, 11]] * 3, folder="gtCoarse")
    dataset = read_dataset(city)
    a, b = dataset.splits["train"]
    assert mask_of(a).tolist() == [[0, 18, 255, 255]] * 3
    assert mask_of(b).tolist() == [[255, 255, 2, 2]] * 3
    for record in (a, b):
        assert isinstance(record.labels["blocks"](), Blocks)
        assert mask_of(record, "blocks").tolist() == [[255, 255, 2, 2]] * 3
    assert dataset.unmatched == ()  # of train_extra there is no picture at all
    draw("leftImg8bit/train_extra/zz/z_leftImg8bit.png")
    assert counts(read_dataset(city).splits["train_extra"][0]) == {2: 6, 255: 6}


def test_weak_labels_may_lie_beside(city: Path, draw: Draw) -> None:
    draw("scribbles/train/aa/a.png", [[255, 18, 255, 255]] * 3)
    draw("points/aa/b.png", [[255, 255, 255, 1]] + [[255] * 4] * 2)
    a, b = read_dataset(city).splits["train"]
    assert set(a.labels) == {"dense", "scribbles"}
    assert set(b.labels) == {"dense", "points"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("leftImg8bit/train/aa/a.png", "leftImg8bit/train/aa/a_leftImg8bit.png"),
        ("gtFine/train/aa/a_gtFine_labelIds.png", "gtFine/train/aa/a_labelIds.png"),
        ("gtCoarse/train/aa/a_gtCoarse_labelIds.png", "gtCoarse/train/aa/a_labelIds.png"),
    ],
)
def test_two_files_of_one_name_are_refused(city: Path, draw: Draw, first: str, second: str) -> None:
    for name in (first, second):
        draw(name, None if name.startswith("left") else [[7] * 4] * 3)
    with pytest.raises(DataError, match=f"{first} and .*{second}: two files of one name"):
        read_dataset(city)


def test_a_mask_that_is_no_png_is_told_and_not_left_out(city: Path) -> None:
    file = city / "gtFine/train/aa/a_gtFine_labelIds.png"
    Image.open(file).save(file.with_suffix(".tif"))
    file.unlink()
    with pytest.raises(DataError, match=r"labelIds\.tif: a mask must be PNG"):
        mask_of(read_dataset(city).split("train")[0])


def test_a_mask_without_a_picture_is_reported(city: Path, draw: Draw) -> None:
    file = put(draw, "val/bb/x", [[7] * 4] * 3)
    assert read_dataset(city).unmatched == (Unmatched("bb/x", file, "dense", "val"),)


@pytest.mark.parametrize(
    "name",
    [
        "gtFine/train/aa/a_gtFine_labelids.png",
        "gtFine/train/aa/a_gtFine_trainIds.tif",
        "gtFine/train/aa/a_mask.png",
        "gtFine/train/aa/a.png",
        "gtFine/train/aa/a_leftImg8bit.png",
    ],
)
def test_a_mask_of_an_unknown_name_is_refused(city: Path, draw: Draw, name: str) -> None:
    """Also if the picture had a coarse mask to fall back to; but not beside a fine one."""
    put(draw, "train/aa/a", [[7] * 4] * 3, folder="gtCoarse")
    file = draw(name, [[7] * 4] * 3)
    assert set(read_dataset(city).split("train")[0].labels) == {"blocks", "dense"}
    (city / "gtFine/train/aa/a_gtFine_labelIds.png").unlink()
    picture = city / "leftImg8bit/train/aa/a_leftImg8bit.png"
    with pytest.raises(DataError) as caught:
        read_dataset(city)
    assert str(caught.value).startswith(f"{file}: is not called as a mask of Cityscapes, and")
    assert f"{picture} has no other in {city / 'gtFine'} (1 such file)" in str(caught.value)
    assert "a_gtFine_labelIds.png" in str(caught.value)


def test_a_coarse_mask_of_an_unknown_name_is_refused(city: Path, draw: Draw) -> None:
    for name in ("a", "b"):
        draw(f"gtCoarse/train/aa/{name}_gtCoarse_ids.png", [[7] * 4] * 3)
    with pytest.raises(DataError, match=r"a_gtCoarse_ids\.png: is not called .*\(2 such files\)"):
        read_dataset(city)


@pytest.mark.parametrize("kind", ["color", "instanceTrainIds", "panoptic"])
def test_known_companions_of_masks_are_not_read(city: Path, draw: Draw, kind: str) -> None:
    """Also of a picture without any mask, or of none."""
    (city / "gtFine/train/aa/a_gtFine_labelIds.png").unlink()
    for name in "axy":
        draw(f"gtFine/train/aa/{name}_gtFine_{kind}.png")
    dataset = read_dataset(city)
    assert [set(record.labels) for record in dataset.split("train")] == [set(), {"dense"}]
    assert dataset.unmatched == ()


def test_a_file_of_an_unknown_name_without_a_picture_is_reported(city: Path, draw: Draw) -> None:
    x = draw("gtFine/val/bb/x_gtFine_ids.png", [[7] * 4] * 3)
    y = draw("gtFine/y_gtFine_labelIds.png", [[7] * 4] * 3)
    draw("gtFine/demoVideo/bb/z_gtFine_ids.png", [[7] * 4] * 3)  # a split without pictures
    assert read_dataset(city).unmatched == (
        Unmatched("bb/x_gtFine_ids", x, "dense", "val"),
        Unmatched("y", y, "dense", None),
    )


@pytest.mark.parametrize("folder", ["gtFine", "gtCoarse"])
@pytest.mark.parametrize("split", ["trian", "aa"])
def test_a_folder_of_masks_that_is_no_split_is_refused(
    city: Path, draw: Draw, folder: str, split: str
) -> None:
    for name in "xy":
        put(draw, f"{split}/aa/{name}", [[7] * 4] * 3, folder=folder)
        put(draw, f"{split}/aa/{name}", None, "color", folder)
    draw(f"{folder}/{split}/aa/z_{folder}_ids.png", [[7] * 4] * 3)  # may be a mask as well
    with pytest.raises(DataError) as caught:
        read_dataset(city)
    assert str(caught.value) == (
        f"{city / folder / split}: 3 masks of no split: leftImg8bit/ has the pictures of test,"
        " train, val. Name the folder as one of these, add its pictures, or take it away."
    )
    draw(f"leftImg8bit/{split}/aa/x_leftImg8bit.png")
    assert set(read_dataset(city).split(split)[0].labels) >= {"dense"}


def test_masks_of_published_splits_need_no_pictures(city: Path, draw: Draw) -> None:
    before = read_dataset(city)
    shutil.rmtree(city / "leftImg8bit/val")  # downloaded in part
    put(draw, "train_extra/zz/z", [[7] * 4] * 3, folder="gtCoarse")
    put(draw, "demoVideo/zz/z", [[7] * 4] * 3)
    draw("gtFine/pictures/z_gtFine_color.png")  # no mask
    dataset = read_dataset(city)
    assert {**dataset.splits, "val": before.splits["val"]}.keys() == before.splits.keys()
    assert [r.name for r in dataset.split("train")] == [r.name for r in before.split("train")]
    assert dataset.unmatched == ()


def test_masks_of_unknown_names_beside_pictures_without_folders(tmp_path: Path, draw: Draw) -> None:
    draw("leftImg8bit/a_leftImg8bit.png")
    draw("gtFine/a_gtFine_labels.png", [[7] * 4] * 3)
    with pytest.raises(DataError, match=r"a_gtFine_labels\.png: is not called as a mask"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (
            [[7, 34, 0, 0]] * 3,
            "labelIds",
            r"the value 34 on 3 pixels, first at x=1, y=0; .*0\.\.33",
        ),
        ([[7, 20, 0, 0]] * 3, "labelTrainIds", r"the value 20 on 3 pixels.*train ids"),
        ([[7, 200, 0, 0]] * 3, "instanceIds", r"the value 200 on 3 pixels"),
        ([[[7, 7, 7]] * 4] * 3, "labelIds", "has colours, but must have grey values"),
        ([[7] * 5] * 3, "labelIds", r"has 5x3 pixels .* has 4x3"),
    ],
)
def test_bad_masks_are_told(
    city: Path, draw: Draw, values: object, kind: str, message: str
) -> None:
    (city / "gtFine/train/aa/a_gtFine_labelIds.png").unlink()
    put(draw, "train/aa/a", values, kind)
    with pytest.raises(DataError, match=message):
        read_dataset(city).splits["train"][0].labels["dense"]()


def test_damaged_files_are_told(city: Path) -> None:
    path = city / "gtFine/train/aa/a_gtFine_labelIds.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    label = read_dataset(city).splits["train"][0].labels["dense"]
    with pytest.raises(DataError, match="cannot be read as a picture"):
        label()
    # A file of some bytes that claims 65535 x 65535 pixels.
    header = b"IHDR" + b"\0\0\xff\xff" * 2 + whole[24:29]
    path.write_bytes(whole[:12] + header + zlib.crc32(header).to_bytes(4) + whole[33:])
    with pytest.raises(DataError, match="too large to be read safely"):
        label()
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(path, format="JPEG")
    with pytest.raises(DataError, match="a mask must be PNG, but this is JPEG"):
        label()


def test_a_damaged_placeholder_is_no_placeholder(city: Path) -> None:
    (city / "gtFine/test/cc/d_gtFine_labelIds.png").write_bytes(b"no picture")
    assert set(read_dataset(city).splits["test"][0].labels) == {"dense"}


def test_bad_folders_are_told(city: Path, draw: Draw) -> None:
    draw("leftImg8bit/x_leftImg8bit.png")
    with pytest.raises(DataError, match="has pictures in itself and in folders"):
        read_dataset(city)


@pytest.mark.parametrize("name", ["label_colors.txt", "dataset_meta.json"])
def test_other_classes_in_this_layout_are_refused(city: Path, name: str) -> None:
    (city / name).write_text("0 0 0 background")
    with pytest.raises(DataError, match="classes of their own, and not those of Cityscapes"):
        read_dataset(city)


def test_the_real_sample(shared: Path) -> None:
    root = shared / "data/formats/cityscapes_real"
    [record] = read_dataset(root).splits["train"]
    assert record.name == "frankfurt_000000_000294"
    # Counted in the labelIds: 7 is 9740 times there, 24 (person) 107 times.
    assert counts(record) == {
        0: 9740,
        1: 2628,
        2: 12744,
        4: 44,
        5: 396,
        7: 188,
        8: 664,
        10: 581,
        11: 107,
        13: 1802,
        255: 3874,
    }
    base = root / "gtFine/frankfurt_000000_000294_gtFine"
    train_ids = np.asarray(Image.open(f"{base}_labelTrainIds.png"))
    mask = mask_of(record)
    # The two files were made smaller one by one, and differ at the borders of classes.
    assert (mask != train_ids).mean() < 0.01
    objects = np.asarray(Image.open(f"{base}_instanceIds.png"))
    ids = np.where(objects >= 1000, objects // 1000, objects)
    names = {7: "road", 20: "traffic sign", 24: "person", 26: "car"}
    for number, name in names.items():
        np.testing.assert_array_equal(ids == number, mask == CITYSCAPES.names.index(name))


@pytest.mark.parametrize("folder", ["dataset", "train_dataset"])
def test_the_synthetic_samples(shared: Path, folder: str) -> None:
    dataset: Dataset = read_dataset(shared / "data/formats/cityscapes_dataset" / folder)
    found = {s: {r.name[-6:]: counts(r) for r in rs} for s, rs in dataset.splits.items()}
    assert found == {
        "test": {"000031": {14: 3, 255: 2}, "000032": {3: 1, 16: 2, 255: 2}},
        "train": {"000045": {11: 1, 255: 4}},
        "val": {"000019": {255: 5}},
    }
