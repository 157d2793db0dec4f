"""``agmm label``: pseudo labels for the training pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from agmm.commands.common import (
    dataset_for,
    keep_existing,
    pick_device,
    same_classes,
    tracked,
    usable_dataset,
)
from agmm.commands.parsing import build_parser, parse
from agmm.config import Checkpoint, Format
from agmm.data.dataset import read_supervision
from agmm.datasets.images import read_image
from agmm.datasets.masks import write_index_mask
from agmm.datasets.records import Record
from agmm.errors import ConfigError
from agmm.files import written_atomically
from agmm.inference.label import LabelledPicture, label_picture
from agmm.shapes import IGNORE_INDEX
from agmm.training.classify import load_classifier
from agmm.training.run import Run, load_run
from agmm.training.seeding import CLASSIFIER, SEEDS, with_seeds

EXAMPLES = """
agmm label runs/first photos --out pseudo
agmm label runs/first photos --out pseudo --threshold 0.8
"""


@dataclass(frozen=True)
class LabelReport:
    """What ``label`` has written.

    Args:
        pictures: Number of pictures.
        coverage: Share of all pixels that got a class, 0 to 1.
    """

    pictures: int
    coverage: float


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
    pixels that were labelled keep their label.

    Args:
        run: Run folder of a training.
        data: Data set with labels of the forms that the run was trained with.
        out: Folder for ``masks/NAME.png`` and ``confidence/NAME.png``, which is 255 times the
            confidence in grey.
        format: Layout of the data set; ``auto`` recognises it.
        mapping: YAML file with classes to rename, merge or drop; without it that of the run.
        split: Split to label.
        threshold: Pixels of a lower confidence become 255, unlabelled; 0 to 1.
        checkpoint: ``best`` (highest validation mIoU) or ``last``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        skip_bad: Skip, count and list unusable files instead of stopping.

    Returns:
        How many pictures and which share of their pixels got a label.

    Raises:
        AgmmError: If the run or the data cannot be read, or their classes differ.
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
    required = {split: loaded.config.labels}
    dataset = usable_dataset(
        dataset_for(loaded, data, format=format, mapping=mapping),
        required,
        skip_bad=skip_bad,
        clip_boxes=loaded.config.clip_boxes,
        console=console,
    )
    same_classes(loaded, dataset.classes.names, data)
    records = with_seeds(
        loaded.config,
        dataset.split(split),
        dataset.classes,
        console,
        folder=Path(out) / SEEDS,
        device=pick_device(device),
        classify=lambda _: load_classifier(loaded.path / CLASSIFIER),
        earlier=loaded.path / SEEDS,
    )
    masks, confidences = (
        {record.name: Path(out) / folder / f"{record.name}.png" for record in records}
        for folder in ("masks", "confidence")
    )
    for target in (*masks.values(), *confidences.values()):
        keep_existing(target)
    labelled = total = 0
    for record in tracked(records, "labelling", console):
        result = label_record(loaded, record, threshold=threshold)
        mask = result.mask.numpy()
        write_index_mask(masks[record.name], mask, loaded.classes)
        grey = (result.confidence * 255).round().to(torch.uint8).numpy()
        with written_atomically(confidences[record.name]) as temporary:
            Image.fromarray(grey).save(temporary)
        labelled += int(np.count_nonzero(mask != IGNORE_INDEX))
        total += mask.size
    return LabelReport(len(records), labelled / total)


def label_record(run: Run, record: Record, *, threshold: float) -> LabelledPicture:
    """Posterior and pseudo labels of one picture from its labels and a run.

    Args:
        run: The run; network and objective lie on one device.
        record: The picture and its labels.
        threshold: Pixels of a lower confidence become 255; 0 to 1.

    Returns:
        Everything at the picture's size.
    """
    image = read_image(record.image)
    height, width = image.shape[:2]
    annotated, given = (
        read_supervision(
            source,
            run.config.labels,
            (height, width),
            run.model.num_classes,
            complete=run.config.complete_labels,
            background=run.classes.background,
        )
        for source in (replace(record, guesses=()), record)
    )
    return label_picture(
        run.model,
        run.objective,
        image,
        given,
        annotated=annotated.seeds,
        image_scale=run.config.image_scale,
        threshold=threshold,
        device=next(run.model.parameters()).device,
    )


def main(name: str, arguments: Sequence[str]) -> None:
    """Run the command with the words of its command line."""
    values = parse(build_parser(name, label, EXAMPLES), arguments)
    report = label(**values)
    Console().print(
        f"{report.pictures} pictures, {100 * report.coverage:.1f} % of the pixels labelled:"
        f" {values['out']}/masks, {values['out']}/confidence",
        markup=False,
        soft_wrap=True,
    )
