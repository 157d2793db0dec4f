"""Labels that no picture is trained with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agmm.datasets.check import checked
from agmm.datasets.reader import read_dataset
from agmm.errors import DataError

Draw = Callable[..., Path]
CLICK = [[0, 255, 255, 255]] * 3


@pytest.fixture
def listed(tmp_path: Path, draw: Draw) -> Path:
    """CamVid, of whose training pictures a list takes one; both have a label beside them."""
    for path, split in (
        ("train/a", "train"),
        ("train/b", ""),
        ("val/c", "val"),
        ("test/d", "test"),
    ):
        draw(f"{path}.png")
        draw(f"{path.replace('/', 'annot/')}.png", CLICK)
        if split:
            (tmp_path / f"{split}.txt").write_text(f"/{path}.png\n")
    draw("points/a.png", CLICK)
    draw("points/b.png", CLICK)
    return tmp_path


@pytest.mark.parametrize("folder", ["points", "points/train"])
def test_what_a_list_leaves_out_is_left_out_with_its_label(
    listed: Path, draw: Draw, folder: str
) -> None:
    (listed / "points/b.png").unlink()
    draw(f"{folder}/b.png", CLICK)
    dataset = checked(read_dataset(listed), {"train": ("points",)})
    assert [record.name for record in dataset.split("train")] == ["a"]
    assert dataset.unused == (listed / "train/b.png",)


@pytest.mark.parametrize("name", ["z", "val/b", "rain/b", "b/b"])
def test_labels_of_no_picture_stay_faults_beside_lists(listed: Path, draw: Draw, name: str) -> None:
    draw(f"points/{name}.png", CLICK)
    with pytest.raises(DataError, match=rf"points/{name}\.png: there is no picture"):
        checked(read_dataset(listed), dict.fromkeys(("train", "val"), ("points",)))


def test_a_picture_that_the_tool_did_not_export_is_not_missing(tmp_path: Path, draw: Draw) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    for name in ("a", "b"):
        draw(f"images/{name}.jpg")
        draw(f"points/{name}.png", CLICK)
    (tmp_path / "annotations.xml").write_text(
        '<annotations><version>1.1</version><meta/><image id="0" name="a.jpg" width="4" height="3">'
        '<tag label="cat"/></image></annotations>'
    )
    dataset = read_dataset(tmp_path, format="cvat")
    message = r"points/b\.png: its picture .*images/b\.jpg is in no file of labels and not used"
    with pytest.raises(DataError, match=message):
        checked(dataset, {"train": ("points",)})


def test_a_picture_of_a_type_that_is_not_read_is_not_missing(tiny: Path, draw: Draw) -> None:
    other = tiny / "images/train/phone.HEIC"
    for file in (other, tiny / "images/train/a.dng"):  # the raw file of a.jpg
        file.write_bytes(b"")
    dataset = read_dataset(tiny)
    assert (dataset.unused, dataset.unused_as) == ((other,), "of a type that is not read")
    assert [record.name for record in checked(dataset, {"train": ("points",)}).split("train")] == [
        "a",
        "b",
    ]
    draw("points/phone.png", CLICK)
    message = r"points/phone\.png: its picture .*phone\.HEIC is of a type .*Save it as JPEG or PNG"
    with pytest.raises(DataError, match=message):
        checked(read_dataset(tiny), {"train": ("points",)})
