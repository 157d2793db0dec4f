"""The rate of the loader and the steps of a view."""

import json
import multiprocessing
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from agmm.config import TrainConfig, as_plain

HARNESS = Path(__file__).parents[2] / "benchmarks" / "loading.py"
STEPS = [
    "read and decode the picture",
    "read the labels",
    "rasterise the labels",
    "resize the picture",
    "resize the seeds",
    "resize the valid pixels",
    "crop",
    "flip",
    "change the colours",
    "turn the hue",
    "normalise",
    "the rest",
    "all",
]

pytestmark = pytest.mark.usefixtures("without_type_checks")


@pytest.fixture(scope="module")
def loading() -> Any:
    return SimpleNamespace(**runpy.run_path(str(HARNESS), run_name="loading"))


@pytest.fixture
def recipe(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> Path:
    values = as_plain(tiny_config(tmp_path))
    for name in ("data", "out", "labels"):
        del values[name]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_tables_by_hand(loading: Any) -> None:
    rates = {2: loading.Rate(30.0, 15.0, 2000.4), 0: loading.Rate(20.0, 20.0, 500.0)}

    lines = loading.as_table(rates, {"read": 3.0, "the rest": 1.0, "all": 4.0}).splitlines()

    assert lines[2:4] == [
        "| 0 | 20.0 | 1.00 | 20.0 | 1.00 | 500 |",
        "| 2 | 30.0 | 1.50 | 15.0 | 0.75 | 2,000 |",
    ]
    assert lines[7:] == ["| read | 3.00 | 75 % |", "| the rest | 1.00 | 25 % |",
                         "| all | 4.00 | 100 % |"]  # fmt: skip


@pytest.mark.parametrize("workers", [0, 2])
def test_a_rate_counts_every_batch_once(
    loading: Any, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wall time is that of the batches asked for, processor time that of all."""
    asked: list[list[int]] = []

    class Loader:
        def __init__(self, views: Any, batch_sampler: list[list[int]], num_workers: int) -> None:
            assert (views, num_workers) == ("views", workers)
            asked.extend(batch_sampler)

        def __iter__(self) -> Iterator[list[int]]:
            return iter(asked)

    names = loading.loading_rate.__globals__
    wall, processor = iter((10.0, 12.0)), iter((1.0, 5.0))
    monkeypatch.setitem(names, "DataLoader", Loader)
    monkeypatch.setitem(names, "time", SimpleNamespace(perf_counter=lambda: next(wall)))
    monkeypatch.setitem(names, "processor_seconds", lambda: next(processor))
    monkeypatch.setitem(names, "shared_memory", lambda: 7.0)

    rate = loading.loading_rate("views", 4, 6, workers)

    started = max(1, workers)
    assert [i for batch in asked for i in batch] == list(range(4 * (6 + started)))
    assert rate == (6 * 4 / 2, (6 + started) * 4 / 4, 7.0)


def test_memory_is_that_of_all_processes(loading: Any) -> None:
    """A page that a child has for itself counts, one that it shares with its parent only once."""
    alone = loading.shared_memory()
    held = bytearray(2**25)  # 32 MiB, which the child shares
    written, done = multiprocessing.Event(), multiprocessing.Event()

    def hold() -> None:
        own = bytearray(b"1") * 2**26  # 64 MiB
        written.set()
        done.wait()
        del own

    child = multiprocessing.get_context("fork").Process(target=hold)
    child.start()
    try:
        assert written.wait(timeout=60)
        together = loading.shared_memory()
    finally:
        done.set()
        child.join()

    assert len(held) == 2**25
    assert 60 < together - alone < 150


def test_processor_time_includes_that_of_ended_children(
    loading: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = {
        0: SimpleNamespace(ru_utime=1.0, ru_stime=0.5),
        -1: SimpleNamespace(ru_utime=4.0, ru_stime=2.0),
    }
    fake = SimpleNamespace(RUSAGE_SELF=0, RUSAGE_CHILDREN=-1, getrusage=usage.__getitem__)
    monkeypatch.setitem(loading.processor_seconds.__globals__, "resource", fake)

    assert loading.processor_seconds() == 7.5


@pytest.mark.usefixtures("same_threads")
@pytest.mark.parametrize("labels", ["points", "points,dense"])
def test_tables_and_results_of_tiny_data(
    loading: Any, tiny_data: Path, recipe: Path, tmp_path: Path, capsys: Any, labels: str
) -> None:  # fmt: skip
    results = tmp_path / "loading.json"
    words = [str(recipe), str(tiny_data), "--labels", labels, "--workers", "0", "1"]

    loading.main([*words, "--batches", "2", "--repeats", "2", "--results", str(results)])

    (row,) = json.loads(results.read_text())
    assert (row["recipe"], row["labels"], row["batch_size"]) == ("tiny", labels, 2)
    assert {n: len(rates) for n, rates in row["rates"].items()} == {"0": 2, "1": 2}
    assert all(value > 0 for rates in row["rates"].values() for r in rates for value in r.values())
    assert list(row["steps"]) == STEPS
    assert sum(row["steps"].values()) == pytest.approx(2 * row["steps"]["all"])
    printed = capsys.readouterr().out
    assert "medians of 2" in printed
    assert printed.count("\n| 0 |") == printed.count("\n| 1 |") == 1
    assert "| all |" in printed


def test_pictures_with_one_of_several_forms_count(
    loading: Any, tiny_data: Path, recipe: Path
) -> None:
    _, views = loading.training_pictures(str(recipe), tiny_data, "points,scribbles")
    del views.records[0].labels["points"]

    steps = loading.view_steps(views, 1)

    assert steps["read the labels"] > 0


def test_the_plot_lies_beside_the_results(loading: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws: uv run --group plots pytest tests/benchmarks")
    rate = {"per_second": 3.0, "per_processor_second": 2.0, "mib": 900.0}
    row = {"recipe": "camvid", "labels": "points", "rates": {"2": [rate], "0": [rate, rate]}}
    results = tmp_path / "loading.json"
    results.write_text(json.dumps([row]))

    loading.main(["--plot", "--results", str(results)])

    drawn = results.with_suffix(".svg").read_text()
    assert "<svg" in drawn
    assert "camvid, points" in drawn


def test_data_are_needed(loading: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        loading.main(["camvid"])
    assert "RECIPE and DATA are needed, or --plot" in capsys.readouterr().err


def test_new_results_replace_those_of_their_recipe_and_labels(loading: Any, tmp_path: Path) -> None:
    file = tmp_path / "loading.json"
    old = [{"recipe": "a", "labels": "points", "x": 1}, {"recipe": "a", "labels": "dense", "x": 2}]
    new = {"recipe": "a", "labels": "points", "x": 3}
    assert loading.with_row(file, new) == [new]

    file.write_text(json.dumps(old))

    assert loading.with_row(file, new) == [old[1], new]
