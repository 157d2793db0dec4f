"""The data sets for the times of reading hold what they say, and our readers read all of it."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

HARNESS = Path(__file__).parents[2] / "benchmarks" / "reading.py"


@pytest.mark.parametrize("layout", ["coco", "voc"])
def test_every_picture_and_box_is_read(layout: str, tmp_path: Path) -> None:
    harness: Any = SimpleNamespace(**runpy.run_path(str(HARNESS), run_name="reading"))
    harness.make(tmp_path / "data", 7)

    found = harness.read("ours", layout, tmp_path / "data")

    written = json.loads(
        (tmp_path / "data/coco/annotations/instances_train.json").read_text("utf-8")
    )
    assert found["pictures"] == 7 == len(written["images"])
    assert found["boxes"] == len(written["annotations"]) >= 3 * 7
    assert found["read_s"] >= found["listed_s"] > 0
