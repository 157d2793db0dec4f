"""``agmm seeds``: how many pixels the seeds of tags and boxes label, and how many rightly."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from agmm.commands.common import tracked, usable_dataset
from agmm.commands.parsing import build_parser, parse
from agmm.commands.runs import dataset_for, pick_device, same_classes
from agmm.config import Format
from agmm.data.dataset import dense_mask
from agmm.datasets.classes import Classes
from agmm.datasets.images import image_size
from agmm.datasets.masks import read_index_mask
from agmm.datasets.records import Record
from agmm.errors import ConfigError, DataError
from agmm.evaluation.label_quality import LabelQuality, label_quality
from agmm.evaluation.map_quality import THRESHOLDS, MapQuality
from agmm.seeds.cam import strongest_maps
from agmm.seeds.reading import read_maps
from agmm.seeds.store import array_file, seed_file
from agmm.shapes import IGNORE_INDEX, MaskArray
from agmm.training.classify import load_classifier
from agmm.training.run import load_run
from agmm.training.seeding import (
    CLASSIFIER,
    SEED_FORMS,
    SEEDS,
    SeedForm,
    seeded_form,
    with_seeds,
)

EXAMPLES = """
agmm seeds runs/tags photos
agmm seeds runs/tags photos --split val
"""


@dataclass(frozen=True)
class SeedsReport:
    """What the seeds of a split are worth.

    Args:
        pictures: For each form of label how many pictures have such seeds.
        quality: For each form the counts of its seeds as they are.
        maps: Of tags the counts at every threshold; None without tags.
        background: Index of the background class; None if no class is one.
    """

    pictures: dict[SeedForm, int]
    quality: dict[SeedForm, LabelQuality]
    maps: MapQuality | None
    background: int | None


def seeds(
    run: Path | str,
    data: Path | str,
    *,
    format: Format = "auto",  # noqa: A002 - the option is called so
    mapping: Path | None = None,
    split: str = "train",
    device: str = "auto",
    skip_bad: bool = False,
) -> SeedsReport:
    """Tell coverage and, where there are dense masks, precision of a run's seeds.

    The seeds are those of the run for its training pictures; for others they are made in the same
    way, by its classifier and its options.

    Args:
        run: Run folder of a training with tags or boxes.
        data: Data set with tags or boxes.
        format: Layout of the data set; ``auto`` recognises it.
        mapping: YAML file with classes to rename, merge or drop; without it that of the run.
        split: Split to look at.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        skip_bad: Skip, count and list unusable files instead of stopping.

    Returns:
        The counts.

    Raises:
        AgmmError: If the run has no such labels, or anything cannot be read.
    """
    loaded = load_run(run)
    config, classes = loaded.config, loaded.classes
    forms = tuple(form for form in SEED_FORMS if form in config.labels)
    if not forms or config.seeds or config.pseudo.source:
        raise ConfigError(
            f"{run}: has no seeds of its own; give a run with tags or boxes among its --labels, and"
            " without --seeds or pseudo:"
        )
    console = Console(stderr=True)
    dataset = usable_dataset(
        dataset_for(loaded, data, format=format, mapping=mapping),
        {split: config.labels},
        skip_bad=skip_bad,
        clip_boxes=config.clip_boxes,
        console=console,
    )
    same_classes(loaded, dataset.classes.names, data)
    listed = [_with_usable_mask(record, console) for record in dataset.split(split)]
    with tempfile.TemporaryDirectory() as folder:
        with_seeds(
            config,
            listed,
            classes,
            console,
            folder=Path(folder),
            device=pick_device(device),
            classify=lambda _: load_classifier(loaded.path / CLASSIFIER),
            earlier=loaded.path / SEEDS,
        )
        found = {
            form: [r for r in listed if seeded_form(r, config.labels) == form] for form in forms
        }
        quality = {
            form: _seed_quality(records, Path(folder) / form, classes, console)
            for form, records in found.items()
        }
        tagged = found.get("tags", [])
        maps = _map_quality(tagged, Path(folder) / "tags", classes, console) if tagged else None
    pictures = {form: len(records) for form, records in found.items()}
    return SeedsReport(pictures, quality, maps, classes.background)


def _with_usable_mask(record: Record, console: Console) -> Record:
    """The record without its dense mask if that cannot be read: the seeds need none."""
    try:
        _truth(record)
    except DataError as error:
        console.print(f"not measured: {error}", markup=False, soft_wrap=True)
        labels = {**record.labels}
        del labels["dense"]
        return replace(record, labels=labels)
    return record


def _seed_quality(
    records: Sequence[Record], folder: Path, classes: Classes, console: Console
) -> LabelQuality:
    empty = np.full((1, 1), IGNORE_INDEX, np.uint8)
    total = label_quality(empty, empty, len(classes))
    for record in tracked(records, "counting the seeds", console):
        mask = read_index_mask(seed_file(folder, record.name), classes)
        total += label_quality(mask, _truth(record), len(classes))
    return total


def _map_quality(
    records: Sequence[Record], folder: Path, classes: Classes, console: Console
) -> MapQuality:
    total = MapQuality(len(classes), classes.background)
    for record in tracked(records, "going through the thresholds", console):
        maps, named = read_maps(array_file(folder, record.name), image_size(record.image), classes)
        strongest, index, _ = strongest_maps(maps, named)
        # Without any tag all is background; its value is 0.
        mask = np.array([*named, classes.background or 0])[index]
        total.add(strongest, mask, _truth(record))
    return total


def _truth(record: Record) -> MaskArray | None:
    return dense_mask(record) if "dense" in record.labels else None


def main(name: str, arguments: Sequence[str]) -> None:
    """Run the command with the words of its command line."""
    report = seeds(**parse(build_parser(name, seeds, EXAMPLES), arguments))
    console = Console()
    console.print(_quality_table(report))
    if report.maps is not None:
        console.print(_threshold_table(report.maps))


def _quality_table(report: SeedsReport) -> Table:
    table = Table(title="seeds, % of the pixels", caption="precision: where there is a dense mask")
    table.add_column("form")
    for column in ("pictures", "coverage", "precision", "foreground\ncoverage"):
        table.add_column(column, justify="right")
    table.add_column("foreground\nprecision", justify="right")
    for form, quality in report.quality.items():
        foreground = [k for k in range(quality.num_classes) if k != report.background]
        table.add_row(
            form,
            str(report.pictures[form]),
            _percent(quality.coverage()),
            _percent(quality.precision()),
            _percent(quality.coverage(foreground)),
            _percent(quality.precision(foreground)),
        )
    return table


def _threshold_table(maps: MapQuality) -> Table:
    table = Table(title="activation maps at other thresholds, % of the pixels")
    table.add_column("threshold", justify="right")
    for what in ("foreground", "background"):
        table.add_column(f"{what}\ncoverage", justify="right")
        table.add_column(f"{what}\nprecision", justify="right")
    table.add_column("mIoU\nas masks", justify="right")
    for threshold in THRESHOLDS:
        row = maps.at(threshold)
        table.add_row(
            f"{threshold:.2f}",
            _percent(row.foreground_coverage),
            _percent(row.foreground_precision),
            _percent(row.background_coverage),
            _percent(row.background_precision),
            _percent(row.miou),
        )
    return table


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"
