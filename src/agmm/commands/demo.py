"""``agmm demo``: the whole way on generated pictures."""

import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from agmm.commands.common import require_empty
from agmm.commands.evaluate import evaluate
from agmm.commands.parsing import build_parser, parse
from agmm.commands.train import train
from agmm.config import Method, TrainConfig
from agmm.config.rules import COUNT, SEED, check_fields
from agmm.data.dataset import dense_mask, read_supervision
from agmm.datasets.generated import write_generated_dataset
from agmm.datasets.images import read_image
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Record
from agmm.inference.predict import predict_probabilities
from agmm.report.figures import colorize, draw_seeds, legend, panel, sheet, write_png
from agmm.shapes import ImageArray
from agmm.training.run import Run, load_run

EXAMPLES = """
agmm demo
agmm demo --out demo --seed 1
"""
METHODS: tuple[Method, ...] = ("partial-ce", "agmm", "dense")
NUM_TRAIN, NUM_VAL, SIZE = 200, 40, (128, 160)
PICTURES_SHOWN = 4


class DemoResult(NamedTuple):
    """One row of the demo's table.

    Attributes:
        method: Name of the method.
        labels: Form that it was trained from.
        miou: On the validation pictures, 0 to 1.
        seconds: Duration of the training with its validations.
    """

    method: Method
    labels: str
    miou: float
    seconds: float


def demo(*, out: Path | str = "agmm-demo", steps: int = 200, seed: int = 0) -> list[DemoResult]:
    """Draw pictures, train partial-ce and agmm from strokes and dense from masks, and compare.

    Args:
        out: Folder for the pictures, the run folders and overview.png.
        steps: Optimiser steps of each training.
        seed: Seed of the pictures and of the trainings.

    Returns:
        One row per method.

    Raises:
        AgmmError: If ``out`` is not empty, or ``steps`` or ``seed`` is out of its range.
    """
    check_fields(SimpleNamespace(steps=steps, seed=seed), {"steps": COUNT, "seed": SEED}, "--")
    root, console = Path(out), Console(stderr=True)
    require_empty(root)
    with console.status(f"drawing {NUM_TRAIN + NUM_VAL} pictures"):
        write_generated_dataset(
            root / "data", num_train=NUM_TRAIN, num_val=NUM_VAL, size=SIZE, seed=seed
        )
    results = [_train_one(method, root, steps, seed, console) for method in METHODS]
    runs = {method: load_run(root / method, checkpoint="last") for method in METHODS}
    write_overview(root / "overview.png", runs, root / "data")
    return results


def _train_one(method: Method, root: Path, steps: int, seed: int, console: Console) -> DemoResult:
    config = TrainConfig(
        data=root / "data",
        out=root / method,
        labels=("dense",) if method == "dense" else ("scribbles",),
        method=method,
        complete_labels=True,
        encoder="resnet18",
        encoder_weights="none",
        decoder="fpn",
        scale=(0.75, 1.5),
        crop=(96, 96),
        batch_size=8,
        max_steps=steps,
        val_every=steps,
        seed=seed,
    )
    start = time.perf_counter()
    train(config, console)
    seconds = time.perf_counter() - start
    miou = evaluate(root / method, root / "data", checkpoint="last").miou
    return DemoResult(method, config.labels[0], miou, seconds)


def write_overview(path: Path, runs: dict[Method, Run], data: Path) -> None:
    """One PNG: picture, prediction of every method and truth, for some validation pictures.

    Its first row shows what a training picture and its strokes look like.
    """
    dataset = read_dataset(data)
    names, colors = dataset.classes.names, dataset.classes.colors
    rows = [panel(_example(dataset.split("train")[0], len(names), colors))]
    shown = dataset.split("val")[:PICTURES_SHOWN]
    for record in shown:
        image = read_image(record.image)
        columns = [("picture", image)]
        for method, run in runs.items():
            probs = predict_probabilities(run.model, image, objective=run.objective, device="cpu")
            columns.append((method, colorize(probs.argmax(0).byte().numpy(), colors)))
        columns.append(("truth", colorize(dense_mask(record), colors)))
        is_last = record is shown[-1]
        rows.append(panel([(caption if is_last else "", cell) for caption, cell in columns]))
    write_png(path, sheet([*rows, legend(names, colors, width=rows[0].shape[1])]))


def _example(
    record: Record, num_classes: int, colors: Sequence[tuple[int, int, int]]
) -> list[tuple[str, ImageArray]]:
    """A training picture, its strokes, and the mask that nobody had to draw."""
    image = read_image(record.image)
    given = read_supervision(
        record, ("scribbles",), image.shape[:2], num_classes, complete=True, background=None
    )
    return [
        ("training picture", image),
        ("its strokes", draw_seeds(image, given.seeds, colors)),
        ("its full mask", colorize(dense_mask(record), colors)),
    ]


def main(name: str, arguments: Sequence[str]) -> None:
    """Run the command with the words of its command line."""
    values = parse(build_parser(name, demo, EXAMPLES), arguments)
    results = demo(**values)
    table = Table(title="Validation pictures, same network and steps")
    for heading in ("method", "trained from", "mIoU", "minutes"):
        table.add_column(
            heading, justify="left" if heading in ("method", "trained from") else "right"
        )
    for row in results:
        table.add_row(row.method, row.labels, f"{100 * row.miou:.1f}", f"{row.seconds / 60:.1f}")
    out = values["out"]
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(
        f"\nPictures: {out}/overview.png, {out}/agmm/overlays. The same with your own data:\n"
    )
    console.print("  agmm train FOLDER --labels scribbles --out runs/first", markup=False)
    console.print("  agmm evaluate runs/first FOLDER", markup=False)
    console.print("  agmm predict runs/first PICTURES --out masks", markup=False)
    console.print("  agmm label runs/first FOLDER --out pseudo-labels\n", markup=False)
    console.print(
        "FOLDER holds images/train/NAME.jpg, scribbles/NAME.png (class index, 255 = unlabelled), "
        "classes.txt, and for scores images/val and masks/val."
    )
