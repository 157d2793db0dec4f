"""What several commands need."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from agmm.datasets.beside import PNG_FOLDERS
from agmm.datasets.check import Required, checked
from agmm.datasets.records import Dataset, Unused
from agmm.datasets.text import counted
from agmm.errors import ConfigError, DataError
from agmm.labels.forms import FORMS, Form
from agmm.progress import progress_bar

T = TypeVar("T")


def training_needs(dataset: Dataset, labels: tuple[Form, ...]) -> dict[str, tuple[Form, ...]]:
    """Tell which forms of label a training reads of which split.

    Args:
        dataset: The data set.
        labels: What it trains on.

    Returns:
        ``labels`` of ``train``, and dense masks of ``val`` where any picture there has one: without
        them nothing can be scored, and ``val`` is not read.
    """
    scored = any("dense" in record.labels for record in dataset.splits.get("val", ()))
    return {"train": labels, **({"val": ("dense",)} if scored else {})}


def check_forms(option: str, forms: Sequence[str]) -> None:
    """Make sure that an option names forms of label, each once.

    Raises:
        ConfigError: If it names none, something else, or one of them twice.
    """
    if not forms or set(forms) - set(FORMS) or len(set(forms)) < len(forms):
        raise ConfigError(
            f"{option}: expected some of {', '.join(FORMS)}, each once, comma-separated, got"
            f" {','.join(forms)!r}"
        )


_PLACES: dict[str, str] = {
    **{form: f"{folder}/NAME.png" for form, folder in PNG_FOLDERS.items()},
    "boxes": "boxes.csv",
    "tags": "tags.csv",
}
"""Where labels of a form may lie in any layout."""


def check_needs(dataset: Dataset, required: Required) -> None:
    """Make sure that each split has some of the forms that it is needed for.

    Labels whose names fit no picture count as well: what is wrong with them is told one by one.

    Args:
        dataset: What `agmm.datasets.reader.read_dataset` listed.
        required: Split to the forms of label that count there; none = no label is needed.

    Raises:
        DataError: If no picture of a split has any of its forms, or there is no such split.
    """
    unmatched = {label.form for label in dataset.unmatched}
    for split, forms in required.items():
        there = {form for record in dataset.split(split) for form in record.labels}
        if forms and not set(forms) & (there | unmatched):
            told = ", ".join(form for form in FORMS if form in there)
            places = " or ".join(str(dataset.root / _PLACES[form]) for form in forms)
            raise DataError(
                f"{dataset.root}: no picture of the split {split!r} has a label of the form"
                f" {' or '.join(forms)}; found: {told or 'no labels'}. Name a form that is there or"
                f" another split, or add the labels, as {places}."
            )


def empty_labels(names: Sequence[str]) -> str:
    """Say how many pictures have a label that says nothing.

    Args:
        names: Their names, at least one.

    Returns:
        How many, with the first one.

    Example:
        >>> empty_labels(["a"])
        '1 picture has an empty label, e.g. a'
    """
    have = "has" if len(names) == 1 else "have"
    return f"{counted(len(names), 'picture')} {have} an empty label, e.g. {names[0]}"


def unused_pictures(files: Sequence[Path], why: Unused) -> str:
    """Say how many pictures are not used.

    Args:
        files: The pictures, at least one.
        why: Why they are not.

    Returns:
        How many, with the first one.

    Example:
        >>> unused_pictures([Path("images/a.jpg")], "in no file of labels")
        '1 picture is in no file of labels and not used, e.g. images/a.jpg'
    """
    are = "is" if len(files) == 1 else "are"
    return f"{counted(len(files), 'picture')} {are} {why} and not used, e.g. {files[0]}"


def usable_dataset(
    dataset: Dataset,
    required: Required,
    *,
    skip_bad: bool,
    clip_boxes: bool = False,
    console: Console,
) -> Dataset:
    """Decode everything of a data set that will be used, once, and tell what is wrong.

    Args:
        dataset: What `agmm.datasets.reader.read_dataset` listed.
        required: Label forms that each split needs, one of them per picture.
        skip_bad: Leave out what is unusable, and list it, instead of raising.
        clip_boxes: Repair faulty boxes, and list them, instead of raising.
        console: Where progress and skipped files are shown.

    Raises:
        DataError: If anything is unusable and ``skip_bad`` is off, or nothing is left.
    """
    check_needs(dataset, required)
    with progress_bar("checking the data", console) as progress:
        usable = checked(
            dataset, required, skip_bad=skip_bad, clip_boxes=clip_boxes, progress=progress
        )
    for split, names in usable.unlabelled.items():
        if names:
            console.print(
                f"{split}: {empty_labels(names)}",
                markup=False,
                soft_wrap=True,
            )
    if usable.unused:
        told = unused_pictures(usable.unused, usable.unused_as)
        console.print(told, markup=False, soft_wrap=True)
    for repair in usable.repaired:
        console.print(f"repaired {repair.file}: {repair.reason}", markup=False, soft_wrap=True)
    for skipped in usable.skipped:
        console.print(f"skipped {skipped.reason}", markup=False, soft_wrap=True)
    for what, changes in (("repaired", usable.repaired), ("skipped", usable.skipped)):
        if changes:
            console.print(f"{len(changes)} {what} in all", markup=False)
    return usable


def tracked(items: Sequence[T], what: str, console: Console) -> Iterator[T]:
    """The items, with a progress bar where the console is a terminal."""
    return iter(
        track(items, what, console=console, transient=True, disable=not console.is_terminal)
    )


def require_empty(folder: Path | str) -> None:
    """Refuse to write into a folder that has something in it.

    Raises:
        DataError: If it is neither missing nor an empty folder.
    """
    path = Path(folder)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise DataError(f"{path}: not empty; remove it, or give another --out")


def check_target(option: str, target: Path) -> None:
    """Make sure that a file can be written, before what is to be written is worked out.

    Its folder is made.

    Args:
        option: The option that names the file.
        target: The file.

    Raises:
        ConfigError: If it is a folder, or lies where nothing can be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option} {target}: {error}; name a file elsewhere") from error
    if target.is_dir():
        raise ConfigError(
            f"{option} {target}: is a folder; name a file, as {target / 'found.json'}"
        )
    if not os.access(target.parent, os.W_OK):
        raise ConfigError(
            f"{option} {target}: nothing can be written to {target.parent}; name a file elsewhere"
        )


def keep_existing(target: Path) -> None:
    """Refuse to write over a file that is there already: it may be somebody's work.

    Raises:
        DataError: If it exists.
    """
    if target.exists():
        raise DataError(f"{target}: exists already; give another --out, or move it away")
