"""Time of a whole training step of every method, side by side in one run.

    uv run python benchmarks/step_time.py camvid CAMVID
    uv run python benchmarks/step_time.py voc_mini VOC_MINI --labels points
    uv run python benchmarks/step_time.py voc_mini VOC_MINI --labels boxes --seeds RUN/seeds/boxes

One batch under a recipe: forward pass, objective, backward pass, optimiser and averaged weights.
The methods take turns; the table gives medians, and what each costs more than cross-entropy on the
same labels. Methods with a teacher appear twice, with its forward pass and without. ``dense`` has
dense masks as its labels.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.utils.data import default_collate

from agmm.config import METHODS, Method, TrainConfig, from_plain, read_yaml, recipe_path
from agmm.data.dataset import Sample
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Dataset
from agmm.models.segmenter import build_segmenter
from agmm.training.fit import training_views
from agmm.training.hardware import cpu_name, resolved_precision
from agmm.training.objectives import build_objective
from agmm.training.seeding import with_seeds
from agmm.training.task import SegmentationTask

NO_TEACHER = " without a teacher"


def make_batch(config: TrainConfig, dataset: Dataset) -> Sample:
    """The first batch that a training with this config sees."""
    classes = dataset.classes
    records = [r for r in dataset.split("train") if set(config.labels) & r.labels.keys()]
    if config.seeds:
        console = Console(stderr=True)
        records = list(
            with_seeds(config, records, classes, console, folder=config.out, device="cpu")
        )
    network = build_segmenter(config.decoder, config.encoder, "none", len(classes))
    views = training_views(config, records, network, classes.background)
    batch: Sample = default_collate([views[i] for i in range(config.batch_size)])
    return batch


def make_step(
    config: TrainConfig, num_classes: int, batch: Sample, device: str, *, teacher: bool
) -> Callable[[], None]:
    """A function that takes one optimiser step of a method on always the same batch."""
    model = build_segmenter(config.decoder, config.encoder, "none", num_classes)
    objective = build_objective(
        config.method, num_classes, model.feature_channels, config.objective, warmup_steps=1
    )
    if not teacher:
        objective.needs = frozenset(getattr(objective, "needs", ())) - {"teacher"}  # type: ignore[assignment]
    task = SegmentationTask(model, objective, config, max_steps=1000).to(device).train()
    moved: Any = {name: value.to(device) for name, value in batch.items()}  # type: ignore[attr-defined]
    made = task.configure_optimizers()
    assert isinstance(made, dict)
    optimizer = made["optimizer"]
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(
        resolved_precision(config.precision, "cpu" if device == "cpu" else "gpu")
    )

    def step() -> None:
        with torch.autocast(device, dtype, enabled=dtype is not None):
            loss = task.objective_of(moved).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        task.averaged.update_parameters(task.model)
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def make_steps(
    arguments: argparse.Namespace, dataset: Dataset, device: str
) -> dict[str, Callable[[], None]]:
    """One step for every row of the table."""
    recipe = {**read_yaml(recipe_path(arguments.recipe)), "seeds": arguments.seeds}
    steps = {}
    batches: dict[tuple[str, ...], Sample] = {}
    for method in arguments.methods:
        labels = ["dense"] if method == "dense" else arguments.labels.split(",")
        asked = {"data": arguments.data, "out": "unused", "labels": labels, "method": method}
        config = from_plain({**recipe, **asked})
        if config.labels not in batches:
            batches[config.labels] = make_batch(config, dataset)
        batch, k = batches[config.labels], len(dataset.classes)
        steps[method] = make_step(config, k, batch, device, teacher=True)
        if "teacher" in getattr(build_objective(method, k, 1, {}), "needs", ()):
            steps[method + NO_TEACHER] = make_step(config, k, batch, device, teacher=False)
    return steps


def measure(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each, taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if repeat > 1:  # the first ones warm up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def as_table(medians: dict[str, float]) -> str:
    """The medians as Markdown, and how much more than partial-ce they are."""
    base = medians["partial-ce"]
    lines = ["| method | seconds per step | more than partial-ce |", "|---|---|---|"]
    lines += [f"| {name} | {s:.3g} | {100 * (s / base - 1):.0f} % |" for name, s in medians.items()]
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="a recipe or a YAML file")
    parser.add_argument("data", type=Path)
    parser.add_argument("--labels", default="scribbles", help="label forms, with commas")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list[Method](METHODS))
    parser.add_argument("--seeds", type=Path, nargs="+", default=[], help="for boxes and tags")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", choices=["cpu", "cuda"])
    arguments = parser.parse_args(words)
    if "partial-ce" not in arguments.methods:
        arguments.methods.insert(0, "partial-ce")
    if not arguments.seeds and {"boxes", "tags"} & set(arguments.labels.split(",")):
        parser.error("--seeds: boxes and tags need the folder of seeds of an earlier run")
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    dataset = read_dataset(arguments.data)
    medians = measure(make_steps(arguments, dataset, device), arguments.repeats)
    where = torch.cuda.get_device_name() if device == "cuda" else cpu_name()
    print(
        f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__},"
        f" {arguments.labels}, medians of {arguments.repeats}"
    )
    print(as_table(medians))


if __name__ == "__main__":
    main()
