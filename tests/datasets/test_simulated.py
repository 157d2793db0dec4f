"""Data sets with simulated labels."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agmm.datasets.check import check
from agmm.datasets.masks import write_index_mask
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Dataset
from agmm.datasets.simulated import write_simulated_dataset
from agmm.errors import DataError
from agmm.labels.annotations import Annotation, Boxes, DenseMask, Points, Scribbles, Tags
from agmm.labels.drawing import draw
from agmm.labels.forms import FORMS, Form
from agmm.labels.pieces import pieces, without_crumbs
from agmm.labels.protocol import Protocol, annotate
from agmm.shapes import MaskArray

WEAK: tuple[Form, ...] = ("points", "scribbles", "blocks", "boxes", "tags")


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def assert_same(found: Annotation, expected: Annotation) -> None:
    assert type(found) is type(expected)
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), value)


def mask_of(dataset: Dataset, split: str, index: int) -> MaskArray:
    dense = dataset.split(split)[index].labels["dense"]()
    assert isinstance(dense, DenseMask)
    return dense.mask


def test_every_form_is_read_back_as_it_was_drawn(boxed_data: Path, tmp_path: Path) -> None:
    source, protocol = read_dataset(boxed_data), Protocol(seed=3, block_size=8)
    done: list[tuple[int, int]] = []
    tallies = write_simulated_dataset(
        source,
        tmp_path,
        {"train": FORMS, "val": ("dense",)},
        protocol,
        workers=1,
        progress=lambda *numbers: done.append(numbers),
    )

    written = read_dataset(tmp_path)
    assert written.classes == source.classes
    assert written.unmatched == ()
    assert [r.name for r in written.split("val")] == [r.name for r in source.split("val")]
    assert done == [(i, 6) for i in range(1, 7)]
    clicks = 0
    for index, record in enumerate(written.split("train")):
        mask = mask_of(source, "train", index)
        expected = annotate(mask, FORMS, protocol, key=f"train/{record.name}", background=0)
        assert set(record.labels) == set(FORMS)
        for form, annotation in expected.items():
            assert_same(record.labels[form](), annotation)
        clicks += len(list(pieces(mask)))
    assert tallies["train"].labels["points"] == clicks
    assert (tallies["train"].pictures, tallies["train"].pixels) == (4, 4 * 48 * 64)
    assert tallies["val"].labels == {"dense": 2 * 48 * 64}
    for index, record in enumerate(written.split("val")):
        assert set(record.labels) == {"dense"}
        assert_same(record.labels["dense"](), DenseMask(mask_of(source, "val", index)))
    everything = {"train": FORMS, "val": ("dense",)}
    assert not any(check(written, everything).faults.values())


def test_a_picture_without_objects_says_so(boxed_data: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(boxed_data, tmp_path / "data"))
    classes = read_dataset(data).classes
    write_index_mask(data / "masks/train/a.png", np.zeros((48, 64), np.uint8), classes)
    write_simulated_dataset(
        read_dataset(data), tmp_path / "out", {"train": ("boxes", "tags")}, Protocol(), workers=1
    )
    assert "train/a.png,,,,,\n" in (tmp_path / "out/boxes.csv").read_text()
    assert "train/a.png,\n" in (tmp_path / "out/tags.csv").read_text()


def test_seed_and_name_decide_every_byte(tiny_data: Path, tmp_path: Path) -> None:
    source = read_dataset(tiny_data)
    backwards = replace(source, splits={"train": source.split("train")[::-1]})
    forms: dict[str, tuple[Form, ...]] = {"train": ("points", "scribbles", "blocks")}
    small = Protocol(block_size=6)
    write_simulated_dataset(source, tmp_path / "one", forms, small, workers=1)
    write_simulated_dataset(backwards, tmp_path / "two", forms, small, workers=2)
    other = replace(small, seed=1)
    write_simulated_dataset(source, tmp_path / "other", forms, other, workers=1)

    one = digests(tmp_path / "one")
    assert len(one) == 4 * 4 + 1
    assert digests(tmp_path / "two") == one
    changed = {name for name, digest in digests(tmp_path / "other").items() if digest != one[name]}
    assert changed == {name for name in one if name.split("/")[0] in forms["train"]}


def test_an_unfinished_folder_has_no_classes(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agmm.datasets.simulated.write_label", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_simulated_dataset(
            read_dataset(tiny_data), tmp_path, {"train": ("points",)}, Protocol(), workers=1
        )
    assert not (tmp_path / "classes.txt").exists()


def test_a_split_that_cannot_be_a_folder_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    source = read_dataset(tiny_data)
    nested = replace(source, splits={"a/b": source.split("train")})
    with pytest.raises(DataError, match="the split 'a/b' cannot be a folder"):
        write_simulated_dataset(nested, tmp_path / "out", {"a/b": ("points",)}, Protocol())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("every", [180, pytest.param(1, marks=pytest.mark.slow)])
def test_camvid_there_and_back(shared: Path, tmp_path: Path, every: int) -> None:
    camvid, protocol = read_dataset(shared / "data" / "camvid"), Protocol()
    few = replace(camvid, splits={"train": camvid.split("train")[::every]})
    write_simulated_dataset(few, tmp_path, {"train": WEAK}, protocol)

    written = read_dataset(tmp_path)
    assert len(written.split("train")) == {180: 3, 1: 367}[every]
    assert written.classes.names == camvid.classes.names
    assert written.classes.colors == camvid.classes.colors
    for index, record in enumerate(written.split("train")):
        mask = mask_of(few, "train", index)
        read = {form: record.labels[form]() for form in WEAK}
        drawn = annotate(mask, WEAK, protocol, key=f"train/{record.name}", background=None)
        for form in WEAK:
            assert_same(read[form], drawn[form])
        assert_labels_agree(mask, read)
        block = (draw(read["blocks"], mask.shape, 11, None) != 255).sum()
        labelled = (without_crumbs(mask, 32) != 255).sum()
        assert 0.1 * labelled - 1 <= block < 0.1 * labelled + 40 * 40
    assert not any(check(written, {"train": WEAK}).faults.values())


def assert_labels_agree(mask: MaskArray, labels: dict[Form, Annotation]) -> None:
    """Every label says what the mask says, and every object has its click, stroke and box."""
    for form in ("points", "scribbles", "blocks"):
        marks = draw(labels[form], mask.shape, 11, None)
        assert (marks[marks != 255] == mask[marks != 255]).all()
    points, strokes, boxes, tags = (labels[f] for f in ("points", "scribbles", "boxes", "tags"))
    assert isinstance(points, Points)
    assert isinstance(strokes, Scribbles)
    assert isinstance(boxes, Boxes)
    assert isinstance(tags, Tags)
    clicks, found = draw(points, mask.shape, 11, None), list(pieces(without_crumbs(mask, 32)))
    for piece in found:
        assert (clicks[piece.window][piece.pixels] == piece.label).sum() == 1
        assert (strokes.mask[piece.window][piece.pixels] == piece.label).any()
    corners = [(x.start, y.start, x.stop, y.stop) for _, (y, x), _ in found]
    assert boxes.xyxy.tolist() == [list(box) for box in corners]
    assert boxes.classes.tolist() == [piece.label for piece in found]
    assert tags.classes.tolist() == sorted({*mask[mask != 255].tolist()})
