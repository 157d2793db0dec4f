"""Speed of prediction: the cases run, and their rows take the place of earlier ones."""

import json
import runpy
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

HARNESS = Path(__file__).parents[2] / "benchmarks" / "inference.py"

pytestmark = pytest.mark.usefixtures("same_threads")


@pytest.fixture(scope="module")
def harness() -> Any:
    return SimpleNamespace(**runpy.run_path(str(HARNESS), run_name="inference"))


@pytest.fixture
def arguments() -> Namespace:
    return Namespace(
        encoder="tiny", decoder="fpn", device="cpu", threads=1, side=64, repeats=2
    )  # fmt: skip


@pytest.mark.parametrize("tile", [None, 32])
def test_a_small_picture_is_measured(harness: Any, arguments: Namespace, tile: int | None) -> None:
    row = harness.measure(arguments, tile, 2, "")
    assert row["seconds"] > 0
    assert row["cpu_seconds"] > 0
    assert row["mb"] >= 0


def test_a_large_picture_is_written_and_predicted(
    harness: Any, arguments: Namespace, tmp_path: Path
) -> None:
    path = tmp_path / "600x530.tif"
    harness.write_large(path, 600, 530)
    picture = np.asarray(Image.open(path))
    assert picture.shape == (600, 530, 3)
    assert (picture[:16, :16] == picture[0, 0]).all()  # squares of one colour
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500

    row = harness.measure(arguments, 256, 1, str(path))

    assert row["seconds"] > 0
    assert np.asarray(Image.open(path.with_suffix(".png"))).shape == (600, 530)


def test_a_case_that_is_measured_again_takes_the_earlier_place(
    harness: Any, tmp_path: Path
) -> None:
    def row(tile: int | None, seconds: float) -> dict[str, Any]:
        case = {"about": "here", "picture": "64x64", "encoder": "tiny", "batch": 1}
        return {**case, "tile": tile, "seconds": seconds}

    earlier, file = [row(None, 1.0), row(32, 2.0)], tmp_path / "results.json"
    assert harness.with_rows(file, earlier) == earlier
    file.write_text(json.dumps(earlier))
    assert harness.with_rows(file, [row(32, 3.0)]) == [row(None, 1.0), row(32, 3.0)]
