"""The layouts of CamVid."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agmm.datasets.camvid import CAMVID
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Unmatched
from agmm.errors import DataError
from tests.datasets.reading import mask, names

Draw = Callable[..., Path]
VOID, SKY, CAR = (0, 0, 0), (128, 128, 128), (64, 0, 128)
COLORS = "128 128 128\tSky\n# a note\n64 0 128\t\tCar\n0 0 0 Void\n"


@pytest.fixture
def segnet(tmp_path: Path, draw: Draw) -> Path:
    for name in ("train/a", "train/b", "val/c", "test/d"):
        draw(f"{name}.png")
        draw(f"{name.replace('/', 'annot/')}.png", [[0, 10, 11, 255]] * 3)
    return tmp_path


@pytest.mark.parametrize("format_", ["auto", "camvid"])
def test_segnet_without_lists(segnet: Path, format_: str) -> None:
    dataset = pickle.loads(pickle.dumps(read_dataset(segnet, format=format_)))
    assert names(dataset) == {"test": ["d"], "train": ["a", "b"], "val": ["c"]}
    assert dataset.classes == CAMVID
    assert dataset.unused == ()
    assert (CAMVID.names[8], CAMVID.colors[8]) == ("car", CAR)
    assert mask(dataset.splits["train"][0]) == [[0, 10, 255, 255]] * 3
    assert dataset.unmatched == ()


def test_segnet_with_lists_from_a_folder_above(segnet: Path) -> None:
    for split, name in (("train", "a"), ("val", "c"), ("test", "d")):
        line = f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png\n"
        (segnet / f"{split}.txt").write_text(f"{line}\n")
    dataset = read_dataset(segnet)
    assert names(dataset) == {"test": ["d"], "train": ["a"], "val": ["c"]}
    assert mask(dataset.splits["val"][0]) == [[0, 10, 255, 255]] * 3
    assert dataset.unused == (segnet / "train/b.png",)
    assert dataset.unused_as == "in no list"


def test_masks_beside_listed_pictures_are_no_unused_pictures(segnet: Path, draw: Draw) -> None:
    for split, name in (("train", "a"), ("val", "c"), ("test", "d")):
        draw(f"{split}/{name}_L.png", [[0, 10, 11, 255]] * 3)
        (segnet / f"{split}.txt").write_text(f"{split}/{name}.png {split}/{name}_L.png\n")
    dataset = read_dataset(segnet)
    assert mask(dataset.split("val")[0]) == [[0, 10, 255, 255]] * 3
    assert dataset.unused == (segnet / "train/b.png",)


def test_names_of_classes_may_be_given(segnet: Path) -> None:
    (segnet / "classes.txt").write_text("\n".join(f"class {k}" for k in range(12)))
    dataset = read_dataset(segnet)
    assert len(dataset.classes) == 12
    assert mask(dataset.splits["train"][0]) == [[0, 10, 11, 255]] * 3  # 11 is a class now


@pytest.mark.parametrize("indices", [False, True])
def test_the_layout_of_datumaro(tmp_path: Path, draw: Draw, indices: bool) -> None:
    """Colours or indices, counted with black first; one picture has no mask."""
    draw("train/0 1.jpg")
    draw("train/2.jpg")
    draw("trainannot/0 1.png", [[0, 1, 2, 2] if indices else [VOID, SKY, CAR, CAR]] * 3)
    (tmp_path / "train.txt").write_text('"/train/0 1.jpg" "trainannot/0 1.png"\n/train/2.jpg \n')
    (tmp_path / "label_colors.txt").write_text(COLORS)
    dataset = pickle.loads(pickle.dumps(read_dataset(tmp_path)))
    assert names(dataset) == {"train": ["0 1", "2"]}
    assert dataset.classes.names == ("Sky", "Car")
    assert dataset.classes.colors == (SKY, CAR)
    assert mask(dataset.splits["train"][0]) == [[255, 0, 1, 1]] * 3
    assert dict(dataset.splits["train"][1].labels) == {}


def test_as_published(tmp_path: Path, draw: Draw) -> None:
    for name in ("0001TP_1", "0001TP_2"):
        draw(f"701_StillsRaw_full/{name}.png")
    draw("LabeledApproved_full/0001TP_1_L.png", [[VOID, SKY, CAR, CAR]] * 3)
    extra = draw("LabeledApproved_full/0001TP_9_L.png", [[VOID] * 4] * 3)
    (tmp_path / "label_colors.txt").write_text(COLORS)
    dataset = read_dataset(tmp_path)
    assert names(dataset) == {"train": ["0001TP_1"]}
    assert mask(dataset.splits["train"][0]) == [[255, 0, 1, 1]] * 3
    assert dataset.unmatched == (Unmatched("0001TP_9", extra, "dense", "train"),)
    assert dataset.unused == (tmp_path / "701_StillsRaw_full/0001TP_2.png",)
    assert dataset.unused_as == "without a mask"
    other, _ = draw("frames/day/0001TP_3.png"), draw("points/0001TP_1.png", [[255] * 4] * 3)
    assert read_dataset(tmp_path).unused == (*dataset.unused, other)
    draw("more/0001TP_1.png")
    with pytest.raises(DataError, match="two files of one name"):
        read_dataset(tmp_path)


def test_of_the_data_as_published_weak_labels_make_training_pictures(
    tmp_path: Path, draw: Draw
) -> None:
    """They need no mask then; a picture with neither is not used."""
    for name in "abcdef":
        draw(f"701_StillsRaw_full/{name}.png")
    draw("LabeledApproved_full/a_L.png", [[0, 10, 11, 255]] * 3)
    marks = [[255, 255, 255, 8]] + [[255] * 4] * 2
    draw("points/b.png", marks)
    draw("scribbles/training/c.png", marks)
    draw("masks/train/d.png", marks)
    (tmp_path / "tags.csv").write_text("image,tags\ne.png,car\n")
    lost = draw("points/g.png", marks)
    dataset = read_dataset(tmp_path)
    forms = {record.name: [*record.labels] for record in dataset.split("train")}
    assert forms == {
        "a": ["dense"],
        "b": ["points"],
        "c": ["scribbles"],
        "d": ["dense"],
        "e": ["tags"],
    }
    assert dataset.unmatched == (Unmatched("g", lost, "points", None),)
    assert dataset.unused == (tmp_path / "701_StillsRaw_full/f.png",)
    assert dataset.unused_as == "without a mask"
    draw("more/b.png")
    with pytest.raises(DataError, match=r"701_StillsRaw_full/b\.png and .*more/b\.png: two files"):
        read_dataset(tmp_path)


def test_folders_of_labels_and_a_table_of_colours(tmp_path: Path, draw: Draw) -> None:
    draw("train/a.png")
    draw("train_labels/a_L.png", [[VOID, SKY, CAR, CAR]] * 3)
    (tmp_path / "class_dict.csv").write_text(
        "name,r,g,b\nCar,64,0,128\nSky,128,128,128\nVoid,0,0,0"
    )
    dataset = read_dataset(tmp_path)
    assert dataset.classes.names == ("Car", "Sky")
    assert mask(dataset.splits["train"][0]) == [[255, 1, 0, 0]] * 3


@pytest.mark.parametrize("folder", ["trainannot", "train_labels", "LabeledApproved_full"])
def test_two_masks_of_one_name_are_refused(tmp_path: Path, draw: Draw, folder: str) -> None:
    draw("train/a.png")
    for name in ("a", "a_L"):
        draw(f"{folder}/{name}.png", [[0] * 4] * 3)
    with pytest.raises(DataError, match=r"/a\.png and .*/a_L\.png: two files of one name"):
        read_dataset(tmp_path)


def test_two_folders_of_masks_of_one_split_are_refused(segnet: Path, draw: Draw) -> None:
    """Unless lists say which mask is meant."""
    for folder in ("val_labels", "validationannot"):
        draw(f"{folder}/c.png", [[1] * 4] * 3)
        with pytest.raises(DataError, match="both are the split 'val', so that files of one name"):
            read_dataset(segnet)
        for split, line in (("train", "a"), ("val", f"c.png {folder}/c"), ("test", "d")):
            (segnet / f"{split}.txt").write_text(f"{split}/{line}.png\n")
        assert mask(read_dataset(segnet).split("val")[0]) == [[1] * 4] * 3
        for split in ("train", "val", "test"):
            (segnet / f"{split}.txt").unlink()
        shutil.rmtree(segnet / folder)


def test_a_split_may_have_no_masks(segnet: Path, draw: Draw) -> None:
    """Pictures to train on may have strokes instead, and those to predict have nothing."""
    for folder in ("trainannot", "val"):
        shutil.rmtree(segnet / folder)
    draw("scribbles/train/a.png", [[255, 3, 255, 255]] * 3)
    dataset = read_dataset(segnet)
    assert names(dataset) == {"test": ["d"], "train": ["a", "b"]}
    assert [set(record.labels) for record in dataset.split("train")] == [{"scribbles"}, set()]
    lost = Unmatched("val/c", segnet / "valannot/c.png", "dense", None)
    assert dataset.unmatched == (lost,)


def test_labels_beside_the_data_as_published_are_no_pictures(tmp_path: Path, draw: Draw) -> None:
    draw("701_StillsRaw_full/a.png")
    for name in ("LabeledApproved_full/{}_L.png", "scribbles/{}.png", "points/{}.png"):
        for picture in ("a", "b"):
            draw(name.format(picture), [[255, 255, 255, 1]] + [[255] * 4] * 2)
    dataset = read_dataset(tmp_path)
    [record] = dataset.split("train")
    assert set(record.labels) == {"dense", "scribbles", "points"}
    assert record.image == tmp_path / "701_StillsRaw_full/a.png"
    assert {(label.form, label.name) for label in dataset.unmatched} == {
        ("dense", "b"),
        ("scribbles", "b"),
        ("points", "b"),
    }


@pytest.mark.parametrize("lists", [False, True])
def test_two_folders_of_one_split_are_refused(segnet: Path, draw: Draw, lists: bool) -> None:
    draw("training/a.png")
    draw("trainingannot/a.png", [[1] * 4] * 3)
    for split in ("train", "training", "val", "test") if lists else ():
        [file, *_] = sorted((segnet / split).iterdir())
        (segnet / f"{split}.txt").write_text(f"{split}/{file.name}\n")
    with pytest.raises(DataError, match=r"train and .*training: both are the split 'train'"):
        read_dataset(segnet)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/train/z.png /trainannot/a.png", r"train.txt, line 1: there is no file 'train/z.png'"),
        ("/train/a.png /trainannot/z.png", r"line 1: there is no file 'trainannot/z.png'"),
        ("../train/a.png trainannot/a.png", "leads out of the data folder"),
        ("/train/a.png ../../etc/a.png", "leads out of the data folder"),
        ("a.png b.png c.png", r"line 1: must name a picture, or a picture and its mask"),
        ('"" "a"', r"line 1: must name a picture"),
        ("/train/a.png\n/train/a.png", r"line 2: the picture is in the list already"),
        ("/train/a.png\n/train/a.jpg", r"a\.png and .*a\.jpg: two files of one name"),
        (
            "/train/a.png trainannot/a.png\nSegNet/train/a.png trainannot/b.png",
            r"annot/a\.png and .*annot/b\.png: two files of one name",
        ),
    ],
)
def test_bad_lists_are_told(segnet: Path, draw: Draw, line: str, message: str) -> None:
    draw("train/a.jpg")
    for split, text in (("train", line), ("val", "/val/c.png"), ("test", "/test/d.png")):
        (segnet / f"{split}.txt").write_text(f"{text}\n")
    with pytest.raises(DataError, match=message):
        read_dataset(segnet)


def test_lists_must_be_there_and_apart(segnet: Path) -> None:
    (segnet / "train.txt").write_text("/train/a.png\n")
    with pytest.raises(DataError, match="there is no such file"):
        read_dataset(segnet)
    (segnet / "val.txt").write_text("/train/a.png\n")
    (segnet / "test.txt").write_text("/test/d.png\n")
    with pytest.raises(DataError, match="is in the lists of both train and val"):
        read_dataset(segnet)


def test_links_that_lead_out_are_refused(
    segnet: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "x.png"
    Image.new("L", (4, 3)).save(outside)
    (segnet / "trainannot/x.png").symlink_to(outside)
    (segnet / "train.txt").write_text("/train/a.png /trainannot/x.png\n")
    (segnet / "test.txt").write_text("/test/d.png\n")
    (segnet / "val.txt").write_text("/val/c.png\n")
    with pytest.raises(DataError, match="a link that leads out of the data folder"):
        read_dataset(segnet)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("128 128 Sky\n", "line 1: must be 'R G B NAME'"),
        ("128 128 999 Sky\n", "line 1: must be 'R G B NAME'"),
        ("1 2 3 Sky\n1 2 3 Car\n", "label_colors.txt: classes: the colour"),
        ("1 2 3 Sky\n4 5 6 sky\n", "label_colors.txt: classes: the name"),
        ("", "label_colors.txt: classes: there are 0"),
        ("0 0 0 Void\n", "classes: there are 0"),
    ],
)
def test_bad_colours_are_told(segnet: Path, text: str, message: str) -> None:
    (segnet / "label_colors.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_dataset(segnet)


@pytest.mark.parametrize(
    ("colors", "values", "message"),
    [
        (False, [[12] * 4] * 3, r"the value 12 on 12 pixels.*11 or 255 = unlabelled"),
        (False, [[SKY] * 4] * 3, "has colours, but must have grey values"),
        (False, [[0] * 5] * 3, "has 5x3 pixels"),
        (True, [[(1, 2, 3)] * 4] * 3, r"the colour \(1, 2, 3\) is that of no class"),
        (True, [[3] * 4] * 3, "the value 3 on 12 pixels"),
        (True, [[SKY] * 5] * 3, "has 5x3 pixels"),
    ],
)
def test_bad_masks_are_told(
    segnet: Path, draw: Draw, colors: bool, values: object, message: str
) -> None:
    if colors:
        (segnet / "label_colors.txt").write_text(COLORS)
    draw("trainannot/a.png", values)
    with pytest.raises(DataError, match=message):
        read_dataset(segnet).splits["train"][0].labels["dense"]()


def test_real_masks_in_this_layout(shared: Path, tmp_path: Path) -> None:
    """Two pictures of CamVid give the same masks here as in the folder layout."""
    source = shared / "data/camvid"
    folder = read_dataset(source)
    for split in ("train", "val"):
        record = folder.splits[split][0]
        (tmp_path / split).mkdir()
        (tmp_path / f"{split}annot").mkdir()
        (tmp_path / split / record.image.name).write_bytes(record.image.read_bytes())
        values = np.array(record.labels["dense"]().mask)  # type: ignore[union-attr]
        void = Image.fromarray(np.where(values == 255, 11, values).astype(np.uint8))
        void.save(tmp_path / f"{split}annot" / f"{record.image.stem}.png")
    dataset = read_dataset(tmp_path)
    assert dataset.classes.names == folder.classes.names
    for split in ("train", "val"):
        assert dataset.splits[split][0].name == folder.splits[split][0].name.rpartition("/")[2]
        expected = folder.splits[split][0].labels["dense"]().mask  # type: ignore[union-attr]
        assert mask(dataset.splits[split][0]) == expected.tolist()
