"""What ``agmm check`` tells, and its exit code."""

import shutil
from pathlib import Path

import pytest

from agmm.cli import main
from agmm.commands.check import check


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
    assert "tags, pictures" in printed
    assert "boxes" not in printed


def test_contradictions_are_listed_with_file_pixel_and_both_sources(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = data / "tags.csv"
    table.write_text(table.read_text().replace("a,red", "a,blue"))

    assert main(["check", str(data), "--labels", "tags,boxes"]) == 1

    printed = capsys.readouterr()
    assert "images/train/a.png: the box round the pixel x=" in printed.out
    assert "is class 1 in boxes, which the tags do not name" in printed.out
    assert "1 faults in 1 files" in printed.err


def test_boxes_are_repaired_on_demand(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = data / "boxes.csv"
    table.write_text(table.read_text() + "b,blue,40,2,100,10\n")

    assert main(["check", str(data), "--labels", "boxes"]) == 1
    assert "100" in capsys.readouterr().out
    assert main(["check", str(data), "--labels", "boxes", "--clip-boxes"]) == 0
    assert "repaired" in capsys.readouterr().out
