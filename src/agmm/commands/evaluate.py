"""``agmm evaluate``: how well a run segments pictures with dense masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agmm.commands.common import check_target, tracked, usable_dataset
from agmm.commands.parsing import build_parser, parse
from agmm.commands.runs import dataset_for, pick_device, same_classes
from agmm.config import Checkpoint, Format
from agmm.data.dataset import WholePictures
from agmm.datasets.classes import read_classes
from agmm.datasets.records import Record
from agmm.evaluation.confusion import Scores, confusion_matrix, scores
from agmm.files import write_json
from agmm.inference.predict import check_options, predict_mask
from agmm.training.run import Run, load_run

EXAMPLES = """
agmm evaluate runs/first photos
agmm evaluate runs/first photos --split val --json scores.json
agmm evaluate runs/first photos --scales 0.75 1.0 1.25 --flip
"""


def evaluate(
    run: Path | str,
    data: Path | str,
    *,
    format: Format = "auto",  # noqa: A002 - the option is called so
    mapping: Path | None = None,
    split: str = "val",
    checkpoint: Checkpoint = "best",
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    tile: int = 1024,
    device: str = "auto",
    skip_bad: bool = False,
    json: Path | None = None,
) -> Scores:
    """Score a run on pictures with dense masks: mIoU, per-class IoU, pixel accuracy.

    Every figure is of the whole split: pixels are counted over all pictures, then divided.

    Args:
        run: Run folder of a training.
        data: Data set with dense masks.
        format: Layout of the data set; ``auto`` recognises it.
        mapping: YAML file with classes to rename, merge or drop; without it that of the run.
        split: Split to score.
        checkpoint: ``best`` (highest validation mIoU) or ``last``.
        scales: Factors on the pictures' size to average over.
        flip: Average with the mirrored picture.
        tile: Side of the tiles that larger pictures are cut into, in pixels.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        skip_bad: Skip, count and list unusable files instead of stopping.
        json: File to write the scores to.

    Returns:
        The scores.

    Raises:
        AgmmError: If the run or the data cannot be read, their classes differ, or ``json`` is a
            folder or lies where nothing can be written.
        OSError: If writing ``json`` fails; the scores are printed then.
    """
    if json is not None:
        check_target("--json", Path(json))
    options: dict[str, Any] = {"tile": tile, "scales": scales}
    check_options(**options)
    loaded = load_run(run, checkpoint=checkpoint, device=str(pick_device(device)))
    console = Console(stderr=True)
    listed = dataset_for(loaded, data, format=format, mapping=mapping)
    same_classes(loaded, listed.classes.names, data)
    dataset = usable_dataset(listed, {split: ("dense",)}, skip_bad=skip_bad, console=console)
    result = score(loaded, dataset.split(split), console, flip=flip, **options)
    if json is not None:
        about = {"run": str(run), "checkpoint": checkpoint, "step": loaded.step, "split": split}
        try:
            write_json(Path(json), {**about, **result.as_dict(loaded.classes.names)})
        except OSError:
            # A full disk shall not cost the scores of an hour.
            console.print(_table(f"{data} ({split})", loaded.classes.names, result))
            raise
    return result


def score(
    run: Run,
    records: Sequence[Record],
    console: Console,
    *,
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    tile: int = 1024,
) -> Scores:
    """Score a run on records that have been checked.

    Args:
        run: The run; network and objective lie on one device.
        records: Pictures with dense masks.
        console: Where progress is shown.
        scales: Factors on the pictures' size to average over.
        flip: Average with the mirrored picture.
        tile: Side of the tiles that larger pictures are cut into, in pixels.

    Returns:
        The scores over all pictures.
    """
    pictures = WholePictures(records)
    k = run.model.num_classes
    total = torch.zeros(k, k, dtype=torch.int64)
    for index in tracked(range(len(pictures)), "evaluating", console):
        image, truth = pictures[index]
        mask = predict_mask(
            run.model,
            image,
            objective=run.objective,
            device=next(run.model.parameters()).device,
            image_scale=run.config.image_scale,
            scales=scales,
            flip=flip,
            tile=tile,
        )
        found, expected = (torch.from_numpy(classes).long() for classes in (mask, truth))
        total += confusion_matrix(found, expected, k)
    return scores(total)


def main(name: str, arguments: Sequence[str]) -> None:
    """Run the command with the words of its command line."""
    values: dict[str, Any] = parse(build_parser(name, evaluate, EXAMPLES), arguments)
    result = evaluate(**values)
    class_names = read_classes(Path(values["run"]) / "classes.txt").names
    Console().print(_table(f"{values['data']} ({values['split']})", class_names, result))


def _table(title: str, class_names: Sequence[str], result: Scores) -> Table:
    table = Table(title=escape(title))
    table.add_column("class")
    table.add_column("IoU", justify="right")
    for class_name, iou in zip(class_names, result.iou, strict=True):
        table.add_row(escape(class_name), "-" if iou != iou else f"{100 * iou:.1f}")  # noqa: PLR0124 - NaN
    table.add_section()
    table.add_row("mIoU", f"{100 * result.miou:.1f}")
    table.add_row("pixel accuracy", f"{100 * result.pixel_accuracy:.1f}")
    return table
