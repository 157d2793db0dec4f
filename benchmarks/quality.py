"""Validation mIoU of a grid of methods, labels and seeds under one budget: one command, resumable.

    uv run python benchmarks/quality.py camvid CAMVID runs/camvid --seeds 0 1 2
    uv run python benchmarks/quality.py voc_mini VOC_MINI runs/voc --seeds 0 1 2 --max-steps 2000
    uv run python benchmarks/quality.py camvid CAMVID runs/camvid --seeds 0 1 2 \
        --variants benchmarks/ablation.yaml --labels points scribbles

Runs that are finished are kept, interrupted ones are continued; a folder OUT holds one budget, and
a run in it that was made with other options is an error. Every run is a process of its own
(``agmm train``), with its output in ``OUT/RUN.log``. The tables of ``accuracy_tables.py`` go to
standard output and to ``OUT/tables.md``. The raw results go to ``benchmarks/results/RECIPE.json``
(``RECIPE-VARIANTS.json`` for variants) when the whole grid was asked for, or to ``--results FILE``,
with the mIoU of every validation. So several processes can share the work, by labels, methods or
seeds; the whole command then collects what they did.
"""

import argparse
import csv
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from accuracy_tables import all_tables

from agmm.config import TrainConfig, as_plain, from_plain, read_config, read_yaml, recipe_path
from agmm.files import write_text
from agmm.training.run import FREE_TO_CHANGE
from agmm.training.seeding import SEED_FORMS, SEEDS

RESULTS = Path(__file__).parent / "results"
FORMS = {
    "camvid": ["points", "scribbles", "blocks"],
    "voc_mini": [
        "points", "scribbles", "blocks", "boxes", "tags", "tags,points", "tags,boxes,scribbles",
    ],
}  # fmt: skip
"""The label forms of the recipes' data."""
METHODS = [
    "partial-ce", "partial-ce+absent", "ema-teacher", "agmm-2023", "gated-crf",
    "prototype-contrast", "agmm",
]  # fmt: skip
SEED_MAKER = "partial-ce"
"""The method whose runs find the seeds of boxes and tags, for all methods of the same seed."""

Options = dict[str, Any]


class Cell(NamedTuple):
    """One run: label forms, the name of a method or variant, its options, and the seed."""

    labels: str
    name: str
    options: Options
    seed: int

    @property
    def run(self) -> str:
        """The name of its folder."""
        name = re.sub(r"[^\w.+-]+", "-", self.name)
        return f"{self.labels.replace(',', '+')}-{name}-{self.seed}"


class Grid(NamedTuple):
    """What all runs share: options of recipe and budget, data, and the folder of the runs."""

    base: Options
    data: Path
    out: Path

    def config(self, cell: Cell) -> TrainConfig:
        """The config of a run; raises where an option is unknown or out of its range."""
        given = {"data": self.data, "out": self.out / cell.run, "labels": cell.labels.split(",")}
        fixed = {"seed": cell.seed, "seeds": self.seeds(cell), "skip_bad": True, "resume": True}
        objective = {**self.base.get("objective", {}), **cell.options.get("objective", {})}
        return from_plain({**self.base, **cell.options, **given, **fixed, "objective": objective})

    def seeds(self, cell: Cell) -> list[Path]:
        """The folder of seeds that another run has made for it, if it needs any.

        Folders that all such runs were given (``--set "seeds=[FOLDER]"``) come first.
        """
        maker = seed_maker(cell)
        if maker is None:
            return []
        if given := self.base.get("seeds"):
            return [Path(folder) for folder in given]
        if maker.run == cell.run:
            return []
        return [self.out / maker.run / SEEDS / maker.labels]


def seed_maker(cell: Cell) -> Cell | None:
    """The run that finds the seeds of a run's boxes or tags; None if it has neither."""
    forms = cell.labels.split(",")
    form = next((form for form in SEED_FORMS if form in forms), None)
    return form and Cell(form, SEED_MAKER, {"method": SEED_MAKER}, cell.seed)


def make_cells(
    labels: Sequence[str], variants: Mapping[str, Options], seeds: Sequence[int], *, dense: bool
) -> list[Cell]:
    """All runs of a grid, seed by seed, so that a grid that is stopped has whole rows."""
    cells = []
    for seed in seeds:
        if dense:
            cells.append(Cell("dense", "dense", {"method": "dense"}, seed))
        cells += [Cell(form, name, variants[name], seed) for form in labels for name in variants]
    return cells


def is_finished(grid: Grid, cell: Cell) -> bool:
    """Whether a run is there to the end; raises where it was made with other options."""
    folder, wanted = grid.out / cell.run, as_plain(grid.config(cell))
    if not (folder / "metrics.json").is_file():
        return False
    stored = as_plain(read_config(folder / "config.yaml"))
    for name in wanted.keys() - FREE_TO_CHANGE - {"seeds"}:
        if wanted[name] != stored[name]:
            message = f"{folder}: was run with {name}: {stored[name]}, now {wanted[name]}"
            raise SystemExit(f"{message}; take another folder for another budget")
    return True


Start = Callable[[TrainConfig, Path], None]
"""Train as the config says; the path, without a suffix, is where to write what else there is."""


class Processes:
    """Trainings as processes of their own, which end with this one."""

    def __init__(self) -> None:
        self.running: set[subprocess.Popen[bytes]] = set()

    def __call__(self, config: TrainConfig, beside: Path) -> None:
        """Run ``agmm train``; raises with its last line where it fails."""
        values = as_plain(config)
        words = [str(config.data), "--labels", ",".join(config.labels), "--out", str(config.out)]
        for name in ("data", "labels", "out"):
            del values[name]
        write_text(beside.with_name(f"{beside.name}.yaml"), yaml.safe_dump(values))
        words += ["--recipe", f"{beside}.yaml"]
        log = beside.with_name(f"{beside.name}.log")
        with log.open("ab") as file:
            child = subprocess.Popen(
                [sys.executable, "-m", "agmm.cli", "train", *words],
                stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
            self.running.add(child)
            failed = child.wait()
            self.running.discard(child)
        if failed:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise RuntimeError(f"{log}: {' '.join(last) or f'exit code {failed}'}")

    def stop(self) -> None:
        """End what is running; their checkpoints stay."""
        for child in list(self.running):
            child.terminate()


def run_grid(grid: Grid, cells: Sequence[Cell], start: Start, jobs: int) -> list[str]:
    """Train what is missing, first the runs that find seeds for others; give the failures."""
    makers = {maker.run: maker for cell in cells if (maker := seed_maker(cell))}
    rest = [cell for cell in cells if cell.run not in makers]
    failures: list[str] = []
    for part in (list(makers.values()), rest):
        missing = [cell for cell in part if not is_finished(grid, cell)]
        pool = ThreadPoolExecutor(jobs)
        try:
            tasks = {pool.submit(start, grid.config(c), grid.out / c.run): c for c in missing}
            for done, task in enumerate(as_completed(tasks), start=1):
                error = task.exception()
                if isinstance(error, Exception):
                    failures.append(f"{tasks[task].run}: {error}")
                elif error is not None:
                    raise error
                state = "failed" if error else "done"
                print(f"{tasks[task].run}: {state} ({done} of {len(missing)})", file=sys.stderr)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return failures


def result_of(grid: Grid, cell: Cell) -> dict[str, Any]:
    """What a finished run has written, and how it was made."""
    folder = grid.out / cell.run
    metrics = json.loads((folder / "metrics.json").read_text())
    environment = json.loads((folder / "environment.json").read_text())
    config = read_yaml(folder / "config.yaml")
    on_gpu = config["accelerator"] != "cpu" and environment["gpu"]
    peak = metrics["peak_memory_bytes"]
    return {
        "labels": cell.labels,
        "method": cell.name,
        "seed": cell.seed,
        "options": cell.options,
        "steps": metrics["steps"],
        "miou": metrics["last"]["miou"],
        "miou_best_checkpoint": metrics["best"]["miou"],
        "pixel_accuracy": metrics["last"]["pixel_accuracy"],
        "step_seconds": metrics["step_seconds"],
        "peak_memory_mib": peak and round(peak / 2**20),
        "train_minutes": metrics["train_seconds"] / 60,
        "device": environment["gpu"] if on_gpu else environment["cpu"],
        "threads": environment["cpu_threads"],
        "torch": environment["packages"]["torch"],
        "git_revision": environment["git_revision"],
        "val_miou": curve_of(folder),
        "iou": metrics["last"]["iou"],
    }


def curve_of(folder: Path) -> dict[str, float]:
    """Validation mIoU by the number of steps; a run that was continued has several logs."""
    found = {}
    for log in sorted(folder.glob("logs/csv/*/metrics.csv")):
        with log.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("val/miou")]
        found.update({str(int(row["step"]) + 1): float(row["val/miou"]) for row in rows})
    return found


def as_json(about: dict[str, Any], results: Sequence[dict[str, Any]]) -> str:
    """The raw results, a line for each run, numbers to four places."""

    def short(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: short(entry) for name, entry in value.items()}
        return round(value, 4) if isinstance(value, float) else value

    runs = ",\n".join(f"    {json.dumps(short(result), allow_nan=False)}" for result in results)
    head = json.dumps(about, indent=2).removesuffix("\n}")
    return f'{head},\n  "runs": [\n{runs}\n  ]\n}}\n'


def parse_setting(text: str) -> tuple[str, Any]:
    """``key=value``, the value in YAML."""
    key, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return key, yaml.safe_load(value)


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="a recipe or a YAML file: what all runs have in common")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, help="folder of the runs of this budget")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--labels", nargs="+", help="label forms, each maybe several with commas")
    parser.add_argument("--methods", nargs="+", help="methods, or names of variants; dense is one")
    parser.add_argument("--variants", type=Path, help="YAML: name to options, in place of methods")
    parser.add_argument(
        "--max-steps", type=int, help="steps of every run, in place of the recipe's"
    )
    parser.add_argument(
        "--set", type=parse_setting, action="append", default=[], metavar="KEY=VALUE",
        help="another option of every run, e.g. val_every=500 or crop=[176,240]",
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--results", type=Path, help="JSON file for the raw results")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None, start: Start | None = None) -> int:
    """Run what is missing, then write results and tables."""
    arguments = parse_arguments(words)
    base = {**read_yaml(recipe_path(arguments.recipe)), **dict(arguments.set)}
    if arguments.max_steps:
        base["max_steps"] = arguments.max_steps
    grid = Grid(base, arguments.data, arguments.out)
    stem = Path(arguments.recipe).stem
    labels = arguments.labels or FORMS.get(stem)
    if labels is None:
        raise SystemExit(f"--labels: {arguments.recipe} has no label forms of its own; name them")
    variants = {name: {"method": name} for name in METHODS}
    if arguments.variants:
        variants = read_yaml(arguments.variants)
    known = list(variants) if arguments.variants else [*variants, "dense"]
    chosen = arguments.methods or known
    if unknown := set(chosen) - set(known):
        raise SystemExit(
            f"--methods: no {', '.join(sorted(unknown))}; there are {', '.join(known)}"
        )
    picked = {name: options for name, options in variants.items() if name in chosen}
    cells = make_cells(labels, picked, arguments.seeds, dense="dense" in chosen)
    for cell in cells:
        is_finished(grid, cell)  # a mistake in any of them stops before the first

    processes = Processes()
    try:
        failures = run_grid(grid, cells, start or processes, arguments.jobs)
    finally:
        processes.stop()
    results = [result_of(grid, cell) for cell in cells if is_finished(grid, cell)]
    tables = all_tables(results, variants=bool(arguments.variants))
    print(tables)
    write_text(grid.out / "tables.md", tables)
    file = arguments.results
    if file is None and not (arguments.labels or arguments.methods):
        suffix = f"-{arguments.variants.stem}" if arguments.variants else ""
        file = RESULTS / f"{stem}{suffix}.json"
    if file is not None:
        about = {"recipe": stem, "budget": base}
        if arguments.variants:
            about["variants"] = arguments.variants.name
        write_text(file, as_json(about, results))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
