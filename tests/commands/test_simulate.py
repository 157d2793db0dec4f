"""``agmm simulate``: what it writes, refuses and tells."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agmm.cli import main
from agmm.commands.simulate import simulate
from agmm.commands.train import train
from agmm.config import TrainConfig
from agmm.datasets.classes import Classes
from agmm.datasets.masks import write_index_mask
from agmm.datasets.reader import read_dataset
from agmm.errors import DataError
from agmm.training.run import load_run


@pytest.fixture
def data(boxed_data: Path, tmp_path: Path) -> Path:
    """A copy of the boxed data that the test may change."""
    return Path(shutil.copytree(boxed_data, tmp_path / "data"))


def test_the_copy_can_be_checked_and_has_an_overview(
    boxed_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "weak"
    forms = "points,scribbles,blocks,boxes,tags"
    options = ["--block-size", "8", "--workers", "1", "--link"]

    assert main(["simulate", str(boxed_data), "--form", forms, "--out", str(out), *options]) == 0

    printed = capsys.readouterr().out
    assert "train: 4 pictures; " in printed
    assert " points; scribbles on " in printed
    assert "; 5 boxes; 5 tags" in printed
    assert "val: 2 pictures; dense on 100.0% of the pixels" in printed
    assert f"{out}/overview.png" in printed
    assert main(["check", str(out)]) == 0
    assert main(["check", str(out), "--labels", forms]) == 0
    assert (out / "images/train/a.png").samefile(boxed_data / "images/train/a.png")
    assert not (out / "masks/train").exists()
    with Image.open(out / "overview.png") as overview:
        # Four rows of 300 pixels, seven columns of 400.
        assert overview.height > 4 * 300
        assert overview.width > 7 * 400


def test_options_reach_the_labels(boxed_data: Path, tmp_path: Path) -> None:
    tallies = simulate(
        boxed_data,
        out=tmp_path,
        form=("points", "dense"),
        split="val",
        clicks_per_class=7,
        workers=1,
    )
    dataset = read_dataset(tmp_path)
    assert tallies["val"].labels["points"] == 7 * (2 + 3)  # e has two classes, f has three
    assert [set(r.labels) for r in dataset.split("val")] == [{"points", "dense"}] * 2
    assert [set(r.labels) for r in dataset.split("train")] == [{"dense"}] * 4


def test_what_is_there_is_not_written_over(
    boxed_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").touch()
    assert main(["simulate", str(boxed_data), "--form", "tags", "--out", str(tmp_path)]) == 1
    assert "not empty; remove it, or give another --out" in capsys.readouterr().err
    file = str(tmp_path / "thesis.txt")
    assert main(["simulate", str(boxed_data), "--form", "tags", "--out", file]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_splits_without_masks_are_left_out_and_told(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(data / "masks/val")
    simulate(data, out=tmp_path / "weak", form=("tags",), workers=1)
    assert "val: has no dense masks, left out" in capsys.readouterr().err
    assert list(read_dataset(tmp_path / "weak").splits) == ["train"]


def test_bad_masks_stop_it_or_are_left_out(data: Path, tmp_path: Path) -> None:
    classes = read_dataset(data).classes
    write_index_mask(data / "masks/train/a.png", np.zeros((2, 2), np.uint8), classes)
    with pytest.raises(DataError, match=r"masks/train/a\.png: has 2x2 pixels"):
        simulate(data, out=tmp_path / "weak", form=("tags",), workers=1)
    assert not (tmp_path / "weak").exists()
    simulate(data, out=tmp_path / "weak", form=("tags",), workers=1, skip_bad=True)
    assert [r.name for r in read_dataset(tmp_path / "weak").split("train")] == ["b", "c", "d"]


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_split_without_masks_cannot_be_simulated(data: Path, tmp_path: Path, split: str) -> None:
    shutil.rmtree(data / "masks/val")
    with pytest.raises(
        DataError, match=r"no pictures for the split 'test'|'val' has a label of the form dense"
    ):
        simulate(data, out=tmp_path / "weak", form=("tags",), split=split, workers=1)
    assert not (tmp_path / "weak").exists()


def test_the_copy_trains_and_validates_at_once(
    tiny_data: Path, tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    simulate(tiny_data, out=tmp_path / "weak", form=("points", "blocks"), block_size=8, workers=1)
    run = train(tiny_config(tmp_path / "run", data=tmp_path / "weak", labels=("points", "blocks")))
    assert load_run(run.path, checkpoint="last").step == 2
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_pictures_keep_their_names_where_their_suffix_is_unusual(tmp_path: Path) -> None:
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    images, annotations = [], []
    square = [[5, 5, 25, 5, 25, 25, 5, 25]]
    for number, (name, kind) in enumerate(
        [("a.jfif", "JPEG"), ("b", "PNG"), ("c.JPG", "JPEG")], start=1
    ):
        with (root / name).open("wb") as file:
            Image.new("RGB", (40, 30), (9 * number, 0, 0)).save(file, format=kind)
        images.append({"id": number, "file_name": name, "width": 40, "height": 30})
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [5, 5, 20, 20],
             "area": 400, "iscrowd": 0, "segmentation": square}
        )  # fmt: skip
    labels = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}
    (root / "annotations/instances_train.json").write_text(json.dumps(labels))

    simulate(root, out=tmp_path / "weak", form=("points", "boxes"), workers=1)

    names = [record.name for record in read_dataset(root).split("train")]
    written = read_dataset(tmp_path / "weak").split("train")
    assert [record.name for record in written] == names == ["a.jfif", "b", "c"]
    assert [record.image.name for record in written] == ["a.jfif.jpg", "b.png", "c.JPG"]
    for record in written:
        assert {"points", "boxes"} <= record.labels.keys()


def test_a_list_may_spell_its_split_in_another_way(tmp_path: Path) -> None:
    root = tmp_path / "voc"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    classes = Classes(("background", "cat"), ((0, 0, 0), (128, 0, 0)))
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 5:20] = 1
    for name, split in (("a", "training"), ("b", "validation")):
        Image.fromarray(np.repeat(mask[..., None], 3, axis=2)).save(root / f"JPEGImages/{name}.jpg")
        write_index_mask(root / f"SegmentationClass/{name}.png", mask, classes)
        (root / f"ImageSets/Segmentation/{split}.txt").write_text(f"{name}\n")
    (root / "classes.txt").write_text("background\ncat\n")

    simulate(root, out=tmp_path / "weak", form=("points",), split="training", workers=1)

    assert (tmp_path / "weak/overview.png").is_file()
    written = read_dataset(tmp_path / "weak").splits
    found = {split: [record.name for record in records] for split, records in written.items()}
    assert found == {"train": ["a"], "val": ["b"]}
