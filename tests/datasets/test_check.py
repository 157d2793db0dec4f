"""Everything that is wrong with a data set is told at once."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agmm.datasets.check import FormCounts, Required, check
from agmm.datasets.reader import checked, read_dataset
from agmm.datasets.records import Dataset
from agmm.errors import DataError
from agmm.labels.annotations import Boxes
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
    with pytest.raises(DataError, match=rf"1 fault in 1 file:\n  .*{message}"):
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


@pytest.fixture
def boxed(tiny: Path) -> Path:
    """The tiny set with a background, boxes for both pictures and tags for one of them."""
    (tiny / "classes.txt").write_text("background\nroad\ncar\n")
    (tiny / "boxes.csv").write_text(
        "image,class,xmin,ymin,xmax,ymax\na,road,0,1,2,3\nb,car,1,0,4,1\nb,road,0,2,1,3\n"
        "b,road,0,1,1,2\n"
    )
    (tiny / "tags.csv").write_text("image,tags\na,road car\n")
    return tiny


def add_box(root: Path, line: str) -> None:
    with (root / "boxes.csv").open("a") as file:
        file.write(line + "\n")


def boxes_of(dataset: Dataset, name: str) -> Boxes:
    (record,) = (r for r in dataset.splits["train"] if r.name == name)
    boxes = record.labels["boxes"]()
    assert isinstance(boxes, Boxes)
    return boxes


def test_boxes_and_tags_are_counted(boxed: Path) -> None:
    report = check(read_dataset(boxed), {"train": ("boxes", "tags")})
    assert report.faults == {"train": ()}
    assert report.repaired == ()
    assert report.counts["train"] == {
        "boxes": FormCounts(2, (0, 3, 1), ()),  # three boxes round roads, one round a car
        "tags": FormCounts(1, (0, 1, 1), ()),
    }
    assert report.unlabelled == {"train": ()}


def test_tags_without_a_box_are_found(boxed: Path) -> None:
    dataset = read_dataset(boxed)  # a has the tags road and car, and a box round a road
    assert check(dataset, {"train": ("boxes", "tags")}).unboxed == {"train": ("a",)}
    assert check(dataset, {"train": ("tags",)}).unboxed == {"train": ()}
    (boxed / "tags.csv").write_text("image,tags\na,background road\n")
    assert check(read_dataset(boxed), {"train": ("boxes", "tags")}).unboxed == {"train": ()}
    (boxed / "tags.csv").write_text("image,tags\na,road car\n")
    (boxed / "classes.txt").write_text("sky\nroad\ncar\n")  # boxes say nothing of the outside
    assert check(read_dataset(boxed), {"train": ("boxes", "tags")}).unboxed == {"train": ()}


def test_pictures_with_background_only_are_counted_and_not_unlabelled(boxed: Path) -> None:
    (boxed / "tags.csv").write_text("image,tags\na,road\nb,\n")
    (boxed / "boxes.csv").write_text("image,class,xmin,ymin,xmax,ymax\na,road,0,0,1,1\nb,,,,,\n")
    report = check(read_dataset(boxed), {"train": ("boxes", "tags")})
    assert report.faults == {"train": ()}
    assert report.counts["train"]["tags"] == FormCounts(2, (0, 1, 0), ("b",))
    assert report.counts["train"]["boxes"] == FormCounts(2, (0, 1, 0), ("b",))
    assert report.unlabelled == {"train": ()}


def test_without_a_background_an_empty_tag_list_is_a_fault(boxed: Path) -> None:
    (boxed / "classes.txt").write_text("sky\nroad\ncar\n")
    (boxed / "tags.csv").write_text("image,tags\na,road\nb,\n")
    with pytest.raises(DataError, match=r"b.jpg: tags: no class is named, and none is called back"):
        checked(read_dataset(boxed), {"train": ("tags",)})
    (boxed / "boxes.csv").write_text("image,class,xmin,ymin,xmax,ymax\na,road,0,0,1,1\nb,,,,,\n")
    report = check(read_dataset(boxed), {"train": ("boxes",)})
    assert report.faults == {"train": ()}
    assert report.unlabelled == {"train": ("b",)}


def test_faulty_boxes_are_faults_one_by_one(boxed: Path) -> None:
    add_box(boxed, "a,car,3,0,2,1")
    add_box(boxed, "a,car,3,0,9,1")
    with pytest.raises(DataError) as caught:
        checked(read_dataset(boxed), {"train": ("boxes",)})
    message = str(caught.value)
    assert "2 faults in 1 file" in message
    where = "a.jpg: boxes: box {} of class 2 (car) at {} "
    assert where.format(2, "(3, 0, 2, 1)") + "has its corners in the wrong order." in message
    assert where.format(3, "(3, 0, 9, 1)") + "reaches out of the picture of 4x3 pixels." in message
    assert "Correct it, or have it repaired with --clip-boxes." in message
    result = checked(read_dataset(boxed), {"train": ("boxes",)}, skip_bad=True)
    assert [record.name for record in result.splits["train"]] == ["b"]
    assert result.repaired == ()


def test_faulty_boxes_can_be_repaired(boxed: Path) -> None:
    add_box(boxed, "a,car,3,0,2,1")
    add_box(boxed, "a,car,3,0,9,1")
    add_box(boxed, "b,car,2,0,2,1")
    dataset = read_dataset(boxed)

    result = checked(dataset, {"train": ("boxes",)}, clip_boxes=True)

    assert result.skipped == ()
    assert [(r.name, r.file.name, r.reason) for r in result.repaired] == [
        (
            "a",
            "a.jpg",
            (
                "boxes: box 2 of class 2 (car) at (3, 0, 2, 1) has its corners in the wrong order:"
                " now (2, 0, 3, 1)"
            ),
        ),
        (
            "a",
            "a.jpg",
            (
                "boxes: box 3 of class 2 (car) at (3, 0, 9, 1) reaches out of the picture of 4x3"
                " pixels: now (3, 0, 4, 1)"
            ),
        ),
        ("b", "b.jpg", "boxes: box 4 of class 2 (car) at (2, 0, 2, 1) has no pixel: dropped"),
    ]
    repaired = boxes_of(pickle.loads(pickle.dumps(result)), "a")
    assert repaired.xyxy.tolist() == [[0, 1, 2, 3], [2, 0, 3, 1], [3, 0, 4, 1]]
    assert boxes_of(result, "b").classes.tolist() == [2, 1, 1]
    assert boxes_of(dataset, "a").xyxy.tolist()[1] == [3, 0, 2, 1]  # what was listed is as it was
    again = checked(result, {"train": ("boxes",)})
    assert again.splits == result.splits
    assert check(dataset, {"train": ("boxes",)}, clip_boxes=True).repaired == result.repaired


@pytest.mark.parametrize("clip", [True, False])
def test_a_box_beside_its_picture_is_a_fault_whatever_is_repaired(boxed: Path, clip: bool) -> None:
    """A picture whose boxes are all of another one would be trained as background only."""
    add_box(boxed, "a,car,0,2,1,2")
    add_box(boxed, "a,car,7,0,9,1")
    dataset = read_dataset(boxed)
    faults = check(dataset, {"train": ("boxes",)}, clip_boxes=clip).faults["train"]
    assert faults[-1].reason.endswith(
        "a.jpg: boxes: box 3 of class 2 (car) at (7, 0, 9, 1) lies outside of the picture of"
        " 4x3 pixels. It is most likely of another picture or scale: correct it, or leave the"
        " picture out with --skip-bad."
    )
    assert len(faults) == (1 if clip else 2)
    result = checked(dataset, {"train": ("boxes",)}, clip_boxes=clip, skip_bad=True)
    assert [record.name for record in result.splits["train"]] == ["b"]


def test_boxes_without_a_fault_are_left_alone(boxed: Path) -> None:
    dataset = read_dataset(boxed)
    result = checked(dataset, {"train": ("boxes",)}, clip_boxes=True)
    assert result.splits == dataset.splits
    assert result.repaired == ()


def test_boxes_of_a_picture_that_cannot_be_read_are_not_judged(boxed: Path) -> None:
    (boxed / "images/train/a.jpg").write_bytes(b"")
    (fault,) = check(read_dataset(boxed), {"train": ("boxes",)}).faults["train"]
    assert "cannot be read" in fault.reason


def test_all_contradictions_of_a_picture_are_listed(boxed: Path, draw: Draw) -> None:
    (boxed / "tags.csv").write_text("image,tags\na,car\n")
    add_box(boxed, "a,car,3,2,4,3")
    draw("points/a.png", [[255, 255, 2, 255], [255] * 4, [255] * 4])
    draw("blocks/a.png", [[255, 255, 0, 0], [255] * 4, [255, 1, 255, 255]])
    report = check(read_dataset(boxed), {"train": ("tags", "boxes", "points", "blocks")})
    reasons = [f.reason for f in report.faults["train"] if f.name == "a"]
    assert [reason.partition(": ")[0] for reason in reasons] == [
        str(boxed / "images/train/a.jpg")
    ] * len(reasons)
    box = "the box round the pixel x=0, y=1 is class 1 (road) in boxes"
    told = [
        f"{box}, which the tags do not name (4 ",
        "the pixel x=1, y=2 is class 1 (road) in blocks, which the tags do not name (1 ",
        "the pixel x=2, y=0 is class 2 (car) in points, but no box of this class covers it",
        "the pixel x=2, y=0 is class 2 (car) in points and class 0 (background) in blocks (1 ",
    ]
    assert len(reasons) == len(told)
    for part in told:
        assert sum(part in reason for reason in reasons) == 1


def test_a_contradiction_names_picture_pixel_and_forms(tiny: Path, draw: Draw) -> None:
    draw("blocks/b.png", [[1, 1, 1, 1]] * 3)
    with pytest.raises(
        DataError,
        match=r"b.jpg: the pixel x=2, y=1 is class 0 \(sky\) in points and class 1 \(road\)"
        " in blocks",
    ):
        checked(read_dataset(tiny), {"train": ("points", "blocks")})


def test_what_a_faulty_picture_has_is_counted_as_far_as_it_can_be_read(
    tiny: Path, draw: Draw
) -> None:
    """Of three pictures one contradicts itself, and one has a label that cannot be read."""
    draw("images/train/d.jpg")
    draw("points/d.png", [[0, 255, 255, 255]] * 3)
    for name, values in (("a", [[1, 1, 1, 1]] * 3), ("b", [[1, 7, 1, 1]] * 3)):
        draw(f"blocks/{name}.png", values)
    report = check(read_dataset(tiny), {"train": ("points", "blocks")})
    assert {fault.name for fault in report.faults["train"]} == {"a", "b"}
    counts = report.counts["train"]
    assert counts["points"] == FormCounts(3, (5, 2), ())
    assert counts["blocks"] == FormCounts(1, (0, 12), (), left_out=1)
    assert (counts["blocks"].pictures_per_class, counts["blocks"].pixels) == ((0, 1), 12)


def test_labels_of_a_picture_that_cannot_be_read_are_left_out(boxed: Path) -> None:
    """The share of its pixels cannot be told, even if its boxes can."""
    (boxed / "images/train/a.jpg").write_bytes(b"")
    report = check(read_dataset(boxed), {"train": ("boxes",)})
    assert report.counts["train"]["boxes"] == FormCounts(1, (0, 2, 1), (), left_out=1)


def test_pictures_are_hashed_only_where_duplicates_are_looked_for(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three have the same pixels."""
    dataset = read_dataset(tiny)
    (found,) = check(dataset, BOTH, duplicates=True).duplicates
    assert [file.name for file in found] == ["a.jpg", "b.jpg", "c.jpg"]
    monkeypatch.delattr("agmm.datasets.inspection.hashlib.blake2b")
    assert checked(dataset, BOTH).splits == dataset.splits
    assert check(dataset, BOTH).duplicates == ()


def test_a_picture_that_cannot_be_opened_is_told_once(tiny: Path) -> None:
    (tiny / "images/train/a.jpg").write_bytes(b"")
    assert len(check(read_dataset(tiny), BOTH).faults["train"]) == 1


def test_nothing_left_is_an_error_even_if_bad_ones_are_skipped(tiny: Path) -> None:
    (tiny / "masks/val/c.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no usable picture is left in the split 'val'; 1 fault "):
        checked(read_dataset(tiny), BOTH, skip_bad=True)


def test_a_missing_split_is_named(tiny: Path) -> None:
    with pytest.raises(DataError, match="no pictures for the split 'test'"):
        check(read_dataset(tiny), {"test": ("dense",)})


def test_camvid_has_no_fault(shared: Path) -> None:
    dataset = read_dataset(shared / "data" / "camvid")
    report = check(dataset, {"val": ("dense",)})
    assert report.faults == {"val": ()}
    assert report.counts["val"]["dense"].pictures == 101
    assert min(report.counts["val"]["dense"].per_class) > 0


def test_the_labels_of_voc_mini_agree_but_for_one_picture(shared: Path) -> None:
    """Its annotators saw a person that the tags do not name."""
    dataset = read_dataset(shared / "data" / "voc_mini")
    report = check(dataset, {"train": ("tags", "boxes")})
    faults = report.faults["train"]
    assert {fault.name for fault in faults} == {"2008_005245"}
    assert report.counts["train"]["boxes"].pictures == 1000
    assert report.counts["train"]["boxes"].left_out == 0
