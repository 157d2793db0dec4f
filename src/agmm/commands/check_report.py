"""What ``agmm check`` has found, for people and for programs."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agmm.commands.common import empty_labels, unused_pictures
from agmm.datasets.check import FormCounts, Report
from agmm.datasets.records import Dataset, Skipped, Unused
from agmm.datasets.text import counted
from agmm.labels.forms import Form

_AMOUNTS: Mapping[str, str] = {"tags": "", "boxes": "boxes", "points": "clicks"}
"""What is counted of a form beside pictures; pixels of all others."""

_FORGOTTEN: Mapping[Unused, str] = {
    "in no file of labels": "Name them in one, also without any label, if they were forgotten.",
    "without a mask": "Add their masks, if they were forgotten.",
    "of a type that is not read": "Save them as JPEG or PNG, if they were forgotten.",
}
"""What to do with unused pictures; lists leave pictures out on purpose, which is no warning."""

_LISTED, _CLASS_WIDTH, _COLUMN_WIDTH = 20, 24, 16


def faults_of(report: Report) -> list[Skipped]:
    """Give the faults that a training would stop at: those of the splits that it reads.

    It reads ``train``, and ``val`` if there are dense masks to score on. In a data set without the
    split ``train`` all count.
    """
    scored = "dense" in report.counts.get("val", ())
    read = {"train", "val"} if scored else {"train"}
    return [
        fault
        for split, faults in report.faults.items()
        for fault in faults
        if split in read or "train" not in report.faults
    ]


def warnings_of(dataset: Dataset, report: Report) -> list[str]:
    """Give what no training stops at, but somebody should know."""
    told = {id(fault) for fault in faults_of(report)}
    found = [
        f"{split}: {fault.reason}"
        for split, faults in report.faults.items()
        for fault in faults
        if id(fault) not in told
    ]
    found += [
        f"the same picture is in several splits: {', '.join(map(str, files))}. Remove all but one,"
        " or scores are those of training pictures."
        for files in report.duplicates
    ]
    for split, names in report.unlabelled.items():
        if names:
            found.append(f"{split}: {empty_labels(names)}")
    for split, names in report.unboxed.items():
        if names:
            have = "has" if len(names) == 1 else "have"
            found.append(
                f"{split}: {counted(len(names), 'picture')} {have} a tag without a box, e.g."
                f" {names[0]}: what is outside of the boxes is not taken for background there."
                " Add the boxes, if they were forgotten."
            )
    if dataset.unused and dataset.unused_as in _FORGOTTEN:
        unused = unused_pictures(dataset.unused, dataset.unused_as)
        found.append(f"{unused}. {_FORGOTTEN[dataset.unused_as]}")
    if "train" not in dataset.splits:
        found.append("there is no split train, so that nothing can be trained")
    elif "val" not in dataset.splits:
        found.append("there is no split val, so that a training scores nothing")
    if "val" in dataset.splits and "dense" not in report.counts["val"]:
        found.append("val: has no dense masks, so that a training scores nothing")
    return found


def never_labelled(dataset: Dataset, report: Report) -> list[str]:
    """Give the classes that no label of any split names."""
    every = [counts for forms in report.counts.values() for counts in forms.values()]
    return [
        name
        for index, name in enumerate(dataset.classes.names)
        if not any(counts.per_class[index] for counts in every)
    ]


def show(dataset: Dataset, report: Report, console: Console) -> list[Skipped]:
    """Print counts, warnings and faults.

    Args:
        dataset: What was checked.
        report: What was found.
        console: Where to print.

    Returns:
        The faults that a training would stop at.
    """
    never = never_labelled(dataset, report)
    console.print(
        f"{dataset.root}: {dataset.format}, {len(dataset.classes)} classes",
        markup=False,
        soft_wrap=True,
    )
    for split, records in dataset.splits.items():
        counts = report.counts[split]
        title = f"{split}: {counted(len(records), 'picture')}{_sizes(report.sizes[split])}"
        title += "" if counts else ", no labels"
        # Not the table's own title, which would wrap at the table's width.
        console.print(f"\n{title}", style="bold", markup=False, highlight=False, soft_wrap=True)
        per_table = max(1, (console.width - _CLASS_WIDTH) // _COLUMN_WIDTH)
        forms = list(counts)
        for start in range(0, len(forms), per_table):
            shown = {form: counts[form] for form in forms[start : start + per_table]}
            console.print(_table(dataset, shown, set(never)))
    if never:
        console.print(f"never labelled: {', '.join(never)}", markup=False, highlight=False)
    for repair in report.repaired:
        console.print(f"repaired {repair.file}: {repair.reason}", markup=False, soft_wrap=True)
    if dataset.unused and dataset.unused_as not in _FORGOTTEN:
        told = unused_pictures(dataset.unused, dataset.unused_as)
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    _list([f"warning: {text}" for text in warnings_of(dataset, report)], console)
    faults = faults_of(report)
    _list([fault.reason for fault in faults], console)
    if not faults:
        console.print("nothing is wrong")
    return faults


def _list(lines: Sequence[str], console: Console) -> None:
    for line in lines[:_LISTED]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if len(lines) > _LISTED:
        console.print(f"and {len(lines) - _LISTED} more; --json FILE lists all")


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    """Tell smallest and largest picture as people do, width first."""
    told = dict.fromkeys(f"{width}x{height}" for height, width in sizes)
    return f", {' to '.join(told)} pixels" if told else ""


def _table(dataset: Dataset, counts: Mapping[Form, FormCounts], left_out: set[str]) -> Table:
    """In how many pictures each class is labelled, and how often."""
    table = Table(box=SIMPLE_HEAD, show_footer=True)
    some_left_out = any(found.left_out for found in counts.values())
    rows = "pictures\nunlabelled" + ("\nnot readable" if some_left_out else "")
    table.add_column("class", rows, overflow="fold", max_width=_CLASS_WIDTH - 2)
    for form, found in counts.items():
        what = _AMOUNTS.get(form, "pixels")
        header = f"{form}\npictures" + (f" · {what}" if what else "")
        footer = f"{found.pictures:,}\n{_unlabelled(form, found)}"
        footer += f"\n{found.left_out:,}" if some_left_out else ""
        table.add_column(header, footer, justify="right", no_wrap=True)
    for index, name in enumerate(dataset.classes.names):
        if name not in left_out:
            cells = (_cell(form, found, index) for form, found in counts.items())
            table.add_row(escape(name), *cells)
    return table


def _cell(form: Form, found: FormCounts, index: int) -> str:
    pictures = found.pictures_per_class[index]
    if not pictures:
        return "-"
    return f"{pictures:,}" if form == "tags" else f"{pictures:,} · {found.per_class[index]:,}"


def unlabelled_share(form: Form, found: FormCounts) -> float | None:
    """Give the share of the pixels without a label, 0 to 1; None where labels are no pixels."""
    if form in ("tags", "boxes") or not found.pixels:
        return None
    return max(0.0, 1 - sum(found.per_class) / found.pixels)


def _unlabelled(form: Form, found: FormCounts) -> str:
    share = unlabelled_share(form, found)
    if share is None:
        return "-"
    # Clicks leave nearly everything open, but not all of it.
    return f"{100 * share:.1f} %" if share < 0.9995 else "> 99.9 %"


def as_plain(dataset: Dataset, report: Report) -> dict[str, Any]:
    """Give everything as JSON can hold it.

    Args:
        dataset: What was checked.
        report: What was found.

    Returns:
        Counts of each split, unused pictures, faults and warnings.
    """
    return {
        "data": str(dataset.root),
        "format": dataset.format,
        "classes": list(dataset.classes.names),
        "splits": {
            split: {
                "pictures": len(records),
                "sizes": [list(size) for size in report.sizes[split]],
                "labels": {
                    form: _plain_counts(dataset, form, found)
                    for form, found in report.counts[split].items()
                },
            }
            for split, records in dataset.splits.items()
        },
        "never_labelled": never_labelled(dataset, report),
        "duplicates": [[str(file) for file in files] for files in report.duplicates],
        "unused": [str(file) for file in dataset.unused],
        "faults": [{"file": str(f.file), "reason": f.reason} for f in faults_of(report)],
        "warnings": warnings_of(dataset, report),
    }


def _plain_counts(dataset: Dataset, form: Form, found: FormCounts) -> dict[str, Any]:
    names = dataset.classes.names
    return {
        "pictures": found.pictures,
        "not_readable": found.left_out,
        "unlabelled": unlabelled_share(form, found),
        "pictures_per_class": dict(zip(names, found.pictures_per_class, strict=True)),
        "amount_per_class": dict(zip(names, found.per_class, strict=True)),
    }
