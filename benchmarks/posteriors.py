"""A picture of how the E step's opinion of training pictures sharpens in the course of a training.

    uv run python benchmarks/posteriors.py camvid CAMVID posteriors.png

Trains with ``--method agmm`` under a recipe and, at some steps, labels a few training pictures.
Each row is a picture with its labels and its pseudo labels: the colour is the most probable class,
its strength the confidence, and the number the mean confidence over the pixels.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from agmm.config import TrainConfig, from_plain, read_yaml, recipe_path
from agmm.data.dataset import Sample, supervise
from agmm.datasets.images import read_image
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Record
from agmm.inference.label import label_picture
from agmm.models.segmenter import Segmenter, build_segmenter
from agmm.report.figures import Picture, legend, overlay, panel, sheet, write_png
from agmm.report.labels import draw_annotation
from agmm.training.fit import number_of_steps, training_views
from agmm.training.objectives import build_objective
from agmm.training.task import SegmentationTask


def make_task(config: TrainConfig, num_classes: int, steps: int) -> SegmentationTask:
    """Network and objective as ``agmm train`` makes them."""
    model = build_segmenter(
        config.decoder, config.encoder, config.encoder_weights, num_classes, seed=config.seed
    )
    objective = build_objective(
        "agmm", num_classes, model.feature_channels, config.objective,
        warmup_steps=max(1, round(config.warmup * steps)),
    )  # fmt: skip
    return SegmentationTask(model, objective, config, max_steps=steps).train()


def labels_of(
    task: SegmentationTask, record: Record, background: int | None
) -> tuple[Tensor, Tensor]:
    """Pseudo labels by the averaged weights and their confidence, both `H W`."""
    network = task.averaged.module
    assert isinstance(network, Segmenter)
    image, config = read_image(record.image), task.config
    annotations = [record.labels[form]() for form in config.labels]
    given = supervise(
        annotations, (), image.shape[:2], network.num_classes,
        complete=config.complete_labels, background=background,
    )  # fmt: skip
    task.eval()
    labelled = label_picture(
        network, task.objective, image, given,
        image_scale=config.image_scale, threshold=0.0, device="cpu",
    )  # fmt: skip
    task.train()
    return labelled.mask, labelled.confidence


def train(
    task: SegmentationTask, batches: DataLoader[Sample], moments: Sequence[int]
) -> Iterator[int]:
    """Train, and stop at each of the moments (steps), which are yielded."""
    made = task.configure_optimizers()
    assert isinstance(made, dict)
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]  # type: ignore[index]
    for step, batch in enumerate(batches, start=1):
        torch.manual_seed(task.config.seed + step)
        loss = task.objective_of(batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        task.averaged.update_parameters(task.model)
        if step in moments:
            yield step


def main(words: Sequence[str] | None = None) -> None:
    """Train, and draw the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="a recipe or a YAML file")
    parser.add_argument("data", type=Path)
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--labels", default="scribbles", help="forms of label, without boxes, tags")
    parser.add_argument("--at", type=int, nargs="+", default=[25, 100, 200, 400], help="steps")
    parser.add_argument("--pictures", type=int, default=3, help="rows of the sheet")
    arguments = parser.parse_args(words)
    asked = {
        "data": arguments.data, "out": "unused", "labels": arguments.labels.split(","),
        "method": "agmm",
    }  # fmt: skip
    config = from_plain({**read_yaml(recipe_path(arguments.recipe)), **asked})
    dataset = read_dataset(arguments.data)
    classes = dataset.classes
    records = [r for r in dataset.split("train") if set(config.labels) <= r.labels.keys()]
    steps = number_of_steps(config, len(records))
    task = make_task(config, len(classes), steps)
    views = training_views(config, records, task.model, classes.background)
    batches = DataLoader(
        views, batch_size=config.batch_size, num_workers=2,
        sampler=range(max(arguments.at) * config.batch_size),
    )  # fmt: skip

    shown = records[:: max(1, len(records) // arguments.pictures)][: arguments.pictures]
    columns: list[list[tuple[str, Picture]]] = []
    for record in shown:
        image = read_image(record.image)
        label = record.labels[config.labels[0]]()
        columns.append([("labels", draw_annotation(image, label, classes))])
    for step in train(task, batches, arguments.at):
        for row, record in zip(columns, shown, strict=True):
            mask, confidence = labels_of(task, record, classes.background)
            picture = overlay(
                read_image(record.image), mask.numpy(), classes.colors, confidence.numpy()
            )
            row.append((f"step {step}: {confidence.mean():.2f}", picture))
            print(f"{record.image.name}, step {step}: {confidence.mean():.3f}")
    rows = [panel(row, height=180) for row in columns]
    paper = legend(classes.names, classes.colors, width=rows[0].shape[1])
    write_png(arguments.picture, sheet([*rows, paper]))


if __name__ == "__main__":
    main()
