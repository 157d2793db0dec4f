"""The harness of the quality tables: what it runs, what it keeps, and what it writes."""

import json
import math
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accuracy_tables
import pytest
import yaml

from agmm.config import METHODS, TrainConfig, as_plain, from_plain
from agmm.errors import ConfigError
from agmm.training.objectives import build_objective

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ABLATION = BENCHMARKS / "ablation.yaml"
MakeConfig = Callable[..., TrainConfig]

pytestmark = pytest.mark.usefixtures("without_type_checks")


@pytest.fixture(scope="module")
def quality() -> Any:
    return SimpleNamespace(**runpy.run_path(str(BENCHMARKS / "quality.py"), run_name="quality"))


@pytest.fixture
def recipe(tiny_config: MakeConfig, tmp_path: Path) -> Path:
    """The options of a tiny training, as a recipe."""
    values = as_plain(tiny_config(tmp_path, overlays=0))
    for name in ("data", "out", "labels", "method", "seed", "seeds", "resume", "skip_bad"):
        del values[name]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


class Pretence:
    """Writes what a training would, with a mIoU that depends on method and seed."""

    def __init__(self, stop_after: int | None = None, fail: str = "") -> None:
        self.started: list[str] = []
        self.stop_after, self.fail = stop_after, fail

    def __call__(self, config: TrainConfig, beside: Path) -> None:
        if self.stop_after == len(self.started):
            raise KeyboardInterrupt
        self.started.append(beside.name)
        if config.method == self.fail:
            raise RuntimeError("no room on the disk")
        config.out.mkdir(parents=True, exist_ok=True)
        (config.out / "config.yaml").write_text(yaml.safe_dump(as_plain(config)))
        environment = {
            "gpu": None,
            "cpu": "a processor",
            "cpu_threads": 2,
            "packages": {"torch": "2"},
            "git_revision": "abc",
        }
        (config.out / "environment.json").write_text(json.dumps(environment))
        miou = {"partial-ce": 0.40, "agmm": 0.50, "dense": 0.80}[config.method] + config.seed / 100
        score = {
            "miou": miou,
            "pixel_accuracy": 0.9,
            "iou": {"sky": 2 * miou - 0.5, "road": 0.5 if config.seed else None},
        }
        metrics = {
            "best": {**score, "miou": 0.99},
            "last": score,
            "steps": config.max_steps,
            "train_seconds": 60.0,
            "step_seconds": 0.1 + config.seed / 10,
            "peak_memory_bytes": (100 + config.seed) * 2**20,
        }
        (config.out / "metrics.json").write_text(json.dumps(metrics))


def arguments(recipe: Path, tiny_data: Path, out: Path, *more: str) -> list[str]:
    given = [str(recipe), str(tiny_data), str(out), "--labels", "scribbles", "points"]
    methods = ["--methods", "partial-ce", "agmm", "dense", "--results", str(out / "raw.json")]
    return [*given, *methods, *more]


def row(table: str, labels: str, method: str) -> list[str]:
    (found,) = [line for line in table.splitlines() if line.startswith(f"| {labels} | `{method}` ")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_the_tables_by_hand(
    quality: Any, recipe: Path, tiny_data: Path, tmp_path: Path, capsys: Any
) -> None:
    words = arguments(recipe, tiny_data, tmp_path / "runs", "--seeds", "0", "1", "4")

    assert quality.main(words, Pretence()) == 0

    printed = capsys.readouterr().out
    assert (tmp_path / "runs" / "tables.md").read_text() in printed
    scores, distances, costs, classes = printed.strip().split("\n\n")
    # agmm: 50, 51 and 54, mean 51.667, deviations −1.667, −0.667, 2.333, so √(8.667 / 2) = 2.08;
    # dense: 80, 81 and 84, mean 81.667; 51.667 / 81.667 = 63.3 %. Steps: 0.1, 0.2, 0.5 s.
    seeds = "0: 50.0; 1: 51.0; 4: 54.0"
    gains = "+10.0, +10.0, +10.0"
    expected = ["scribbles", "`agmm`", "51.7 ± 2.1", seeds, gains, "63 %", "90.0"]
    assert row(scores, "scribbles", "agmm") == expected
    dense = ["dense", "`dense`", "81.7 ± 2.1", "0: 80.0; 1: 81.0; 4: 84.0", "", "100 %", "90.0"]
    assert row(scores, "dense", "dense") == dense
    assert row(scores, "points", "partial-ce")[4] == ""
    assert len(scores.splitlines()) == 2 + 5
    head, _, *above = distances.splitlines()
    assert head == "| `agmm` above | scribbles | points |"
    assert above == [f"| `partial-ce` | **+10.0** ({gains}) | **+10.0** ({gains}) |"]
    assert row(costs, "scribbles", "agmm") == ["scribbles", "`agmm`", "3", "2", "0.2", "101"]
    assert classes.splitlines()[0] == "| labels | method | sky | road |"
    # sky: 2·51.667 − 50 = 53.3; road is there in two of three runs, 50 in each.
    assert row(classes, "scribbles", "agmm")[2:] == ["53.3", "50.0"]


def test_the_table_of_variants_by_hand(
    quality: Any, recipe: Path, tiny_data: Path, tmp_path: Path, capsys: Any
) -> None:
    variants = tmp_path / "variants.yaml"
    variants.write_text(
        "agmm: {}\nweak: {method: partial-ce}\nlean: {lr: 1, objective: {teacher: false}}\n"
    )
    words = [str(recipe), str(tiny_data), str(tmp_path / "runs"), "--labels", "points"]
    words += ["--variants", str(variants), "--results", str(tmp_path / "raw.json")]

    quality.main([*words, "--seeds", "0", "1"], Pretence())

    written = json.loads((tmp_path / "raw.json").read_text())
    assert written["variants"] == "variants.yaml"
    expected = [
        "| points | **the default** |  | 0: 50.0; 1: 51.0 |  | 90.0, 90.0 |",
        "| points | weak | `method: partial-ce` | 0: 40.0; 1: 41.0 | −10.0, −10.0 | 90.0, 90.0 |",
        "| points | lean | `lr: 1, teacher: false` | 0: 50.0; 1: 51.0 | +0.0, +0.0 | 90.0, 90.0 |",
    ]
    assert capsys.readouterr().out.splitlines()[2:5] == expected


@pytest.mark.parametrize(
    "name", ["camvid", "camvid-800", "voc_mini", "camvid-ablation", "voc_mini-ablation"]
)
def test_the_tables_of_the_page_are_those_of_the_raw_results(name: str) -> None:
    raw = json.loads((BENCHMARKS / "results" / f"{name}.json").read_text())
    page = (BENCHMARKS / "accuracy.md").read_text(encoding="utf-8")
    tables = [accuracy_tables.variant_table(raw["runs"])]
    if "variants" not in raw:
        tables = [
            accuracy_tables.main_table(raw["runs"]),
            accuracy_tables.distance_table(raw["runs"]),
        ]
    for text in tables:
        assert f"\n{text}\n" in page


def test_the_raw_results_say_how_they_were_made(
    quality: Any, recipe: Path, tiny_data: Path, tmp_path: Path
) -> None:
    words = arguments(recipe, tiny_data, tmp_path / "runs", "--max-steps", "7", "--seeds", "3")

    quality.main([*words, "--set", "val_every=7", "--set", "crop=[16,16]"], Pretence())

    raw = json.loads((tmp_path / "runs" / "raw.json").read_text())
    assert raw["recipe"] == "tiny"
    assert raw["budget"]["max_steps"] == raw["budget"]["val_every"] == 7
    assert raw["budget"]["crop"] == [16, 16]
    assert len(raw["runs"]) == 5
    run = raw["runs"][-1]
    assert (run["labels"], run["method"], run["seed"], run["steps"]) == ("points", "agmm", 3, 7)
    assert run["miou"] == pytest.approx(0.53)
    assert run["options"] == {"method": "agmm"}
    assert (run["device"], run["threads"], run["git_revision"]) == ("a processor", 2, "abc")
    assert run["peak_memory_mib"] == 103


def test_the_curve_of_a_continued_run_is_that_of_all_its_parts(
    quality: Any, tmp_path: Path
) -> None:
    assert quality.curve_of(tmp_path) == {}
    parts = ("step,val/miou,train/loss\n9,,0.5\n9,0.25,\n19,0.3,\n", "step,val/miou\n29,0.5\n")
    for name, text in zip(("version_0", "version_1"), parts, strict=True):
        (tmp_path / "logs/csv" / name).mkdir(parents=True)
        (tmp_path / "logs/csv" / name / "metrics.csv").write_text(text)
    assert quality.curve_of(tmp_path) == {"10": 0.25, "20": 0.3, "30": 0.5}


def test_a_second_call_runs_nothing_and_tells_the_same(
    quality: Any, recipe: Path, tiny_data: Path, tmp_path: Path, capsys: Any
) -> None:
    words = arguments(recipe, tiny_data, tmp_path / "runs", "--seeds", "0", "1")
    first, second = Pretence(), Pretence()
    quality.main(words, first)
    before = capsys.readouterr().out

    quality.main(words, second)

    assert len(first.started) == 10
    assert second.started == []
    assert capsys.readouterr().out == before


def test_an_interrupted_grid_goes_on(
    quality: Any, recipe: Path, tiny_data: Path, tmp_path: Path
) -> None:
    words = arguments(recipe, tiny_data, tmp_path / "runs", "--seeds", "0", "1")
    stopped, continued = Pretence(stop_after=3), Pretence()
    with pytest.raises(KeyboardInterrupt):
        quality.main(words, stopped)

    quality.main(words, continued)

    assert len(stopped.started) == 3
    assert len(continued.started) == 7
    assert not set(stopped.started) & set(continued.started)


def test_a_run_that_fails_is_told_and_the_others_go_on(
    quality: Any, recipe: Path, tiny_data: Path, tmp_path: Path, capsys: Any
) -> None:
    words = arguments(recipe, tiny_data, tmp_path / "runs")

    assert quality.main(words, Pretence(fail="agmm")) == 1

    told = capsys.readouterr()
    assert "scribbles-agmm-0: no room on the disk" in told.err
    assert len(json.loads((tmp_path / "runs" / "raw.json").read_text())["runs"]) == 3


def test_another_budget_in_the_same_folder_is_refused(
    quality: Any, recipe: Path, tiny_data: Path, tmp_path: Path
) -> None:
    words = arguments(recipe, tiny_data, tmp_path / "runs")
    quality.main(words, Pretence())

    with pytest.raises(SystemExit, match=r"was run with max_steps: 2, now 3; take another folder"):
        quality.main([*words, "--max-steps", "3"], Pretence())


def test_a_mistake_in_a_variant_stops_before_the_first_run(
    quality: Any, recipe: Path, tiny_data: Path, tmp_path: Path
) -> None:
    variants, pretence = tmp_path / "variants.yaml", Pretence()
    variants.write_text("good: {}\nbad: {warm_up: 0}\n")
    words = [str(recipe), str(tiny_data), str(tmp_path / "runs"), "--labels", "points"]

    with pytest.raises(ConfigError, match="unknown config key 'warm_up'"):
        quality.main([*words, "--variants", str(variants)], pretence)

    assert pretence.started == []


def test_a_variant_changes_what_it_names_and_nothing_else(
    quality: Any, tiny_data: Path, tmp_path: Path, tiny_config: MakeConfig
) -> None:
    base = as_plain(tiny_config(tmp_path))
    base["objective"] = {"separation": 0.5}
    grid = quality.Grid(base, tiny_data, tmp_path)
    plain = as_plain(grid.config(quality.Cell("points", "agmm", {}, 1)))

    options = {"warmup": 0, "objective": {"mutual": 0.2}}
    changed = as_plain(grid.config(quality.Cell("points", "no warm-up, 0.2", options, 1)))

    assert changed["objective"] == {"separation": 0.5, "mutual": 0.2}
    assert Path(changed["out"]).name == "points-no-warm-up-0.2-1"
    different = {name for name in plain if plain[name] != changed[name]}
    assert different == {"warmup", "objective", "out"}


@pytest.mark.parametrize(
    ("labels", "maker"),
    [
        ("points", None),
        ("dense", None),
        ("boxes", "boxes"),
        ("tags", "tags"),
        ("tags,points", "tags"),
        ("tags,boxes,scribbles", "boxes"),
    ],
)
def test_all_methods_of_a_seed_share_their_seeds_of_boxes_and_tags(
    labels: str, maker: str | None, quality: Any, tiny_data: Path, tmp_path: Path, recipe: Path
) -> None:
    base = yaml.safe_load(recipe.read_text())
    grid, pretence = quality.Grid(base, tiny_data, tmp_path / "runs"), Pretence()
    cell = quality.Cell(labels, "agmm", {"method": "agmm"}, 2)

    assert quality.run_grid(grid, [cell], pretence, 1) == []

    made = [] if maker is None else [f"{maker}-partial-ce-2"]
    assert pretence.started == [*made, cell.run]
    folders = [tmp_path / "runs" / name / "seeds" / str(maker) for name in made]
    assert list(grid.config(cell).seeds) == folders
    first = quality.seed_maker(cell)
    assert first is None or grid.config(first).seeds == ()


def test_seeds_may_be_given_to_all_runs(quality: Any, tiny_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "found"
    grid = quality.Grid({"seeds": [str(folder)]}, tiny_data, tmp_path / "runs")
    for seed in (0, 1):
        cell = quality.Cell("tags", "agmm", {}, seed)
        assert list(grid.config(cell).seeds) == [folder]
    for labels in ("points", "dense"):  # they have no use for any, and agmm train refuses them
        assert grid.config(quality.Cell(labels, "agmm", {}, 0)).seeds == ()


def test_the_grid_has_the_rows_of_the_tables(quality: Any) -> None:
    assert {*quality.METHODS, "dense"} == set(METHODS)
    variants = {name: {"method": name} for name in quality.METHODS}
    cells = quality.make_cells(quality.FORMS["voc_mini"], variants, [0, 1, 2], dense=True)
    assert len({cell.run for cell in cells}) == len(cells) == 3 * (7 * 7 + 1)


def test_every_variant_of_the_ablation_is_one_that_agmm_has(tmp_path: Path, quality: Any) -> None:
    variants = yaml.safe_load(ABLATION.read_text())
    assert variants.pop("agmm") == {}
    for name, options in variants.items():
        config = from_plain({"data": tmp_path, "out": tmp_path, "labels": ["points"], **options})
        build_objective(config.method, 3, 8, config.objective)
        assert options, name
    runs = {quality.Cell("points", name, {}, 0).run for name in variants}
    assert len(runs) == len(variants)


def test_two_real_trainings_and_their_table(
    quality: Any, recipe: Path, tiny_data: Path, tmp_path: Path, capsys: Any
) -> None:
    """Two steps with two seeds, both at a time; then nothing again."""
    out = tmp_path / "runs"
    words = [str(recipe), str(tiny_data), str(out), "--labels", "points", "--methods", "partial-ce"]
    words += ["--seeds", "0", "1", "--results", str(out / "raw.json")]
    assert quality.main([*words, "--jobs", "2"]) == 0
    capsys.readouterr()
    files = [out / f"points-partial-ce-{seed}" / "metrics.json" for seed in (0, 1)]
    written = [file.stat().st_mtime_ns for file in files]

    assert quality.main(words) == 0

    assert [file.stat().st_mtime_ns for file in files] == written
    a, b = (json.loads(file.read_text()) for file in files)
    x, y = 100 * a["last"]["miou"], 100 * b["last"]["miou"]
    scores, costs, _ = capsys.readouterr().out.strip().split("\n\n")
    cells = row(scores, "points", "partial-ce")
    assert cells[2] == f"{(x + y) / 2:.1f} ± {abs(x - y) / math.sqrt(2):.1f}"
    cells = row(costs, "points", "partial-ce")
    assert cells[2:5] == ["2", "2", f"{(a['step_seconds'] + b['step_seconds']) / 2:.3g}"]
    raw = json.loads((out / "raw.json").read_text())["runs"]
    assert [run["miou"] for run in raw] == pytest.approx([x / 100, y / 100], abs=1e-4)
    assert raw[0]["peak_memory_mib"] == round(a["peak_memory_bytes"] / 2**20)
    assert raw[0]["iou"].keys() == {"sky", "wall", "road"}
    assert list(raw[0]["val_miou"]) == ["1", "2"]  # validated after every step
    assert raw[0]["val_miou"]["2"] == raw[0]["miou"]
