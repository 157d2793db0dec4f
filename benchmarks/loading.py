"""How fast training views are made: pictures a second against loading processes, and what takes it.

    uv run python benchmarks/loading.py camvid CAMVID
    uv run python benchmarks/loading.py camvid CAMVID --labels points --workers 0 1 2 4 8
    uv run --group plots python benchmarks/loading.py --plot

The numbers of loading processes take turns; each reads the same batches, after as many as it takes
to start its processes. Processor time is that of this process and its loading processes together,
which other work on the machine changes less than wall time; pictures per processor second are what
one core gives. torch computes in one thread, here as in a loading process. Memory is that of all
these processes while they read, pages that several of them share counted once (Linux only).

The steps of a view are timed one after the other in this process, for every picture. The raw
results go to ``--results``, where they replace those of the same recipe and labels. ``--plot``
draws the file's results beside it and measures nothing.
"""

import argparse
import json
import multiprocessing
import os
import re
import resource
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from agmm.config import from_plain, read_yaml, recipe_path
from agmm.config.train import TrainConfig
from agmm.data.dataset import TrainingViews, supervise
from agmm.data.transforms import Seeds, Valid, normalise
from agmm.datasets.images import read_image
from agmm.datasets.reader import read_dataset
from agmm.files import write_text
from agmm.models.segmenter import build_segmenter
from agmm.training.fit import training_views
from agmm.training.hardware import cpu_name

RESULTS = Path(__file__).parent / "results" / "loading.json"
STEPS = {
    "RandomCrop": "crop",
    "RandomHorizontalFlip": "flip",
    "ColorJitter": "change the colours",
    "RandomHue": "turn the hue",
}
"""The transforms of a view after the first, which resizes, as the table names them."""


class Rate(NamedTuple):
    """What a loader gives."""

    per_second: float  # pictures
    per_processor_second: float
    mib: float  # of this process and its loading processes


def processor_seconds() -> float:
    """Processor time of this process and of those of its children that have ended."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def shared_memory() -> float:
    """MiB of this process and its children: a page that n of them share counts 1/n in each."""
    children = [child.pid for child in multiprocessing.active_children()]
    rolls = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in (os.getpid(), *children)]
    return sum(int(re.findall(r"^Pss:\s+(\d+) kB", roll, re.MULTILINE)[0]) for roll in rolls) / 1024


def loading_rate(views: TrainingViews, batch_size: int, batches: int, workers: int) -> Rate:
    """Wall time counts after the first batch of every process, processor time from the start."""
    first = max(1, workers)
    total = (first + batches) * batch_size
    positions = [list(range(i, i + batch_size)) for i in range(0, total, batch_size)]
    processor = processor_seconds()
    loader = iter(DataLoader(views, batch_sampler=positions, num_workers=workers))
    for _ in range(first):
        next(loader)
    start = time.perf_counter()
    for _ in range(batches):
        next(loader)
    wall = time.perf_counter() - start
    mib = shared_memory()  # not before: it takes time, in which batches are made
    assert not list(loader)  # which waits for its processes to end, so that their time counts
    return Rate(batches * batch_size / wall, total / (processor_seconds() - processor), mib)


def view_steps(views: TrainingViews, pictures: int) -> dict[str, float]:
    """Mean processor milliseconds of a picture in each step of its view, and in the whole.

    "the rest" is what the whole takes beside the steps; it comes before "all".
    """
    spent: Counter[str] = Counter()

    def timed(name: str, work: Callable[..., Any], *values: Any, **options: Any) -> Any:
        start = time.process_time()
        result = work(*values, **options)
        spent[name] += 1000 * (time.process_time() - start)
        return result

    views = copy(views)
    views.records = views.records[:pictures]
    scale, *others = views.view.transforms
    for record in views.records:
        image = timed("read and decode the picture", read_image, record.image)
        loaders = [record.labels[form] for form in views.forms if form in record.labels]
        given = timed(
            "rasterise the labels",
            supervise,
            timed("read the labels", lambda found: [load() for load in found], loaders),
            [],
            image.shape[:2],
            views.num_classes,
            complete=views.complete,
            background=views.background,
        )
        parts = [
            tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)),
            Seeds(torch.from_numpy(given.seeds)[None]),
            Valid(torch.ones((1, *given.seeds.shape), dtype=torch.uint8)),
        ]
        size = scale.make_params(parts)
        names = ("resize the picture", "resize the seeds", "resize the valid pixels")
        parts = [
            timed(n, scale.transform, part, size) for n, part in zip(names, parts, strict=True)
        ]
        for step in others:
            parts = timed(STEPS[type(step).__name__], step, *parts)
        timed("normalise", normalise, parts[0], views.mean, views.std)
    steps = sum(spent.values())
    for position in range(len(views.records)):
        timed("all", views.__getitem__, position)
    whole = spent.pop("all")
    named = {**spent, "the rest": whole - steps, "all": whole}
    return {name: value / len(views.records) for name, value in named.items()}


def as_table(rates: dict[int, Rate], steps: dict[str, float]) -> str:
    """Both results as Markdown."""
    base = rates[min(rates)]
    lines = [
        "| loading processes | pictures a second | ratio | per processor second | ratio | MiB |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {n} | {rate.per_second:.1f} | {rate.per_second / base.per_second:.2f} |"
        f" {rate.per_processor_second:.1f} |"
        f" {rate.per_processor_second / base.per_processor_second:.2f} | {rate.mib:,.0f} |"
        for n, rate in sorted(rates.items())
    ]
    lines += ["", "| step | processor ms per picture | share |", "|---|---|---|"]
    lines += [f"| {k} | {ms:.2f} | {100 * ms / steps['all']:.0f} % |" for k, ms in steps.items()]
    return "\n".join(lines)


def with_row(file: Path, row: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a results file, the new one in place of that of its recipe and labels."""
    earlier = json.loads(file.read_text()) if file.is_file() else []
    key = row["recipe"], row["labels"]
    return [r for r in earlier if (r["recipe"], r["labels"]) != key] + [row]


def medians_of(rates: dict[int, list[Rate]]) -> dict[int, Rate]:
    """The median of each part of the rates, by the number of loading processes, rising."""
    return {
        n: Rate(*(statistics.median(part) for part in zip(*found, strict=True)))
        for n, found in sorted(rates.items())
    }


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Pictures a second and memory against the number of loading processes, a line for each row."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    labels = {
        "per_second": "pictures a second",
        "per_processor_second": "per processor second",
        "mib": "MiB of all processes",
    }
    figure, panels = plt.subplots(1, len(labels), figsize=(1.5 + 2.4 * len(labels), 2.5))
    for row in rows:
        medians = medians_of(
            {int(n): [Rate(**rate) for rate in rates] for n, rates in row["rates"].items()}
        )
        for panel, part in zip(panels, labels, strict=True):
            values = [getattr(rate, part) for rate in medians.values()]
            name = f"{row['recipe']}, {row['labels']}"
            panel.plot(list(medians), values, marker="o", markersize=3, label=name)
    for panel, label in zip(panels, labels.values(), strict=True):
        panel.set(ylim=(0, None), xlabel="loading processes", ylabel=label)
    panels[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def training_pictures(recipe: str, data: Path, labels: str) -> tuple[TrainConfig, TrainingViews]:
    """The config of a training by the recipe, and its views."""
    given: Any = read_yaml(recipe_path(recipe))
    asked = {"data": data, "out": "unused", "labels": labels.split(",")}
    config: TrainConfig = from_plain({**given, **asked})
    dataset = read_dataset(data)
    records = [r for r in dataset.split("train") if set(config.labels) & r.labels.keys()]
    network = build_segmenter(config.decoder, config.encoder, "none", len(dataset.classes))
    return config, training_views(config, records, network, dataset.classes.background)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the tables and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", nargs="?", help="a recipe or a YAML file")
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--labels", default="scribbles", help="label forms, with commas")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON; the plot lies beside")
    parser.add_argument("--plot", action="store_true", help="draw the results, measure nothing")
    arguments = parser.parse_args(words)
    if arguments.plot:
        plot(json.loads(arguments.results.read_text()), arguments.results.with_suffix(".svg"))
        return
    if arguments.data is None:
        parser.error("RECIPE and DATA are needed, or --plot")
    torch.set_num_threads(1)
    config, views = training_pictures(arguments.recipe, arguments.data, arguments.labels)
    found: dict[int, list[Rate]] = {n: [] for n in arguments.workers}
    for _ in range(arguments.repeats):
        for n, rates in found.items():
            rates.append(loading_rate(views, config.batch_size, arguments.batches, n))
    medians = medians_of(found)
    steps = view_steps(views, arguments.batches * config.batch_size)
    row = {
        "recipe": Path(arguments.recipe).stem,
        "labels": arguments.labels,
        "machine": cpu_name(),
        "torch": torch.__version__,
        "batch_size": config.batch_size,
        "batches": arguments.batches,
        "rates": {str(n): [rate._asdict() for rate in rates] for n, rates in found.items()},
        "steps": steps,
    }
    write_text(arguments.results, json.dumps(with_row(arguments.results, row), indent=1) + "\n")
    print(
        f"{row['machine']}, torch {torch.__version__}, {row['recipe']}, {arguments.labels},"
        f" batches of {config.batch_size}, medians of {arguments.repeats}"
    )
    print(as_table(medians, steps))


if __name__ == "__main__":
    main()
