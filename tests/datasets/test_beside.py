"""Tables beside the ``folder`` layout."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agmm.datasets.assembly import in_known_splits
from agmm.datasets.beside import Label
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Unmatched
from agmm.errors import DataError
from agmm.labels.annotations import Boxes, Points, Tags
from tests.datasets.reading import mask, masks
from tests.datasets.samples import lay, tiny_samples

Draw = Callable[..., Path]


def test_rows_of_tables_are_labels(tiny: Path) -> None:
    (tiny / "tags.csv").write_text("image,tags\nval/c.jpg,road\na.jpg,\nz,sky\n")
    (tiny / "boxes.csv").write_text(
        "image,class,xmin,ymin,xmax,ymax\na,road,0,0,2,2\nb,,,,,\na.jpg,sky,1,1,2,2\n"
        "train/z.jpg,sky,0,0,1,1\n"
    )
    (tiny / "clicks.json").write_text('{"c": [{"x": 0.5, "y": 2, "cls": 1}], "y/z": []}')
    dataset = pickle.loads(pickle.dumps(read_dataset(tiny)))
    a, b = dataset.splits["train"]
    (c,) = dataset.splits["val"]
    assert set(a.labels) == {"points", "boxes", "tags"}
    assert set(b.labels) == {"points", "boxes"}
    assert set(c.labels) == {"points", "tags", "dense"}
    boxes, none, tags, clicks = (
        a.labels["boxes"](),
        b.labels["boxes"](),
        c.labels["tags"](),
        c.labels["points"](),
    )
    assert isinstance(boxes, Boxes)
    assert isinstance(none, Boxes)
    assert isinstance(tags, Tags)
    assert isinstance(clicks, Points)
    assert boxes.xyxy.tolist() == [[0, 0, 2, 2], [1, 1, 2, 2]]
    assert boxes.classes.tolist() == [1, 0]
    assert none.xyxy.shape == (0, 4)
    assert tags.classes.tolist() == [1]
    assert a.labels["tags"]().classes.tolist() == []
    assert clicks.xy.tolist() == [[0.5, 2]]
    assert dataset.unmatched == (
        Unmatched("y/z", tiny / "clicks.json", "points", None),
        Unmatched("z", tiny / "boxes.csv", "boxes", "train"),
        Unmatched("z", tiny / "tags.csv", "tags", None),
    )


def test_a_table_may_say_the_split(tiny: Path) -> None:
    for file in [*(tiny / "images").rglob("*.jpg")]:
        file.rename(tiny / "images" / file.name)
    for folder in ("train", "val"):
        (tiny / "images" / folder).rmdir()
    (tiny / "tags.csv").write_text("image,tags\ntest/b,sky\na,road\n")
    splits = read_dataset(tiny).splits
    assert {s: [r.name for r in records] for s, records in splits.items()} == {
        "test": ["b"],
        "train": ["a"],
        "val": ["c"],
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("clicks.json", '{"a": []}', r"a.png and .*clicks.json: two labels of one form for 'a'"),
        ("clicks.json", '{"train/a": []}', r"a.jpg: has two labels of the form points"),
        ("tags.csv", "image,tags\na,sky\ntrain/a,sky\n", r"has two labels of the form tags"),
        ("tags.csv", "image,tags\na,cat\n", r"tags.csv, line 2: 'cat' is no class"),
    ],
)
def test_what_is_not_clear_is_refused(tiny: Path, name: str, content: str, message: str) -> None:
    (tiny / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_dataset(tiny)


def test_one_row_for_two_pictures_is_refused(tiny: Path) -> None:
    (tiny / "images/val/a.jpg").write_bytes((tiny / "images/train/a.jpg").read_bytes())
    (tiny / "points/a.png").unlink()
    (tiny / "tags.csv").write_text("image,tags\na,sky\n")
    with pytest.raises(DataError, match=r"tags.csv: is the label of both .*Say its split, as in"):
        read_dataset(tiny)
    (tiny / "tags.csv").write_text("image,tags\ntrain/a,sky\nval/a,road\n")
    splits = read_dataset(tiny).splits
    tags = [splits[split][0].labels["tags"]() for split in ("train", "val")]
    assert [found.classes.tolist() for found in tags if isinstance(found, Tags)] == [[0], [1]]


def test_a_split_may_be_spelt_otherwise(tiny: Path, draw: Draw) -> None:
    """Unless this is the name of another split or of a picture."""
    scribble = [[255, 1, 255, 255]] * 3
    draw("scribbles/training/a.png", scribble)
    [first, _] = read_dataset(tiny).split("train")
    assert set(first.labels) == {"scribbles", "points"}
    picture = draw("images/val/training/a.jpg")
    dataset = read_dataset(tiny)
    assert set(dataset.split("train")[0].labels) == {"points"}
    [second] = [record for record in dataset.split("val") if record.image == picture]
    assert set(second.labels) == {"scribbles"}
    label = Label(tiny / "scribbles/training/a.png", lambda _: Tags(np.zeros(0, np.uint8)))
    for splits, path in (({"train"}, "train/a"), ({"train", "training"}, "training/a")):
        found = in_known_splits({"scribbles": {"training/a": label}}, {"a"}, splits)
        assert found == {"scribbles": {path: label}}


@pytest.mark.parametrize("text", ["training/a,sky", "TRAIN/a,road"])
def test_two_spellings_of_one_split_are_refused(tiny: Path, text: str) -> None:
    (tiny / "tags.csv").write_text(f"image,tags\ntrain/a,sky\n{text}\n")
    with pytest.raises(DataError, match=r"tags.csv: two labels of one form for 'train/a'"):
        read_dataset(tiny)


def test_names_that_lead_elsewhere_open_nothing(tiny: Path) -> None:
    secret = tiny.parent / "secret.jpg"
    secret.write_bytes((tiny / "images/val/c.jpg").read_bytes())
    (tiny / "tags.csv").write_text("image,tags\n../secret,sky\n")
    with pytest.raises(DataError, match=r"tags.csv, line 2: the name '../secret' leads out of"):
        read_dataset(tiny)


SAMPLES = {sample.name: sample for sample in tiny_samples()}
CITY = "bonn/bonn_000000_000000"


@pytest.mark.parametrize(
    ("sample", "own", "name"),
    [
        ("voc", "SegmentationClass/a.png", "a"),
        ("voc sbd", "SegmentationClassAug/b.png", "b"),
        ("cityscapes", f"gtFine/train/{CITY}_gtFine_labelIds.png", CITY),
        ("ade20k", "annotations/training/ADE_train_1.png", "ADE_train_1"),
        ("ade20k-full 2017", "training/street/a_seg.png", "street/a"),
        ("camvid", "trainannot/a.png", "a"),
        ("camvid lists", "trainannot/a.png", "a"),
        ("camvid colours", "LabeledApproved_full/a_L.png", "a"),
        ("mmseg", "ann_dir/train/a.png", "a"),
        ("datumaro", "train/masks/a.png", "a"),
        ("tel", "val/label/b.png", "b"),
        ("coco", "annotations/instances_train.json", "a"),
    ],
)
@pytest.mark.parametrize("split", ["", "training/"])
def test_a_second_mask_of_a_picture_is_refused(
    tmp_path: Path, draw: Draw, sample: str, own: str, name: str, split: str
) -> None:
    """Also beside layouts with masks of their own."""
    lay(SAMPLES[sample], tmp_path)
    split = split.replace("training", "valid") if sample == "tel" else split
    beside = draw(f"masks/{split}{name}.png", [[0, 1, 1, 255]] * 3)
    with pytest.raises(DataError, match="two labels of") as caught:
        read_dataset(tmp_path, format=SAMPLES[sample].format)
    assert str(tmp_path / own) in str(caught.value)
    assert str(beside) in str(caught.value)


@pytest.mark.parametrize(
    ("sample", "picture", "name"),
    [
        ("voc", "JPEGImages/b.png", "b"),
        ("cityscapes", "leftImg8bit/test/bonn/b_leftImg8bit.png", "bonn/b"),
        ("ade20k", "images/testing/b.png", "b"),
        ("ade20k-full 2021", "images/ADE/testing/b.jpg", "b"),
        ("camvid", "test/b.png", "b"),
        ("mmseg", "img_dir/test/b.png", "b"),
        ("datumaro", "test/images/b.png", "b"),
        ("tel", "test/image/b.png", "b"),
    ],
)
def test_masks_may_lie_beside_every_layout(
    tmp_path: Path, draw: Draw, sample: str, picture: str, name: str
) -> None:
    """For pictures that have no mask where the layout puts them."""
    lay(SAMPLES[sample], tmp_path)
    draw(picture)
    if sample == "voc":
        (tmp_path / "ImageSets/Segmentation/test.txt").write_text("b\n")
    if sample == "datumaro":
        meta = SAMPLES[sample].files["train/dataset_meta.json"]
        (tmp_path / "test/dataset_meta.json").write_bytes(meta)
    draw(f"masks/test/{name}.png", [[0, 1, 1, 255]] * 3)
    lost = draw("masks/test/x.png", [[0] * 4] * 3)
    dataset = read_dataset(tmp_path, format=SAMPLES[sample].format)
    [record] = dataset.split("test")
    assert (record.name, mask(record)) == (name, [[0, 1, 1, 255]] * 3)
    assert Unmatched("x", lost, "dense", "test") in dataset.unmatched


def test_masks_beside_camvid_as_published_are_no_pictures(tmp_path: Path, draw: Draw) -> None:
    lay(SAMPLES["camvid colours"], tmp_path)
    lost = draw("masks/b.png", [[0, 1, 1, 255]] * 3)
    Image.open(tmp_path / "LabeledApproved_full/a_L.png").save(
        tmp_path / "LabeledApproved_full/b_L.png"
    )
    dataset = read_dataset(tmp_path)
    assert [*masks(dataset)["train"]] == ["a"]
    assert Unmatched("b", lost, "dense", None) in dataset.unmatched
