"""Time of a whole training step of every method, side by side in one run.

    uv run python benchmarks/step_time.py CAMVID

One batch of CamVid scribbles under the recipe ``camvid``; forward pass, objective, backward pass,
optimiser and averaged weights. The methods take turns; the table gives medians and their ratio to
partial-ce.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.data import default_collate

from agmm.config import METHODS, Method, TrainConfig, from_plain, read_yaml, recipe_path
from agmm.data.dataset import Sample
from agmm.datasets.reader import read_dataset
from agmm.models.segmenter import build_segmenter
from agmm.training.fit import training_views
from agmm.training.objectives import build_objective
from agmm.training.task import SegmentationTask


def make_step(config: TrainConfig, num_classes: int, batch: Sample) -> Callable[[], None]:
    """A function that takes one optimiser step of a method on always the same batch."""
    model = build_segmenter(config.decoder, config.encoder, "none", num_classes)
    objective = build_objective(config.method, num_classes, model.feature_channels, {})
    task = SegmentationTask(model, objective, config, max_steps=1000).train()
    made = task.configure_optimizers()
    assert isinstance(made, dict)
    optimizer = made["optimizer"]

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16-mixed"):
            loss = task.objective_of(batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        task.averaged.update_parameters(task.model)

    return step


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    recipe = read_yaml(recipe_path("camvid"))
    dataset = read_dataset(arguments.data)
    k = len(dataset.classes)
    steps: dict[Method, Callable[[], None]] = {}
    for method in METHODS:
        label = "dense" if method == "dense" else "scribbles"
        asked = {"data": arguments.data, "out": "unused", "labels": [label], "method": method}
        config = from_plain({**recipe, **asked})
        network = build_segmenter(config.decoder, config.encoder, "none", k)
        views = training_views(config, dataset.split("train"), network, dataset.classes.background)
        steps[method] = make_step(
            config, k, default_collate([views[i] for i in range(config.batch_size)])
        )
    seconds: dict[Method, list[float]] = {method: [] for method in METHODS}
    for repeat in range(arguments.repeats + 1):
        for method, step in steps.items():
            start = time.perf_counter()
            step()
            if repeat:  # the first one warms up
                seconds[method].append(time.perf_counter() - start)
    base = statistics.median(seconds["partial-ce"])
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {arguments.repeats} repeats"
    )
    print("| method | seconds per step | ratio to partial-ce |\n|---|---|---|")
    for method, values in seconds.items():
        median = statistics.median(values)
        print(f"| `{method}` | {median:.2f} | {median / base:.2f} |")


if __name__ == "__main__":
    main()
