"""The times of a training step: every method has its rows."""

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from agmm.config import METHODS, TrainConfig, as_plain

HARNESS = Path(__file__).parents[2] / "benchmarks" / "step_time.py"

pytestmark = pytest.mark.usefixtures("without_type_checks")


@pytest.fixture(scope="module")
def step_time() -> Any:
    return SimpleNamespace(**runpy.run_path(str(HARNESS), run_name="step_time"))


def recipe(config: TrainConfig, path: Path) -> Path:
    values = as_plain(config)
    for name in ("data", "out", "labels", "method", "seeds"):
        del values[name]
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_table_by_hand(step_time: Any) -> None:
    table = step_time.as_table({"partial-ce": 0.4, "agmm": 0.5, "dense": 0.3})

    assert table.splitlines()[2:] == [
        "| partial-ce | 0.4 | 0 % |",
        "| agmm | 0.5 | 25 % |",
        "| dense | 0.3 | -25 % |",
    ]


def test_every_method_has_a_row_and_those_with_a_teacher_two(
    step_time: Any,
    tiny_data: Path,
    tiny_config: Callable[..., TrainConfig],
    tmp_path: Path,
    capsys: Any,
) -> None:
    tiny = recipe(tiny_config(tmp_path), tmp_path / "tiny.yaml")

    step_time.main([str(tiny), str(tiny_data), "--labels", "points", "--repeats", "1"])

    first, *rows = capsys.readouterr().out.splitlines()
    assert "points, medians of 1" in first
    names = [line.split(" | ")[0].strip("| ") for line in rows[2:]]
    twice = {"agmm without a teacher", "ema-teacher without a teacher"}
    assert sorted(names) == sorted({*METHODS, *twice})


def test_boxes_take_the_seeds_of_a_run(
    step_time: Any,
    boxed_data: Path,
    tiny_config: Callable[..., TrainConfig],
    tmp_path: Path,
    capsys: Any,
) -> None:
    tiny = recipe(tiny_config(tmp_path), tmp_path / "tiny.yaml")
    words = [str(tiny), str(boxed_data), "--labels", "boxes", "--methods", "agmm", "--repeats", "1"]
    with pytest.raises(SystemExit):
        step_time.main(words)
    assert "--seeds: boxes and tags need" in capsys.readouterr().err

    step_time.main([*words, "--seeds", str(boxed_data / "masks" / "train")])

    assert "| partial-ce |" in capsys.readouterr().out
