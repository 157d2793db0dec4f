"""Validation mIoU of every method on CamVid under one recipe: one command, resumable.

    uv run python benchmarks/quality.py CAMVID runs/camvid

Runs that are finished are kept, runs that were interrupted are continued. The results go to
``benchmarks/results/camvid.json`` and, as a table, to standard output.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch

from agmm.commands.train import train
from agmm.config import from_plain, read_yaml, recipe_path
from agmm.training.run import load_run, write_json

RESULTS = Path(__file__).parent / "results" / "camvid.json"
GRID = [
    ("dense", "dense"),
    ("partial-ce", "scribbles"),
    ("partial-ce+absent", "scribbles"),
    ("ema-teacher", "scribbles"),
    ("agmm-2023", "scribbles"),
    ("agmm", "scribbles"),
    ("partial-ce", "points"),
    ("agmm", "points"),
    ("partial-ce", "blocks"),
    ("agmm", "blocks"),
]


def run_one(data: Path, out: Path, method: str, labels: str, seed: int) -> dict[str, Any]:
    """Train one cell of the grid, or read it where it is finished, and give its row."""
    folder = out / f"{labels}-{method}-{seed}"
    if not (folder / "metrics.json").is_file():
        recipe = read_yaml(recipe_path("camvid"))
        asked = {"data": data, "out": folder, "labels": [labels], "method": method, "seed": seed}
        train(from_plain({**recipe, **asked, "resume": True}))
    last = load_run(folder, checkpoint="last")
    metrics = json.loads((folder / "metrics.json").read_text())
    return {
        "method": method,
        "labels": labels,
        "seed": seed,
        "steps": last.step,
        "minutes": metrics["train_seconds"] / 60,
        "miou": metrics["last"]["miou"],
        "miou_best_checkpoint": metrics["best"]["miou"],
        "iou": metrics["last"]["iou"],
    }


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown; the mIoU is that of the last weights, which saw no validation."""
    lines = ["| labels | method | seed | steps | minutes | val mIoU |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {r['labels']} | `{r['method']}` | {r['seed']} | {r['steps']} | {r['minutes']:.1f} "
        f"| {100 * r['miou']:.1f} |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then write results and table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = [
        run_one(arguments.data, arguments.out, method, labels, arguments.seed)
        for method, labels in GRID
    ]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    about = {"recipe": "camvid", "device": device, "threads": torch.get_num_threads()}
    write_json(RESULTS, {**about, "runs": rows})
    print(as_table(rows))


if __name__ == "__main__":
    main()
