"""What ``agmm check`` tells, and its exit code."""

import errno
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from agmm.cli import main
from agmm.commands.check import check
from agmm.errors import ConfigError
from tests.datasets.samples import lay, tiny_samples


@pytest.fixture
def data(boxed_data: Path, tmp_path: Path) -> Path:
    """A copy of the boxed data that the test may spoil."""
    return Path(shutil.copytree(boxed_data, tmp_path / "data"))


def test_counts_of_every_form(boxed_data: Path) -> None:
    dataset, report = check(boxed_data)

    counts = report.counts["train"]
    assert list(dataset.splits) == ["train", "val"]
    assert list(counts) == ["boxes", "tags", "dense"]
    assert counts["tags"].per_class == (0, 3, 2)
    assert counts["boxes"].per_class == (0, 3, 2)
    assert list(report.counts["val"]) == ["dense"]
    assert not any(report.faults.values())


def test_a_good_data_set(boxed_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(boxed_data), "--labels", "tags"]) == 0
    printed = capsys.readouterr().out
    assert "nothing is wrong" in printed
    assert "tags" in printed
    assert "boxes" not in printed


def test_contradictions_are_listed_with_file_pixel_and_both_sources(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = data / "tags.csv"
    table.write_text(table.read_text().replace("a,red", "a,blue"))

    assert main(["check", str(data), "--labels", "tags,boxes"]) == 1

    printed = capsys.readouterr()
    assert "images/train/a.png: the box round the pixel x=" in printed.out
    assert "is class 1 (red) in boxes, which the tags do not name" in printed.out
    assert "1 fault in 1 file" in printed.err


def test_pictures_that_no_label_file_names_are_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [sample] = (sample for sample in tiny_samples() if sample.name == "labelme-web")
    lay(sample, tmp_path)
    for name in "cb":
        Image.new("RGB", (4, 3)).save(tmp_path / f"Images/{name}.png")

    assert main(["check", str(tmp_path), "--json", str(tmp_path / "found.json")]) == 0

    told = f"2 pictures are in no file of labels and not used, e.g. {tmp_path}/Images/b.png"
    assert f"warning: {told}" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert any(warning.startswith(told) for warning in found["warnings"])
    assert found["unused"] == [f"{tmp_path}/Images/{name}.png" for name in "bc"]


def test_pictures_that_lists_leave_out_are_told_in_one_line_and_no_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lists choose pictures on purpose: all but 2,913 of the 17,125 of VOC 2012 are in none."""
    [sample] = (sample for sample in tiny_samples() if sample.name == "voc")
    lay(sample, tmp_path)
    files = [tmp_path / f"JPEGImages/{name}.jpg" for name in "bc"]
    for file in files:
        Image.new("RGB", (4, 3)).save(file)

    assert main(["check", str(tmp_path), "--json", str(tmp_path / "found.json")]) == 0

    told = f"2 pictures are in no list and not used, e.g. {files[0]}"
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if "in no list" in line] == [told]
    assert printed[-1] == "nothing is wrong"
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["unused"] == [str(file) for file in files]
    assert not any("list" in warning for warning in found["warnings"])


def test_pictures_without_a_mask_that_are_not_used_are_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [sample] = (sample for sample in tiny_samples() if sample.name == "camvid colours")
    lay(sample, tmp_path)
    file = tmp_path / "701_StillsRaw_full/b.png"
    Image.new("RGB", (4, 3)).save(file)

    assert main(["check", str(tmp_path)]) == 0

    told = f"1 picture is without a mask and not used, e.g. {file}. Add their masks, if they were"
    assert f"warning: {told} forgotten." in capsys.readouterr().out


def test_a_tag_without_a_box_is_a_warning(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = data / "tags.csv"
    table.write_text(table.read_text().replace("a,red", "a,red blue"))

    assert main(["check", str(data), "--labels", "tags,boxes"]) == 0

    printed = capsys.readouterr().out
    assert "warning: train: 1 picture has a tag without a box, e.g. a: what is outside" in printed


def test_what_cannot_be_read_is_told_below_the_counts(
    data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (data / "images/train/a.png").write_bytes(b"no picture")

    assert main(["check", str(data), "--labels", "tags", "--json", f"{tmp_path}/f.json"]) == 1

    printed = capsys.readouterr().out.splitlines()
    assert ["not", "readable", "1"] in [line.split() for line in printed]
    assert any(line.split() == ["red", "2"] for line in printed)
    train = json.loads((tmp_path / "f.json").read_text())["splits"]["train"]
    assert (train["labels"]["tags"]["pictures"], train["labels"]["tags"]["not_readable"]) == (3, 1)


def test_boxes_are_repaired_on_demand(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = data / "boxes.csv"
    table.write_text(table.read_text() + "b,blue,40,2,100,10\n")

    assert main(["check", str(data), "--labels", "boxes"]) == 1
    assert "100" in capsys.readouterr().out
    assert main(["check", str(data), "--labels", "boxes", "--clip-boxes"]) == 0
    assert "repaired" in capsys.readouterr().out


def test_a_split_without_labels_is_no_fault(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "images/test").mkdir()
    Image.new("RGB", (5, 4), (1, 2, 3)).save(data / "images/test/g.png")

    assert main(["check", str(data)]) == 0
    assert "test: 1 picture, 5x4 pixels, no labels" in capsys.readouterr().out
    assert main(["check", str(data), "--labels", "boxes"]) == 0


def test_pictures_of_one_content_in_two_splits_are_warned_of(data: Path, tmp_path: Path) -> None:
    # The same pixels, but not the same bytes; it needs no label to be noticed.
    (data / "images/test").mkdir()
    twin = data / "images/test/g.png"
    Image.open(data / "images/val/e.png").save(twin, compress_level=0)

    assert main(["check", str(data), "--json", f"{tmp_path}/found.json"]) == 0

    found = json.loads((tmp_path / "found.json").read_text())
    assert found["duplicates"] == [[str(twin), f"{data}/images/val/e.png"]]
    assert len(found["warnings"]) == 1


def test_everything_is_in_the_json(boxed_data: Path, tmp_path: Path) -> None:
    words = ["--labels", "tags", "--json", f"{tmp_path}/found.json"]
    assert main(["check", str(boxed_data), *words]) == 0

    found = json.loads((tmp_path / "found.json").read_text())
    assert found["format"] == "folder"
    train = found["splits"]["train"]
    assert (train["pictures"], train["sizes"]) == (4, [[48, 64], [48, 64]])
    assert train["labels"]["tags"] == {
        "pictures": 4,
        "not_readable": 0,
        "unlabelled": None,
        "pictures_per_class": {"background": 0, "red": 3, "blue": 2},
        "amount_per_class": {"background": 0, "red": 3, "blue": 2},
    }
    dense = found["splits"]["val"]["labels"]["dense"]
    assert sum(dense["amount_per_class"].values()) == 2 * 48 * 64
    assert dense["unlabelled"] == 0
    assert found["faults"] == found["never_labelled"] == []


def test_what_was_found_is_told_if_the_file_cannot_be_written(
    boxed_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("agmm.commands.check.write_json", full)

    assert main(["check", str(boxed_data), "--json", f"{tmp_path}/found.json"]) == 1

    found, _, message = capsys.readouterr().err.partition("No space left on device")
    assert message.count("\n") == 1  # nothing follows it
    assert "train: 4 pictures, 64x48 pixels" in found
    assert "nothing is wrong" in found


def test_a_fault_in_a_split_that_no_training_reads_is_a_warning(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "images/test").mkdir()
    (data / "images/test/g.png").write_bytes(b"no picture")

    assert main(["check", str(data), "--labels", "boxes"]) == 0
    assert "warning: test: " in capsys.readouterr().out


def test_classes_are_mapped(data: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("red: thing\nblue: thing\n")

    dataset, report = check(data, mapping=tmp_path / "classes.yaml")

    assert dataset.classes.names == ("background", "thing")
    assert report.counts["train"]["tags"].per_class == (0, 4)
    assert report.counts["train"]["boxes"].per_class == (0, 5)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("labels", ["scribles", "boxes,clicks", "boxes,boxes", ""])
def test_a_form_that_there_is_not_is_wrong_use(
    boxed_data: Path, capsys: pytest.CaptureFixture[str], labels: str
) -> None:
    assert main(["check", str(boxed_data), "--labels", labels]) == 2

    error = capsys.readouterr().err
    assert "--labels: expected some of points, scribbles, blocks, boxes, tags, dense" in error
    assert f"got {labels!r}" in error
    assert len(error.splitlines()) == 1


def test_forms_that_no_picture_has_are_told_once(
    boxed_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(boxed_data), "--labels", "points,blocks"]) == 1

    (error,) = capsys.readouterr().err.splitlines()
    assert "no picture of the split 'train' has a label of the form points or blocks" in error
    assert "found: boxes, tags, dense" in error
    assert f"as {boxed_data}/points/NAME.png or {boxed_data}/blocks/NAME.png." in error


def test_labels_in_a_folder_of_another_name_are_told_where_they_belong(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data / "masks/train", data / "Scribbles")
    (data / "boxes.csv").rename(data / "Boxes.csv")

    assert main(["check", str(data), "--labels", "scribbles,boxes"]) == 1

    error = capsys.readouterr().err
    assert f"add the labels, as {data}/scribbles/NAME.png or {data}/boxes.csv." in error


def test_a_missing_val_is_a_warning(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "images/val").rename(data / "images/vali")
    (data / "masks/val").rename(data / "masks/vali")

    assert main(["check", str(data), "--labels", "boxes"]) == 0

    told = "warning: there is no split val, so that a training scores nothing"
    assert told in capsys.readouterr().out


def test_labels_of_other_names_are_told_one_by_one(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "points").mkdir()
    (data / "points/elsewhere.png").write_bytes((data / "masks/train/a.png").read_bytes())

    assert main(["check", str(data), "--labels", "points"]) == 1

    assert "there is no picture 'elsewhere' for this label" in capsys.readouterr().out


def test_a_folder_for_the_json_is_refused_before_anything_is_decoded(
    data: Path, tmp_path: Path
) -> None:
    (data / "images/train/a.png").write_bytes(b"no picture")
    (tmp_path / "note").touch()

    with pytest.raises(ConfigError, match=r"--json .*: is a folder; name a file"):
        check(data, json=tmp_path)
    with pytest.raises(ConfigError, match=r"--json .*found\.json: .*; name a file elsewhere"):
        check(data, json=tmp_path / "note/found.json")
