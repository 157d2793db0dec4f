"""Validation mIoU of a grid of methods, labels and seeds under one recipe: one command, resumable.

    uv run python benchmarks/quality.py camvid CAMVID runs/camvid
    uv run python benchmarks/quality.py voc_mini VOC_MINI runs/voc_mini --seeds 0 1 2

Runs that are finished are kept, runs that were interrupted are continued. The results go to
``benchmarks/results/RECIPE.json`` and, as a table, to standard output. ``--row LABELS METHOD`` (may
be repeated) takes some rows of the grid only, so that several processes can share the work.
"""

import argparse
import json
import platform
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from agmm.commands.train import train
from agmm.config import from_plain, read_yaml, recipe_path
from agmm.training.run import load_run, write_json
from agmm.training.seeding import SEED_FORMS, SEEDS

Row = tuple[str, str]
"""Labels and method."""

GRIDS: dict[str, list[Row]] = {
    "camvid": [
        ("dense", "dense"),
        ("scribbles", "partial-ce"),
        ("scribbles", "partial-ce+absent"),
        ("scribbles", "ema-teacher"),
        ("scribbles", "agmm-2023"),
        ("scribbles", "agmm"),
        ("points", "partial-ce"),
        ("points", "agmm"),
        ("blocks", "partial-ce"),
        ("blocks", "agmm"),
    ],
    "voc_mini": [
        ("dense", "dense"),
        ("scribbles", "partial-ce"),
        ("scribbles", "agmm"),
        ("points", "partial-ce"),
        ("points", "agmm"),
        ("boxes", "partial-ce"),
        ("boxes", "agmm"),
        ("tags", "partial-ce"),
        ("tags", "agmm"),
        ("blocks", "agmm"),
        ("tags,points", "agmm"),
        ("tags,boxes,scribbles", "agmm"),
    ],
}


def run_one(recipe: str, data: Path, out: Path, row: Row, seed: int) -> dict[str, Any]:
    """Train one cell of the grid, or read it where it is finished, and give its result.

    The seeds of tags and boxes come from the runs of the first method that needs them, so that
    all methods train on the same ones.
    """
    labels, method = row
    folder = run_folder(out, row, seed)
    if not (folder / "metrics.json").is_file():
        asked: dict[str, Any] = {
            "data": data,
            "out": folder,
            "labels": labels.split(","),
            "method": method,
            "seed": seed,
            "seeds": seeds_of(recipe, out, row, seed),
            "skip_bad": True,
            "resume": True,
        }
        train(from_plain({**read_yaml(recipe_path(recipe)), **asked}))
    last = load_run(folder, checkpoint="last")
    metrics = json.loads((folder / "metrics.json").read_text())
    return {
        "labels": labels,
        "method": method,
        "seed": seed,
        "steps": last.step,
        "minutes": metrics["train_seconds"] / 60,
        "miou": metrics["last"]["miou"],
        "miou_best_checkpoint": metrics["best"]["miou"],
        "iou": metrics["last"]["iou"],
    }


def run_folder(out: Path, row: Row, seed: int) -> Path:
    """Where a cell of the grid is trained."""
    labels, method = row
    return out / f"{labels.replace(',', '+')}-{method}-{seed}"


def seeds_of(recipe: str, out: Path, row: Row, seed: int) -> list[Path]:
    """The folder of seeds that an earlier run of the grid has made for a row, if it needs any."""
    form = next((form for form in SEED_FORMS if form in row[0].split(",")), None)
    maker = next(maker for maker in [*GRIDS[recipe], row] if maker[0] == form or maker == row)
    return [] if form is None or maker == row else [run_folder(out, maker, seed) / SEEDS / form]


def as_table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown; the mIoU is that of the last weights, which saw no validation."""
    cells: dict[Row, list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        cells[result["labels"], result["method"]].append(result)
    lines = [
        "| labels | method | seeds | steps | minutes | val mIoU, % |",
        "|---|---|---|---|---|---|",
    ]
    for (labels, method), found in cells.items():
        scores = [100 * result["miou"] for result in found]
        spread = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
        minutes = statistics.median(result["minutes"] for result in found)
        lines.append(
            f"| {labels} | `{method}` | {len(found)} | {found[0]['steps']} | {minutes:.1f} |"
            f" {statistics.mean(scores):.1f}{spread} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then write results and table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=GRIDS)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--row", nargs=2, action="append", metavar=("LABELS", "METHOD"))
    arguments = parser.parse_args()
    rows = [tuple(row) for row in arguments.row or GRIDS[arguments.recipe]]
    results = [
        run_one(arguments.recipe, arguments.data, arguments.out, row, seed)
        for seed in arguments.seeds
        for row in rows
    ]
    print(as_table(results))
    if arguments.row is None:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
        about = {
            "recipe": arguments.recipe,
            "device": device,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        file = Path(__file__).parent / "results" / f"{arguments.recipe}.json"
        write_json(file, {**about, "runs": results})


if __name__ == "__main__":
    main()
