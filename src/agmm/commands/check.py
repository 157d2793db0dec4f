"""``agmm check``: what was found in a data set, and what is wrong with it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agmm.commands.parsing import build_parser, parse
from agmm.config import Format
from agmm.datasets import check as datasets_check
from agmm.datasets.check import FormCounts, Report
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Dataset
from agmm.errors import DataError
from agmm.labels.forms import FORMS, Form
from agmm.training.progress import progress_bar

EXAMPLES = """
agmm check photos
agmm check photos --labels tags,boxes,scribbles
"""


def check(
    data: Path | str,
    *,
    labels: tuple[Form, ...] = (),
    format: Format = "auto",  # noqa: A002 - the option is called so
    clip_boxes: bool = False,
) -> tuple[Dataset, Report]:
    """Decode every picture and label of a data set and tell what is there and what is wrong.

    Args:
        data: Folder of the data set.
        labels: Label forms that the split ``train`` is to be checked for, comma-separated; the
            others need dense masks then. Without any, every split is checked for all its forms.
        format: Layout of the data set; ``auto`` recognises it.
        clip_boxes: As in ``agmm train``.

    Returns:
        The data set as it is listed, and faults and counts of each split.

    Raises:
        AgmmError: If the data set cannot be listed.
    """
    dataset = read_dataset(data, format=format)
    with progress_bar("checking the data", Console(stderr=True)) as progress:
        report = datasets_check.check(
            dataset, _required(dataset, labels), clip_boxes=clip_boxes, progress=progress
        )
    return dataset, report


def _required(dataset: Dataset, labels: tuple[Form, ...]) -> dict[str, tuple[Form, ...]]:
    if labels:
        weak = {"train": labels}
        return {split: weak.get(split, ("dense",)) for split in dataset.splits}
    return {
        split: tuple(form for form in FORMS if any(form in record.labels for record in records))
        for split, records in dataset.splits.items()
    }


def main(name: str, arguments: Sequence[str]) -> None:
    """Run the command with the words of its command line.

    Raises:
        DataError: If anything is wrong with the data.
    """
    values: dict[str, Any] = parse(build_parser(name, check, EXAMPLES), arguments)
    dataset, report = check(**values)
    console = Console()
    for split, records in dataset.splits.items():
        console.print(_table(f"{split}: {len(records)} pictures", dataset, report.counts[split]))
    for repair in report.repaired:
        console.print(f"repaired {repair.file}: {repair.reason}", markup=False, soft_wrap=True)
    faults = [fault for found in report.faults.values() for fault in found]
    for fault in faults:
        console.print(fault.reason, markup=False, soft_wrap=True)
    if faults:
        raise DataError(
            f"{values['data']}: {len(faults)} faults in {len({f.file for f in faults})} files;"
            " mend them, or leave these pictures out with --skip-bad of agmm train"
        )
    console.print("nothing is wrong")


def _table(title: str, dataset: Dataset, counts: Mapping[Form, FormCounts]) -> Table:
    """How often each class is labelled in each form, without the bad pictures."""
    table = Table(title=escape(title), show_footer=True)
    table.add_column("class", "pictures without fault")
    for form, found in counts.items():
        what = {"tags": "pictures", "boxes": "boxes", "points": "clicks"}.get(form, "pixels")
        table.add_column(f"{form}, {what}", str(found.pictures), justify="right")
    for index, class_name in enumerate(dataset.classes.names):
        table.add_row(
            escape(class_name), *(f"{found.per_class[index]:,}" for found in counts.values())
        )
    return table
