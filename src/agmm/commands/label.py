"""``agmm label``: pseudo labels for the training pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from agmm.commands.common import keep_existing, tracked, usable_dataset
from agmm.commands.label_report import show
from agmm.commands.parsing import build_parser, parse
from agmm.commands.runs import dataset_for, pick_device, same_classes
from agmm.config import Checkpoint, Format
from agmm.data.dataset import dense_mask
from agmm.datasets.classes import read_classes
from agmm.datasets.masks import write_index_mask
from agmm.datasets.records import Record
from agmm.errors import ConfigError, DataError
from agmm.evaluation.label_quality import PseudoLabelQuality, pseudo_label_quality
from agmm.files import write_json, written_atomically
from agmm.inference.label import LabelledPicture
from agmm.report.figures import write_png
from agmm.report.reliability import draw_reliability
from agmm.shapes import IGNORE_INDEX
from agmm.training.labelling import ABOUT, label_record
from agmm.training.pseudo import with_seeds_of
from agmm.training.run import Run, load_run
from agmm.training.seeding import SEEDS

EXAMPLES = """
agmm label runs/first photos --out pseudo
agmm label runs/first photos --out pseudo --threshold 0.8
"""

QUALITY, RELIABILITY = "quality.json", "reliability.png"
"""What is written beside the labels where there are dense masks."""


@dataclass(frozen=True)
class LabelReport:
    """What ``label`` has written.

    Args:
        pictures: Number of pictures.
        coverage: Share of all pixels that got a class, 0 to 1.
        quality: What they are worth, of the pictures with a dense mask that gave no label itself;
            None if there is none.
    """

    pictures: int
    coverage: float
    quality: PseudoLabelQuality | None = None


def label(
    run: Path | str,
    data: Path | str,
    *,
    out: Path | str,
    format: Format = "auto",  # noqa: A002 - the option is called so
    mapping: Path | None = None,
    split: str = "train",
    threshold: float = 0.0,
    checkpoint: Checkpoint = "best",
    device: str = "auto",
    skip_bad: bool = False,
) -> LabelReport:
    """Write pseudo labels and their confidence for pictures with the labels of the training.

    The class of a pixel is the argmax of p·γ over its candidates, network times mixture; the
    pixels that were labelled keep their label. Where pictures have dense masks that the run was
    not trained from, the labels are measured against them afterwards; they are never made from
    them.

    Args:
        run: Run folder of a training.
        data: Data set with labels of the forms that the run was trained with.
        out: Folder for ``masks/NAME.png`` and ``confidence/NAME.png``, which is 255 times the
            confidence in grey; ``about.json`` says what they were made from, ``quality.json`` and
            ``reliability.png`` how good they are, where there are dense masks.
        format: Layout of the data set; ``auto`` recognises it.
        mapping: YAML file with classes to rename, merge or drop; without it that of the run.
        split: Split to label.
        threshold: Pixels of a lower confidence become 255, unlabelled; 0 to 1.
        checkpoint: ``best`` (highest validation mIoU) or ``last``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        skip_bad: Skip, count and list unusable files instead of stopping.

    Returns:
        How many pictures, which share of their pixels got a label, and how good the labels are.

    Raises:
        AgmmError: If the run or the data cannot be read, their classes differ, or a file that is
            to be written exists.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"--threshold: expected 0 to 1, got {threshold}; 0 keeps every pixel")
    if Path(out).resolve() == Path(data).resolve():
        raise ConfigError(
            f"--out {out}: is the data set itself, whose masks would be replaced; "
            "give another folder"
        )
    loaded = load_run(run, checkpoint=checkpoint, device=str(pick_device(device)))
    console = Console(stderr=True)
    listed = dataset_for(loaded, data, format=format, mapping=mapping)
    same_classes(loaded, listed.classes.names, data)
    others = [Path(out) / name for name in (ABOUT, QUALITY, RELIABILITY)]
    for target in (*_targets(listed.split(split), Path(out)), *others):
        keep_existing(target)
    dataset = usable_dataset(
        listed,
        {split: loaded.config.labels},
        skip_bad=skip_bad,
        clip_boxes=loaded.config.clip_boxes,
        console=console,
    )
    about = {
        "run": str(run),
        "checkpoint": checkpoint,
        "step": loaded.step,
        "split": split,
        "threshold": threshold,
        "labels": list(loaded.config.labels),
        "complete_labels": loaded.config.complete_labels,
        "calibrated": loaded.calibration is not None,
        "classes": list(loaded.classes.names),
    }
    records = with_seeds_of(
        loaded,
        dataset.split(split),
        dataset.classes,
        console,
        folder=Path(out) / SEEDS,
        device=pick_device(device),
    )
    return _write_labels(loaded, records, Path(out), threshold, about, console)


def _targets(records: Sequence[Record], out: Path) -> list[Path]:
    """Mask and confidence of each picture."""
    return [
        out / folder / f"{record.name}.png"
        for record in records
        for folder in ("masks", "confidence")
    ]


def _write_labels(
    run: Run,
    records: Sequence[Record],
    out: Path,
    threshold: float,
    about: dict[str, Any],
    console: Console,
) -> LabelReport:
    labelled = total = 0
    quality = None
    for record in tracked(records, "labelling", console):
        # All labels, to measure their confidence; then those that are sure enough.
        result = label_record(run, record, threshold=0.0)
        found = _quality(run, record, result, threshold, console)
        if found is not None:
            quality = found if quality is None else quality + found
        unsure = result.confidence < threshold
        mask = result.mask.masked_fill(unsure, IGNORE_INDEX).numpy()
        mask_file, confidence_file = _targets([record], out)
        write_index_mask(mask_file, mask, run.classes)
        grey = (result.confidence * 255).round().to(torch.uint8).numpy()
        with written_atomically(confidence_file) as temporary:
            Image.fromarray(grey).save(temporary)
        labelled += int(np.count_nonzero(mask != IGNORE_INDEX))
        total += mask.size
    write_json(out / ABOUT, about)
    if quality is not None:
        figures = quality.as_dict(run.classes.names, run.classes.background)
        write_json(out / QUALITY, {**about, **figures})
        write_png(out / RELIABILITY, draw_reliability(quality.calibration))
    return LabelReport(len(records), labelled / total, quality)


def _quality(
    run: Run, record: Record, result: LabelledPicture, threshold: float, console: Console
) -> PseudoLabelQuality | None:
    """Measure the labels of a picture where it has a dense mask that they were not made from."""
    if "dense" not in record.labels or "dense" in run.config.labels:
        return None
    try:
        truth = dense_mask(record)
    except DataError as error:
        # The labels are what was asked for, and need no dense mask.
        console.print(f"not measured: {error}", markup=False, soft_wrap=True)
        return None
    return pseudo_label_quality(
        result.mask.numpy(),
        result.confidence.numpy(),
        truth,
        run.model.num_classes,
        annotated=result.annotated.numpy(),
        threshold=threshold,
    )


def main(name: str, arguments: Sequence[str]) -> None:
    """Run the command with the words of its command line."""
    values = parse(build_parser(name, label, EXAMPLES), arguments)
    report = label(**values)
    console = Console()
    console.print(
        f"{report.pictures} pictures, {100 * report.coverage:.1f} % of the pixels labelled:"
        f" {values['out']}/masks, {values['out']}/confidence",
        markup=False,
        soft_wrap=True,
    )
    if report.quality is not None:
        show(report.quality, read_classes(Path(values["run"]) / "classes.txt"), console)
        console.print(
            f"{values['out']}/{QUALITY}, {values['out']}/{RELIABILITY}",
            markup=False,
            soft_wrap=True,
        )
