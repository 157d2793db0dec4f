"""``agmm check``: what was found in a data set, and what is wrong with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from agmm.commands.check_report import as_plain, show
from agmm.commands.common import check_forms, check_needs, check_target, training_needs
from agmm.commands.parsing import build_parser, parse
from agmm.config import Format
from agmm.datasets import check as datasets_check
from agmm.datasets.check import Report, faults_told
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Dataset
from agmm.errors import DataError
from agmm.files import write_json
from agmm.labels.forms import FORMS, Form
from agmm.progress import progress_bar

EXAMPLES = """
agmm check photos
agmm check photos --labels tags,boxes,scribbles
agmm check photos --json found.json
"""


def check(
    data: Path | str,
    *,
    labels: tuple[Form, ...] = (),
    format: Format = "auto",  # noqa: A002 - the option is called so
    mapping: Path | None = None,
    clip_boxes: bool = False,
    json: Path | None = None,
) -> tuple[Dataset, Report]:
    """Decode every picture and label of a data set and tell what is there and what is wrong.

    Args:
        data: Folder of the data set.
        labels: Label forms that a training is to use, comma-separated: the split ``train`` is
            checked for them and ``val`` for dense masks if it has any, as ``agmm train`` does.
            Without any, every split is checked for all the forms that it has.
        format: Layout of the data set; ``auto`` recognises it.
        mapping: YAML file with classes to rename, merge or drop: lines ``old: new``, ``old: null``.
        clip_boxes: As in ``agmm train``.
        json: File to write all counts, faults and warnings to.

    Returns:
        The data set as it is listed, and faults and counts of each split.

    Raises:
        AgmmError: If ``labels`` names no form, or the data set cannot be listed or has nothing to
            train on, or ``json`` is a folder or lies where nothing can be written.
        OSError: If writing ``json`` fails; what was found is printed then.
    """
    if labels:
        check_forms("--labels", labels)
    if json is not None:
        check_target("--json", Path(json))
    dataset = read_dataset(data, format=format, mapping=mapping)
    required = _required(dataset, labels)
    check_needs(dataset, required)
    with progress_bar("checking the data", Console(stderr=True)) as progress:
        report = datasets_check.check(
            dataset,
            required,
            clip_boxes=clip_boxes,
            duplicates=True,
            progress=progress,
        )
    if json is not None:
        try:
            write_json(Path(json), as_plain(dataset, report))
        except OSError:
            # A full disk shall not cost what was found in an hour.
            show(dataset, report, Console(stderr=True))
            raise
    return dataset, report


def _required(dataset: Dataset, labels: tuple[Form, ...]) -> dict[str, tuple[Form, ...]]:
    """What each split is checked for; with ``labels`` as a training reads it."""
    found = {
        split: tuple(form for form in FORMS if any(form in record.labels for record in records))
        for split, records in dataset.splits.items()
    }
    if not labels:
        return found
    dataset.split("train")
    return found | training_needs(dataset, labels)


def main(name: str, arguments: Sequence[str]) -> None:
    """Run the command with the words of its command line.

    Raises:
        DataError: If anything is wrong with the data.
    """
    values: dict[str, Any] = parse(build_parser(name, check, EXAMPLES), arguments)
    dataset, report = check(**values)
    faults = show(dataset, report, Console())
    if faults:
        raise DataError(
            f"{values['data']}: {faults_told(faults)};"
            " mend them, or leave these pictures out with --skip-bad of agmm train"
        )
