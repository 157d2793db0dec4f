"""The picture of how the E step's opinion sharpens: a row per picture, a column per moment."""

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from agmm.config import TrainConfig, as_plain

HARNESS = Path(__file__).parents[2] / "benchmarks" / "posteriors.py"


def test_the_sheet_has_the_moments_side_by_side(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harness: Any = SimpleNamespace(**runpy.run_path(str(HARNESS), run_name="posteriors"))
    config = tiny_config(tmp_path / "unused")
    recipe, sheet = tmp_path / "recipe.yaml", tmp_path / "sheet.png"
    recipe.write_text(yaml.safe_dump(as_plain(config)))
    sizes = []
    for moments in (["1"], ["1", "2"]):
        words = [str(recipe), str(config.data), str(sheet), "--pictures", "2", "--at", *moments]
        harness.main(words)
        picture = np.asarray(Image.open(sheet))
        sizes.append(picture.shape[1])
        said = capsys.readouterr().out.splitlines()
        assert [line.split(": ")[0] for line in said] == [
            f"{name}.png, step {step}" for step in moments for name in "ac"
        ]
        assert all(0 < float(line.split(": ")[1]) <= 1 for line in said)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    assert sizes[1] > sizes[0]
