"""``tags.csv`` and ``boxes.csv``."""

import csv
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agmm.datasets.classes import Classes, voc_colors
from agmm.datasets.tables import BOXES_COLUMNS, TAGS_COLUMNS, read_boxes, read_tags
from agmm.datasets.text import read_text
from agmm.errors import DataError

NAMES = ("sky", "light", "traffic light", "big red bus")
CLASSES = Classes(NAMES, voc_colors(len(NAMES)))
HEADER = "image,class,xmin,ymin,xmax,ymax\n"

names = st.text(
    st.characters(
        codec="utf-8",
        exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"),
        exclude_characters="/\\:",  # they separate folders
    ),
    min_size=1,
).filter(lambda name: not Path(name).suffix and name == name.strip() and set(name) != {"."})
numbers = st.floats(allow_nan=False, allow_infinity=False)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_tags_are_the_longest_names_that_fit(tmp_path: Path) -> None:
    rows = "a.jpg,sky light\nb,traffic light\nc/d.PNG,light  traffic light big red bus light\ne,\n"
    tags = read_tags(write(tmp_path / "tags.csv", "image,tags\n" + rows), CLASSES)
    assert {name: found.classes.tolist() for name, found in tags.items()} == {
        "a": [0, 1],
        "b": [2],
        "c/d": [1, 2, 3, 1],
        "e": [],
    }


def test_boxes_are_kept_as_they_are(tmp_path: Path) -> None:
    rows = 'a.jpg,sky,1,2,3.5,4\n"x, y",traffic light,9,9,-3,1e3\na,light,0,0,0,0\nnone.jpg,,,,,\n'
    boxes = read_boxes(write(tmp_path / "boxes.csv", HEADER + rows), CLASSES)
    assert list(boxes) == ["a", "x, y", "none"]
    assert boxes["a"].xyxy.tolist() == [[1, 2, 3.5, 4], [0, 0, 0, 0]]
    assert boxes["a"].classes.tolist() == [0, 1]
    assert boxes["x, y"].xyxy.tolist() == [[9, 9, -3, 1000]]
    assert boxes["none"].xyxy.shape == (0, 4)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_how_a_table_is_saved_does_not_matter(tmp_path: Path, end: str) -> None:
    text = end.join(["ymax,xmax,image, class ,xmin,ymin", "4,3,Größe 1.jpg,sky,1,2", "", ""])
    boxes = read_boxes(write(tmp_path / "boxes.csv", b"\xef\xbb\xbf" + text.encode()), CLASSES)
    assert boxes["Größe 1"].xyxy.tolist() == [[1, 2, 3, 4]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=st.dictionaries(names, st.lists(st.sampled_from(NAMES)), max_size=5))
def test_tags_survive_a_file(tmp_path: Path, table: dict[str, list[str]]) -> None:
    # "light" after "traffic" does not come up, as "traffic" alone is no class.
    path = tmp_path / "tags.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(TAGS_COLUMNS)
        writer.writerows([name, " ".join(tags)] for name, tags in table.items())
    found = read_tags(path, CLASSES)
    assert {name: [NAMES[i] for i in tags.classes] for name, tags in found.items()} == table


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.dictionaries(
        names,
        st.lists(st.tuples(st.sampled_from(NAMES), numbers, numbers, numbers, numbers)),
        max_size=5,
    )
)
def test_boxes_survive_a_file(
    tmp_path: Path, table: dict[str, list[tuple[str, float, float, float, float]]]
) -> None:
    path = tmp_path / "boxes.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(BOXES_COLUMNS)
        for name, boxes in table.items():
            writer.writerows([[name, *box] for box in boxes] or [[name, *[""] * 5]])
    found = read_boxes(path, CLASSES)
    assert list(found) == list(table)
    for name, boxes in table.items():
        assert [NAMES[i] for i in found[name].classes] == [box[0] for box in boxes]
        assert found[name].xyxy.tolist() == [list(box[1:]) for box in boxes]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1 must be the header 'image,tags', but is ''"),
        ("a.jpg,sky\n", "must be the header"),
        ("image,tags,notes\n", "but is 'image,tags,notes'"),
        ("image,tags,tags\n", "must be the header"),
        ("image;tags\na;sky\n", "but is 'image;tags'"),
        ("image,tags\na.jpg,dog\n", "line 2: 'dog' is no class; the classes are sky, light"),
        ("image,tags\na.jpg,sky traffic\n", "line 2: 'traffic' is no class"),
        ("image,tags\na.jpg,Sky\n", "'Sky' is no class"),
        ("image,tags\na.jpg,sky\n\na.png,light\n", "line 4: a second row for 'a'"),
        ("image,tags\na.jpg\n", "line 2: has 1 fields, but the header has 2"),
        ("image,tags\na.jpg,sky,light\n", "line 2: has 3 fields"),
        ("image,tags\n ,sky\n", "line 2: names no picture"),
        ('image,tags\n"a"b,sky\n', "line 2: is no comma-separated row"),
        ('image,tags\n"a,sky\n', "is no comma-separated row"),
        ("image,tags\n" + "a" * 200_000 + ",sky\n", "is no comma-separated row"),
        (b"image,tags\na,sky\n\xff,sky\n", "tags.csv, line 3: is not UTF-8"),
        ("image,tags\na,sky\n".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_bad_tags_are_told(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = write(tmp_path / "tags.csv", content)
    with pytest.raises(DataError, match=message) as error:
        read_tags(path, CLASSES)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,dog,1,2,3,4\n", "line 2: 'dog' is no class"),
        ("a,,1,2,3,4\n", "line 2: '' is no class"),
        ("a,sky,1,2,3,\n", "line 2: '' is no number"),
        ("a,sky,1,2,3,nan\n", "'nan' is no number"),
        ("a,sky,1,inf,3,4\n", "'inf' is no number"),
        ("a,sky,1,2px,3,4\n", "'2px' is no number. Write pixels"),
        ("a,sky,1,2,3,1e999\n", "'1e999' is no number"),
        ("a,sky,1,2,3\n", "has 5 fields, but the header has 6"),
        ("a,sky,1,5,2,3,4\n", "has 7 fields"),
        ("a,sky,1,2,3,4\na,,,,,\n", "line 3: says that 'a' has no box"),
        ("a.jpg,,,,,\na,sky,1,2,3,4\n", "line 2: says that 'a' has no box"),
    ],
)
def test_bad_boxes_are_told(tmp_path: Path, rows: str, message: str) -> None:
    path = write(tmp_path / "boxes.csv", HEADER + rows)
    with pytest.raises(DataError, match=message) as error:
        read_boxes(path, CLASSES)
    assert str(path) in str(error.value)


def test_a_table_that_is_missing_or_too_large_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"tags.csv: there is no such file"):
        read_tags(tmp_path / "tags.csv", CLASSES)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder.csv: cannot be read"):
        read_tags(tmp_path / "folder.csv", CLASSES)
    monkeypatch.setattr("agmm.datasets.tables.read_text", partial(read_text, limit=10))
    with pytest.raises(DataError, match=r"has 11 bytes, but at most 10 are read"):
        read_tags(write(tmp_path / "tags.csv", "image,tags\n"), CLASSES)


def test_the_tags_of_voc_mini_are_those_of_the_file(shared: Path) -> None:
    root = shared / "data" / "voc_mini"
    voc = tuple((root / "classes.txt").read_text().split())
    tags = read_tags(root / "tags.csv", Classes(voc, voc_colors(21)))
    with (root / "tags.csv").open() as file:
        expected = {row["image"]: row["tags"].split() for row in csv.DictReader(file)}
    assert len(tags) == 1200
    assert {name: [voc[i] for i in t.classes] for name, t in tags.items()} == expected
    assert math.isclose(np.mean([len(t.classes) for t in tags.values()]), 1.46, abs_tol=0.2)
