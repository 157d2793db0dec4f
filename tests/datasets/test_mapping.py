"""Renaming, merging and dropping classes."""

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agmm.datasets.classes import Classes
from agmm.datasets.mapping import mapped, read_mapping
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Dataset, Record
from agmm.errors import DataError
from agmm.labels.annotations import (
    Annotation,
    Blocks,
    Boxes,
    DenseMask,
    Points,
    Scribbles,
    Tags,
)
from agmm.labels.forms import Form

NAMES = ("background", "car", "bus", "dog", "sky")
COLORS = ((0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0))
MASK = np.array([[0, 1, 2, 3, 4, 255]], dtype=np.uint8)
MAPPING = {"car": "vehicle", "bus": "vehicle", "dog": None, "sky": "background"}


def u8(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint8)


def dataset(**labels: Annotation) -> Dataset:
    """A data set of one picture, which can be pickled."""
    read: dict[Form, Callable[[], Annotation]] = {
        label.form: partial(same, label) for label in labels.values()
    }
    record = Record("a", Path("a.jpg"), read, (partial(same_mask, MASK),))
    return Dataset(Path("data"), Classes(NAMES, COLORS), {"train": (record,), "val": ()})


def same(label: Annotation) -> Annotation:
    return label


def same_mask(mask: np.ndarray) -> np.ndarray:
    return mask


def test_every_form_is_mapped() -> None:
    old = dataset(
        points=Points(np.array([[5.5, 1], [2, 3], [0, 0]]), u8(2, 3, 4)),
        scribbles=Scribbles(MASK),
        blocks=Blocks(MASK),
        dense=DenseMask(MASK),
        boxes=Boxes(np.array([[0, 0, 1, 1], [1, 1, 2, 2], [2, 2, 3, 3]]), u8(4, 2, 1)),
        tags=Tags(u8(1, 2, 4)),
    )
    new = pickle.loads(pickle.dumps(mapped(old, MAPPING)))
    assert new.classes.names == ("background", "vehicle")
    assert new.classes.colors == ((0, 0, 0), (1, 0, 0))
    assert list(new.splits) == ["train", "val"]
    [record] = new.split("train")
    read = {form: label() for form, label in record.labels.items()}
    for form, kind in {"scribbles": Scribbles, "blocks": Blocks, "dense": DenseMask}.items():
        assert type(read[form]) is kind
        assert read[form].mask.tolist() == [[0, 1, 1, 255, 0, 255]]
    assert read["points"].xy.tolist() == [[5.5, 1], [0, 0]]
    assert read["points"].classes.tolist() == [1, 0]
    assert read["boxes"].xyxy.tolist() == [[1, 1, 2, 2], [2, 2, 3, 3]]  # none round background
    assert read["boxes"].classes.tolist() == [1, 1]
    assert read["tags"].classes.tolist() == [0, 1]
    assert record.guesses[0]().tolist() == [[0, 1, 1, 255, 0, 255]]


@pytest.mark.parametrize(
    "label", [Tags(u8(1, 3)), Boxes(np.array([[0, 0, 1, 1]]), u8(3))], ids=["tags", "boxes"]
)
def test_a_dropped_class_in_tags_or_boxes_is_refused(label: Annotation) -> None:
    read = mapped(dataset(label=label), MAPPING).split("train")[0].labels[label.form]
    with pytest.raises(DataError, match=r"a.jpg: (tags|boxes) name a class that the mapping drops"):
        read()


def test_boxes_stay_where_there_is_no_background() -> None:
    boxes = Boxes(np.array([[0, 0, 1, 1]]), u8(4))
    new = mapped(dataset(label=boxes), {"background": "ground", "sky": "ground"})
    read = new.split("train")[0].labels["boxes"]()
    assert isinstance(read, Boxes)
    assert read.classes.tolist() == [0]


@given(st.lists(st.sampled_from([None, "car", "x", "y", "background"]), min_size=5, max_size=5))
def test_pixels_keep_their_name(targets: list[str | None]) -> None:
    mapping = dict(zip(NAMES, targets, strict=True))
    old = dataset(dense=DenseMask(MASK))
    if not any(targets):
        with pytest.raises(DataError, match="there are 0"):
            mapped(old, mapping)
        return
    new = mapped(old, mapping)
    label = new.split("train")[0].labels["dense"]()
    assert isinstance(label, DenseMask)
    names = [*new.classes.names] + [None] * (256 - len(new.classes))
    assert [names[value] for value in label.mask[0]] == [*targets, None]
    assert set(new.classes.names) == set(targets) - {None}


def test_colours_follow_the_name() -> None:
    new = mapped(dataset(), {"bus": "car", "car": "bus"})
    assert new.classes.names == ("background", "bus", "car", "dog", "sky")
    assert new.classes.colors[1:3] == ((1, 0, 0), (2, 0, 0))
    merged = mapped(dataset(), {"car": "bus"})
    assert merged.classes.colors[1] == (2, 0, 0)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"cow": "dog"}, "'cow', which is no class"),
        ({"car": "Dog"}, "there twice"),
        (dict.fromkeys(NAMES), "there are 0"),
    ],
)
def test_a_bad_mapping_is_refused(mapping: dict[str, str | None], message: str) -> None:
    with pytest.raises(DataError, match=message):
        mapped(dataset(), mapping)


def test_a_data_set_on_disk(tiny: Path) -> None:
    new = mapped(read_dataset(tiny), {"sky": None})
    points = new.split("train")[0].labels["points"]()
    assert isinstance(points, Points)
    assert (points.xy.tolist(), points.classes.tolist()) == ([[0, 2]], [0])


def test_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text("# note\ncar: vehicle\n'1': \" two words \"\ndog:\nsky: null\ncat: ~\n")
    assert read_mapping(path) == {
        "car": "vehicle",
        "1": "two words",
        "dog": None,
        "sky": None,
        "cat": None,
    }


LAUGHS = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nd: [*c, *c, *c]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no list of classes"),
        ("- car\n- bus\n", "is no list of classes"),
        ("car", "is no list of classes"),
        ("car: [bus]", "line 1: expected the name of a class, got a list or mapping"),
        ("car: {a: b}", "expected the name"),
        ("dog: a\ncar: 3", "line 2: expected the name of a class, got '3'"),
        ("car: yes", "got 'yes'. Write"),
        ("on: car", "got 'on'"),
        ("null: car", "expected the name"),
        ("car: 2020-01-01", "expected the name"),
        ("car: ''", "expected the name"),
        ("? [a, b]\n: car", "expected the name"),
        ("car: bus\ncar: dog", "line 2: 'car' is there twice"),
        ("car: !!python/object/apply:os.system ['ls']", "expected the name"),
        ("car: !!python/name:os.system x", "expected the name"),
        ("car: bus\n\tdog: a", "is not YAML"),
        ("car: 'bus", "is not YAML"),
        ("car: a\n---\ndog: b", "is not YAML"),
        ("car: *bus", "is not YAML"),
        ("a: &a {b: *a}", "expected the name"),
        (LAUGHS, "expected the name"),
        ("[" * 5000, "is not YAML"),
        ("car: \x00", "is not YAML"),
        (b"car: \xff", "not UTF-8"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as caught:
        read_mapping(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_mapping(tmp_path / "map.yaml")
