"""``clicks.json``."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agmm.datasets.classes import Classes, voc_colors
from agmm.datasets.clicks import read_clicks
from agmm.errors import DataError

CLASSES = Classes(("background", "cat", "dog"), voc_colors(3))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_clicks_are_read(tmp_path: Path) -> None:
    text = (
        '{"a": [{"x": 1.5, "y": 2, "cls": 2, "rank": 1}, {"x": -1, "y": 0, "cls": 0}],'
        ' "b/c.JPG": []}'
    )
    clicks = read_clicks(write(tmp_path / "clicks.json", b"\xef\xbb\xbf" + text.encode()), CLASSES)
    assert list(clicks) == ["a", "b/c"]
    assert clicks["a"].xy.tolist() == [[1.5, 2], [-1, 0]]
    assert clicks["a"].classes.tolist() == [2, 0]
    assert clicks["b/c"].xy.shape == (0, 2)


entries = st.fixed_dictionaries(
    {
        "x": st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6),
        "y": st.floats(-1e6, 1e6),
        "cls": st.integers(0, 2),
    },
    optional={"rank": st.integers()},
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="./\\:\0"), min_size=1),
        st.lists(entries),
        max_size=5,
    )
)
def test_clicks_survive_a_file(tmp_path: Path, table: dict[str, list[dict[str, Any]]]) -> None:
    path = write(tmp_path / "clicks.json", json.dumps(table))
    found = read_clicks(path, CLASSES)
    assert list(found) == list(table)
    for name, clicks in table.items():
        assert found[name].xy.tolist() == [[click["x"], click["y"]] for click in clicks]
        assert found[name].classes.tolist() == [click["cls"] for click in clicks]


def click(**changes: str) -> str:
    """One click as JSON; each value is written as it is."""
    fields = {"x": "1.5", "y": "2", "cls": "1", **changes}
    return '{"a": [%s]}' % ("{" + ", ".join(f'"{k}": {v}' for k, v in fields.items()) + "}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ('{"a": [', "is not JSON"),
        ("[" * 200_000, "is not JSON"),
        ("[]", r"must be an object \{picture: \[clicks\]\}, but is \[\]"),
        ('"a"', 'but is "a"'),
        (b'{"\xff": []}', "line 1: is not UTF-8"),
        ('{"a": {"x": 1, "y": 2, "cls": 1}}', "'a': must be a list of clicks"),
        ('{"a": null}', "must be a list of clicks, but is null"),
        ('{"a": [1]}', "'a', click 0: must be .* but is 1"),
        ('{"a": [[1, 2, 3]]}', "click 0: must be"),
        ('{"a": [{"x": 1, "y": 2}]}', "click 0: must be"),
        ('{"a": [], "a": []}', "the key 'a' is there twice"),
        (click(x='1, "x": 2'), "the key 'x' is there twice"),
        ('{"a": [], "a.jpg": []}', "'a' is there twice"),
        (click(x="NaN"), "has NaN, which is no number of JSON"),
        (click(y="-Infinity"), "has -Infinity"),
        (click(x="1e999"), "click 0: x must be a number of pixels, but is Infinity"),
        (click(x="1" + "0" * 400), "x must be a number of pixels, but is 1000.*…"),
        (click(x="1" + "0" * 5000), "is not JSON"),
        (click(y='"2"'), 'y must be a number of pixels, but is "2"'),
        (click(y="null"), "y must be a number of pixels, but is null"),
        (click(x="true"), "x must be a number of pixels, but is true"),
        (click(cls="true"), r"cls must be a class 0\.\.2, but is true"),
        (click(cls="1.0"), r"cls must be a class 0\.\.2, but is 1.0"),
        (click(cls='"cat"'), "cls must be a class"),
        (click(cls="3"), r"cls must be a class 0\.\.2, but is 3"),
        (click(cls="-1"), "cls must be a class"),
        (click(cls="255"), "cls must be a class"),
    ],
)
def test_bad_clicks_are_told(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = write(tmp_path / "clicks.json", content)
    with pytest.raises(DataError, match=message) as error:
        read_clicks(path, CLASSES)
    assert str(path) in str(error.value)


def test_the_clicks_of_voc_mini_are_those_of_the_file(shared: Path) -> None:
    path = shared / "data" / "voc_mini" / "clicks.json"
    found = read_clicks(path, Classes(tuple(map(str, range(21))), voc_colors(21)))
    published = json.loads(path.read_text())
    assert len(found) == 1200
    assert sum(len(points.classes) for points in found.values()) == 6038
    for name, clicks in published.items():
        assert found[name].xy.tolist() == [[click["x"], click["y"]] for click in clicks]
        assert found[name].classes.tolist() == [click["cls"] for click in clicks]
