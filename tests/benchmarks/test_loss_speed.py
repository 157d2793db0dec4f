"""The times and memory of the loss: what is measured, kept, tabled and drawn."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

HARNESS = Path(__file__).parents[2] / "benchmarks" / "loss_speed.py"
TINY = {"B": 2, "K": 3, "D": 4, "h": 4, "w": 5, "stride": 2}

pytestmark = pytest.mark.usefixtures("without_type_checks")


@pytest.fixture(scope="module")
def speed() -> Any:
    return SimpleNamespace(**runpy.run_path(str(HARNESS), run_name="loss_speed"))


@pytest.fixture
def row(speed: Any) -> Callable[..., dict[str, Any]]:
    """Make a row whose times and memory follow from a number."""

    def make(axis: str, x: float, **changes: Any) -> dict[str, Any]:
        repeats = {"agmm": [x, 3 * x, 2 * x], "cross-entropy": [x]}
        mib = {"agmm": 10 * x, "cross-entropy": 5 * x}
        made: dict[str, Any] = speed.as_row(axis, speed.Point(**changes), repeats, mib, "cpu")
        return made

    return make


def test_the_axes_vary_what_they_are_named_after(speed: Any) -> None:
    changed = {
        axis: [{k for k, v in p._asdict().items() if v != speed.SMALL._asdict()[k]} for p in points]
        for axis, points in speed.AXES.items()
    }

    assert set().union(*changed["classes"]) == {"K"}
    assert set().union(*changed["classes of the grid"]) == {"K", "stride"}
    assert set().union(*changed["channels"]) == {"D"}
    assert set().union(*changed["grid"]) == {"h", "w"}
    assert set().union(*changed["batch"]) == {"B"}
    assert set(speed.PLACES) <= set(speed.AXES)


@pytest.mark.parametrize("layout", ["planes", "interleaved"])
def test_a_batch_has_the_sizes_of_its_point(speed: Any, layout: str) -> None:
    batch = speed.make_batch(speed.Point(**TINY, layout=layout), "cpu")

    assert batch.logits.shape == (2, 3, 8, 10)
    assert batch.features.shape == (2, 4, 4, 5)
    named = batch.seeds[batch.seeds != 255]
    assert 0 < len(named) < batch.seeds.numel()
    assert named.max() < 3
    for seeds, allowed in zip(batch.seeds, batch.candidates, strict=True):
        assert allowed[seeds[seeds != 255]].all()
    wanted = torch.channels_last if layout == "interleaved" else torch.contiguous_format
    assert batch.logits.is_contiguous(memory_format=wanted)


def test_the_two_forms_of_2023_agree(speed: Any) -> None:
    """One tensor of all classes, and a loop over them."""
    batch = speed.make_batch(speed.Point(**TINY), "cpu")

    vectorised, looped = (speed.published_mixture(*batch[:3], loops=x) for x in (False, True))

    assert vectorised.isfinite()
    torch.testing.assert_close(vectorised, looped)


def test_a_band_is_a_row_of_cells_at_least_and_the_picture_at_most(speed: Any) -> None:
    assert speed.bands(speed.Point(**TINY)) == 1
    # 4 * 21 * 256 * 81 * 81 * 16 bytes are 8.4 times 2^28 bytes.
    assert speed.bands(speed.Point()) == 9
    assert speed.bands(speed.Point(K=255, h=2, w=10_000)) == 2


@pytest.mark.usefixtures("same_threads")
def test_every_repeat_is_given_and_the_loss_of_2023_once_for_all_pictures(
    speed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that gains a second a reading, every call takes one second."""
    names = ["agmm", "cross-entropy", "looped 2023"]
    ticks = iter(range(1000))
    clock = SimpleNamespace(process_time=lambda: float(next(ticks)))
    monkeypatch.setitem(speed.measure.__globals__, "time", clock)

    seconds = speed.measure(speed.Point(**TINY), "cpu", 3, names, "")

    assert seconds == {"agmm": [1.0] * 3, "cross-entropy": [1.0] * 3, "looped 2023": [2.0]}


@pytest.mark.usefixtures("same_threads")
def test_the_compiled_loss_is_one_graph(speed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def no_compiler(module: torch.nn.Module, **options: Any) -> torch.nn.Module:
        asked.append(options)
        return module

    monkeypatch.setattr(torch, "compile", no_compiler)

    seconds = speed.measure(speed.Point(**TINY), "cpu", 1, [speed.COMPILED], "")

    assert asked == [{"fullgraph": True}]
    assert [len(values) for values in seconds.values()] == [1]


@pytest.mark.usefixtures("same_threads")
def test_memory_is_that_of_the_one_asked_for(speed: Any) -> None:
    found = speed.measure(speed.Point(**TINY), "cpu", 0, ["agmm", "cross-entropy"], "agmm")

    assert list(found) == ["agmm"]
    assert found["agmm"] >= 0


def test_the_table_by_hand(speed: Any, row: Callable[..., dict[str, Any]]) -> None:
    lines = speed.table([row("point", 1.0), row("classes", 2.0, B=2, K=150)]).splitlines()

    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert lines[2] == "| base point | 2.000 |  | 0.50 |  |  |  | 10 | 5 |  |"
    assert lines[3] == "| B 2, K 150 | 4.000 |  | 0.50 |  |  |  | 20 | 10 |  |"


def test_a_row_replaces_that_of_its_axis_point_and_device(
    speed: Any, row: Callable[..., dict[str, Any]]
) -> None:
    base, other_axis, other_point = row("classes", 1.0), row("batch", 1.0), row("classes", 1.0, K=2)
    other_device = {**base, "device": "cuda"}
    again = row("classes", 7.0)
    rows = [base, other_axis, other_point, other_device]

    assert speed.merged(rows, again) == [other_axis, other_point, other_device, again]
    assert speed.merged([], again) == [again]


def test_rounds_take_turns_and_results_are_merged(
    speed: Any, row: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """Points in turn within a round; each process gives the number of its turn as the time."""
    results = tmp_path / "speed.json"
    speed.write_rows(results, [row("batch", 1.0)])
    asked: list[tuple[int, str]] = []

    def in_child(
        point: Any, device: str, repeats: int, only: list[str], memory_of: str = ""
    ) -> Any:
        assert (device, repeats) == ("cpu", 2)
        assert only == ["agmm", "cross-entropy"]
        asked.append((point.D, memory_of))
        return {name: [float(len(asked))] * 2 for name in only}

    monkeypatch.setitem(speed.main.__globals__, "in_child", in_child)
    words = ["--axis", "channels", "--point", "h=60", "w=80", "--only", "cross-entropy"]

    speed.main([*words, "--device", "cpu", "--repeats", "2", "--rounds", "2", "--no-memory",
                "--results", str(results)])  # fmt: skip

    assert asked == [(64, ""), (256, ""), (768, "")] * 2
    kept, *new = speed.read_rows(results)
    assert kept == row("batch", 1.0)
    assert [r["point"].get("D", 256) for r in new] == [64, 256, 768]
    assert new[0]["point"] == {"B": 2, "D": 64, "h": 60, "w": 80}
    assert [r["repeats"]["agmm"] for r in new] == [[1, 1, 4, 4], [2, 2, 5, 5], [3, 3, 6, 6]]
    assert [r["seconds"]["agmm"] for r in new] == [2.5, 3.5, 4.5]
    assert all(r["mib"] == {} for r in new)
    assert capsys.readouterr().out.endswith(speed.table([kept, *new]) + "\n")
    assert [file.name for file in tmp_path.iterdir()] == ["speed.json"]


def test_a_point_runs_in_processes_of_its_own(speed: Any, tmp_path: Path) -> None:
    results = tmp_path / "speed.json"
    changes = [f"{name}={value}" for name, value in TINY.items()]

    speed.main(["--axis", "point", "--point", *changes, "--repeats", "2", "--no-memory",
                "--device", "cpu", "--results", str(results)])  # fmt: skip

    (found,) = speed.read_rows(results)
    assert found["point"] == TINY
    usual = {"agmm", *speed.OTHERS} - {speed.COMPILED}
    assert {name: len(values) for name, values in found["repeats"].items()} == {
        name: 1 if "2023" in name else 2 for name in usual
    }
    assert all(value > 0 for values in found["repeats"].values() for value in values)


def test_memory_of_the_band_is_multiplied(speed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    point = speed.Point()

    def in_child(_: Any, __: str, repeats: int, only: list[str], memory_of: str) -> Any:
        assert repeats == 0
        assert memory_of in only
        return {memory_of: 3.0}

    monkeypatch.setitem(speed.memory.__globals__, "in_child", in_child)

    assert speed.memory(point, "cpu", ["agmm", "vectorised 2023"]) == {
        "agmm": 3.0,
        "band of 2023": 3.0,
        "vectorised 2023": 3.0 * 8 * 9,
    }


def test_curves_are_the_listed_points_in_the_order_of_the_axis(
    speed: Any, row: Callable[..., dict[str, Any]]
) -> None:
    rows = [row("channels", 3.0, B=2, D=768), row("channels", 1.0, B=2, D=64),
            row("channels", 9.0, B=2, D=64, h=60, w=80), row("chosen points", 1.0)]  # fmt: skip
    rows[0]["mib"] = {}

    assert speed.curves(rows) == {
        "channels": {
            "seconds": {"agmm": [(64, 2.0), (768, 6.0)], "cross-entropy": [(64, 1.0), (768, 3.0)]},
            "mib": {"agmm": [(64, 10.0)], "cross-entropy": [(64, 5.0)]},
        }
    }


def test_nothing_to_draw_is_an_error(speed: Any, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        speed.main(["--plot", "--results", str(tmp_path / "none.json")])

    assert "none.json has no points of classes" in capsys.readouterr().err


@pytest.mark.parametrize("memory_of", [0, 1, 3])
def test_the_plot_lies_beside_the_results(
    speed: Any, row: Callable[..., dict[str, Any]], tmp_path: Path, memory_of: int
) -> None:
    """Two axes; a second row of panels where the memory of any point was measured."""
    pytest.importorskip("matplotlib", reason="draws: uv run --group plots pytest tests/benchmarks")
    rows = [row("classes", 1.0, B=2, K=k) for k in (2, 21)] + [row("grid", 1.0, B=2)]
    for later in rows[memory_of:]:
        later["mib"] = {}
    results = tmp_path / "speed.json"
    speed.write_rows(results, rows)

    speed.main(["--plot", "--results", str(results)])

    drawn = (tmp_path / "speed.svg").read_text()
    assert drawn.startswith("<?xml")
    assert json.loads(results.read_text()) == {"rows": rows}
    assert drawn.count('<g id="axes_') == (4 if memory_of else 2)
