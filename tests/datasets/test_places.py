"""Names in annotations and the files that they may mean."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agmm.datasets.places import find_picture, folder_splits, relative_name, split_name
from agmm.errors import DataError

BAD = ["", "/a.jpg", "\\a.jpg", "C:/a.jpg", "c:a.jpg", "..", "../a.jpg", "..\\a.jpg", "a/../../b"]


@pytest.mark.parametrize("name", [*BAD, "a/../b.jpg", "a\0.jpg", "a" * 5000, "//host/a.jpg"])
def test_names_that_may_lead_out_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"^a.xml: the name .* leads out of the data folder"):
        relative_name(name, "a.xml")


@pytest.mark.parametrize("name", [*BAD[:5], "../../../a.jpg", "../../.."])
def test_names_below_a_folder_stay_in_the_data_folder(name: str) -> None:
    with pytest.raises(DataError, match="leads out of the data folder"):
        relative_name(name, "a.json", below="a/b")


@given(st.text(alphabet="a./\\:C \0", max_size=12), st.sampled_from(["", ".", "a", "a/b"]))
def test_no_name_leads_out(name: str, below: str) -> None:
    root = Path("/data/root")
    try:
        found = relative_name(name, "a.json", below=below)
    except DataError:
        return
    assert not found.startswith("/")
    assert ".." not in found.split("/")
    assert (root / found).is_relative_to(root)


def test_any_place_and_any_suffix_count(tmp_path: Path) -> None:
    for name in ("b/x.jpg", "frame_000001.PNG", "c/y.1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_picture(tmp_path, ["a/x.jpg", "b/x.jpg"], "a.xml") == tmp_path / "b/x.jpg"
    assert find_picture(tmp_path, ["frame_000001"], "") == tmp_path / "frame_000001.PNG"
    assert find_picture(tmp_path, ["c/y.1"], "") == tmp_path / "c/y.1"
    assert find_picture(tmp_path, ["b", "x" * 3000, "b/x.jpg/z"], "") is None


@pytest.mark.parametrize(
    ("first", "second", "tried"),
    [
        ("a.jpg", "b/a.jpg", ["a.jpg", "b/a.jpg"]),
        ("b/a.jpg", "a.jpg", ["c/a.jpg", "b/a.jpg", "a.jpg"]),
        ("a.jpg", "a.png", ["a"]),
        ("a", "a.PNG", ["a"]),
        ("b/a.tif", "c/a.jpg", ["b/a", "c/a"]),
    ],
)
def test_two_files_that_may_be_meant_are_refused(
    tmp_path: Path, first: str, second: str, tried: list[str]
) -> None:
    for name in (first, second):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError) as caught:
        find_picture(tmp_path, tried, "a.xml")
    assert str(caught.value).startswith(f"{tmp_path / first} and {tmp_path / second}: two files")
    assert "meant by a.xml" in str(caught.value)


def test_one_file_by_two_names_is_fine(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").touch()
    (tmp_path / "JPEGImages").symlink_to(tmp_path / "images")
    tried = ["JPEGImages/a.jpg", "images/a", "./images/a.jpg"]
    assert find_picture(tmp_path, tried, "") == tmp_path / "JPEGImages/a.jpg"


def test_links_inside_of_the_folder_are_fine(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    assert find_picture(tmp_path, ["b.jpg"], "") == tmp_path / "b.jpg"
    (tmp_path / "c.jpg").symlink_to("c.jpg")  # a link to itself
    assert find_picture(tmp_path, ["c.jpg"], "") is None


@pytest.mark.parametrize(
    ("subset", "split"),
    [("Train", "train"), ("default", "train"), ("VALID", "val"), ("testing", "test"), ("x", None)],
)
def test_subsets_that_are_splits(subset: str, split: str | None) -> None:
    assert split_name(subset) == split


def test_two_folders_of_one_split_are_refused() -> None:
    folders = [Path("a/default"), Path("a/monday"), Path("a/Training")]
    assert folder_splits(folders[:2]) == {folders[0]: "train", folders[1]: "monday"}
    with pytest.raises(DataError, match=r"^a/default and a/Training: both are the split 'train'"):
        folder_splits(folders)
