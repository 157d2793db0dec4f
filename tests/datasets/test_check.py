"""Everything that is wrong with a data set is told at once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agmm.datasets.check import FormCounts, Required, check
from agmm.datasets.reader import checked, read_dataset
from agmm.errors import DataError
from agmm.labels.forms import Form

Draw = Callable[..., Path]
BOTH: Required = {"train": ("points",), "val": ("dense",)}


def break_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def test_a_good_set_is_counted(tiny: Path) -> None:
    done: list[tuple[int, int]] = []
    report = check(read_dataset(tiny), BOTH, progress=lambda now, total: done.append((now, total)))
    assert report.faults == {"train": (), "val": ()}
    assert report.counts["train"] == {"points": FormCounts(2, (2, 2), ())}
    assert report.counts["val"] == {"dense": FormCounts(1, (6, 6), ())}
    assert report.unlabelled == {"train": (), "val": ()}
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_a_good_set_is_unchanged(tiny: Path) -> None:
    dataset = read_dataset(tiny)
    result = checked(dataset, BOTH)
    assert result.splits == dataset.splits
    assert result.skipped == ()


FAULTS: dict[str, tuple[Callable[[Path, Draw], object], str]] = {
    "wrong mask size": (
        lambda _, draw: draw("points/a.png", [[0]]),
        r"points.a.png: has 1x1 .*Export the label at the picture's size",
    ),
    "unknown class": (
        lambda _, draw: draw("points/a.png", [[0, 7, 7, 255]] * 3),
        r"points.a.png: the value 7 on 6 pixels.*Add the missing classes",
    ),
    "no label": (
        lambda root, _: (root / "points/a.png").unlink(),
        r"train.a.jpg: has no label of the form points. Add one, or remove",
    ),
    "truncated picture": (
        lambda root, _: break_file(root / "images/train/a.jpg"),
        r"train.a.jpg: cannot be read.*copy it again",
    ),
    "truncated label": (
        lambda root, _: (root / "points/a.png").write_bytes(b"\x89PNG"),
        r"points.a.png: cannot be read.*copy it again",
    ),
    "lossy label": (
        lambda root, _: shutil.copy(root / "images/train/a.jpg", root / "points/a.png"),
        r"points.a.png: a mask must be PNG, but this is JPEG",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_names_file_and_remedy(tiny: Path, draw: Draw, fault: str) -> None:
    spoil, message = FAULTS[fault]
    spoil(tiny, draw)
    with pytest.raises(DataError, match=rf"1 faults in 1 files:\n  .*{message}"):
        checked(read_dataset(tiny), BOTH)


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_pictures_can_be_skipped(tiny: Path, draw: Draw, fault: str) -> None:
    spoil, message = FAULTS[fault]
    spoil(tiny, draw)
    result = checked(read_dataset(tiny), BOTH, skip_bad=True)
    assert [record.name for record in result.splits["train"]] == ["b"]
    assert [record.name for record in result.splits["val"]] == ["c"]
    (skipped,) = result.skipped
    assert (skipped.name, skipped.file) == ("a", tiny / "images/train/a.jpg")
    with pytest.raises(DataError, match=message):
        raise DataError(skipped.reason)


def test_all_faults_are_collected_and_ten_listed(tiny: Path, draw: Draw) -> None:
    for i in range(13):
        draw(f"images/train/n{i:02}.jpg")
    break_file(tiny / "images/val/c.jpg")
    with pytest.raises(DataError) as caught:
        checked(read_dataset(tiny), BOTH)
    message = str(caught.value)
    assert "14 faults in 14 files" in message
    assert "n09.jpg" in message
    assert "n10.jpg" not in message
    assert "and 4 more\n" in message


def test_a_label_without_a_picture_counts_only_where_its_form_does(tiny: Path, draw: Draw) -> None:
    for name in ("points/x.png", "points/val/y.png", "masks/val/z.png", "blocks/w.png"):
        draw(name, [[0]])
    dataset = read_dataset(tiny)
    report = check(dataset, BOTH)
    assert [fault.name for fault in report.faults["train"]] == ["x"]
    assert [fault.name for fault in report.faults["val"]] == ["z"]
    with pytest.raises(DataError, match=r"x.png: there is no picture 'x' for this label. Add"):
        checked(dataset, {"train": ("points",)})
    result = checked(dataset, BOTH, skip_bad=True)
    assert [skipped.file.name for skipped in result.skipped] == ["x.png", "z.png"]
    assert len(result.splits["train"]) == 2


def test_any_of_the_forms_will_do_and_all_are_read(tiny: Path, draw: Draw) -> None:
    (tiny / "points/a.png").unlink()
    draw("blocks/a.png", [[1, 1, 255, 255]] * 3)
    draw("blocks/b.png", np.full((3, 4), 255))
    report = check(read_dataset(tiny), {"train": ("points", "blocks")})
    assert report.faults == {"train": ()}
    assert report.counts["train"] == {
        "points": FormCounts(1, (1, 1), ()),
        "blocks": FormCounts(2, (0, 6), ("b",)),
    }
    assert report.unlabelled == {"train": ()}


def test_weak_labels_without_a_pixel_are_told_but_no_fault(tiny: Path, draw: Draw) -> None:
    draw("points/a.png", np.full((3, 4), 255))
    result = checked(read_dataset(tiny), BOTH)
    assert result.unlabelled == {"train": ("a",), "val": ()}
    assert len(result.splits["train"]) == 2


def test_a_dense_mask_without_a_pixel_is_a_fault(tiny: Path, draw: Draw) -> None:
    draw("masks/val/c.png", np.full((3, 4), 255))
    with pytest.raises(DataError, match=r"c.jpg: the dense mask has no labelled pixel"):
        checked(read_dataset(tiny), BOTH)


@pytest.mark.parametrize("form", ["points", "scribbles"])
def test_clicks_or_strokes_all_over_a_picture_are_a_fault(
    tiny: Path, draw: Draw, form: Form
) -> None:
    """The usual slip: an annotation tool that writes 0, here the sky, for 'not drawn'."""
    for name in ("a", "b"):
        draw(f"{form}/{name}.png", [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    with pytest.raises(DataError, match=rf"{form} label 100% of the pixels.*export 255"):
        checked(read_dataset(tiny), {"train": (form,)})
    for name in ("a", "b"):  # half of the pixels is no fault yet
        draw(f"{form}/{name}.png", [[255] * 4, [0, 1, 1, 0], [0, 255, 255, 0]])
    assert not checked(read_dataset(tiny), {"train": (form,)}).skipped


def test_a_contradiction_names_picture_pixel_and_forms(tiny: Path, draw: Draw) -> None:
    draw("blocks/b.png", [[1, 1, 1, 1]] * 3)
    with pytest.raises(
        DataError, match=r"b.jpg: the pixel x=2, y=1 is class 0 in points and class 1 in blocks"
    ):
        checked(read_dataset(tiny), {"train": ("points", "blocks")})


def test_a_picture_that_cannot_be_opened_is_told_once(tiny: Path) -> None:
    (tiny / "images/train/a.jpg").write_bytes(b"")
    assert len(check(read_dataset(tiny), BOTH).faults["train"]) == 1


def test_nothing_left_is_an_error_even_if_bad_ones_are_skipped(tiny: Path) -> None:
    (tiny / "masks/val/c.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no usable picture is left in the split 'val'; 1 faults"):
        checked(read_dataset(tiny), BOTH, skip_bad=True)


def test_a_missing_split_is_named(tiny: Path) -> None:
    with pytest.raises(DataError, match="no pictures for the split 'test'"):
        check(read_dataset(tiny), {"test": ("dense",)})


def test_camvid_has_no_fault(shared: Path) -> None:
    dataset = read_dataset(shared / "data" / "camvid")
    report = check(dataset, {"val": ("dense",)})
    assert report.faults == {"val": ()}
    assert report.counts["val"]["dense"].pictures == 101
    assert min(report.counts["val"]["dense"].pixels) > 0
