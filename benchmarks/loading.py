"""How fast training views are made: pictures a second against loading processes, and what takes it.

    uv run python benchmarks/loading.py camvid CAMVID
    uv run python benchmarks/loading.py camvid CAMVID --labels points --workers 0 1 2 4 8

The numbers of loading processes take turns; each reads the same batches, after one that starts its
processes. The stages are timed one after the other in this process, per picture.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from agmm.config import from_plain, read_yaml, recipe_path
from agmm.config.train import TrainConfig
from agmm.data.dataset import TrainingViews, read_supervision
from agmm.datasets.images import read_image
from agmm.datasets.reader import read_dataset
from agmm.models.segmenter import build_segmenter
from agmm.training.fit import training_views


def pictures_per_second(views: TrainingViews, batch_size: int, batches: int, workers: int) -> float:
    """Pictures a second that a loader gives from its second batch on."""
    positions = [
        list(range(first, first + batch_size))
        for first in range(0, (batches + 1) * batch_size, batch_size)
    ]
    loader = iter(DataLoader(views, batch_sampler=positions, num_workers=workers))
    next(loader)
    start = time.perf_counter()
    for _ in loader:
        pass
    return batches * batch_size / (time.perf_counter() - start)


def stages(views: TrainingViews, pictures: int) -> dict[str, float]:
    """Median processor milliseconds per picture."""
    records = views.records[:pictures]
    sizes = [read_image(record.image).shape[:2] for record in records]

    def labels(i: int) -> object:
        return read_supervision(
            records[i], views.forms, sizes[i], views.num_classes,
            complete=views.complete, background=views.background,
        )  # fmt: skip

    parts: dict[str, Callable[[int], object]] = {
        "the picture: read and decode": lambda i: read_image(records[i].image),
        "the labels: read": lambda i: [records[i].labels[f]() for f in views.forms],
        "the labels: read and rasterise": labels,
        "the whole view": views.__getitem__,
    }
    medians = {}
    for name, part in parts.items():
        taken = []
        for i in range(len(records)):
            start = time.process_time()
            part(i)
            taken.append(1000 * (time.process_time() - start))
        medians[name] = statistics.median(taken)
    return medians


def as_table(rates: dict[int, float], parts: dict[str, float]) -> str:
    """Both results as Markdown; what the view takes beside picture and labels is augmentation."""
    base = rates[min(rates)]
    lines = ["| loading processes | pictures a second | ratio |", "|---|---|---|"]
    lines += [f"| {n} | {rate:.1f} | {rate / base:.2f} |" for n, rate in rates.items()]
    picture, read, labels, whole = parts.values()
    shares = {
        "read and decode the picture": picture,
        "read the labels": read,
        "rasterise": labels - read,
        "scale, crop, flip, normalise": whole - picture - labels,
        "all": whole,
    }
    lines += ["", "| stage | processor ms per picture | share |", "|---|---|---|"]
    lines += [f"| {k} | {ms:.2f} | {100 * ms / whole:.0f} % |" for k, ms in shares.items()]
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="a recipe or a YAML file")
    parser.add_argument("data", type=Path)
    parser.add_argument("--labels", default="scribbles", help="label forms, with commas")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(words)
    given: Any = read_yaml(recipe_path(arguments.recipe))
    asked = {"data": arguments.data, "out": "unused", "labels": arguments.labels.split(",")}
    config: TrainConfig = from_plain({**given, **asked})
    dataset = read_dataset(arguments.data)
    records = [r for r in dataset.split("train") if set(config.labels) & r.labels.keys()]
    network = build_segmenter(config.decoder, config.encoder, "none", len(dataset.classes))
    views = training_views(config, records, network, dataset.classes.background)
    rates: dict[int, list[float]] = {n: [] for n in arguments.workers}
    for _ in range(arguments.repeats):
        for n, found in rates.items():
            found.append(pictures_per_second(views, config.batch_size, arguments.batches, n))
    medians = {n: statistics.median(found) for n, found in rates.items()}
    print(as_table(medians, stages(views, 8 * arguments.batches)))


if __name__ == "__main__":
    main()
