"""A data set as records: where the pictures lie and how their labels are had."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from agmm.datasets.classes import Classes
from agmm.errors import DataError
from agmm.labels.annotations import Annotation
from agmm.labels.forms import Form
from agmm.shapes import MaskArray


@dataclass(frozen=True)
class Record:
    """One picture and what was given for it; nothing is read before a label is called.

    Args:
        name: The picture's name without suffix, unique within its split; folders as "a/b".
        image: The picture's file.
        labels: For each form that was given a function that reads it. It raises `DataError` if
            the label cannot be read or does not fit the picture. Picklable.
        guesses: Functions that read seeds which no annotator gave, such as those from class
            activation maps: (H, W), uint8, 255 = unlabelled. They yield to the labels. Picklable.
    """

    name: str
    image: Path
    labels: Mapping[Form, Callable[[], Annotation]]
    guesses: tuple[Callable[[], MaskArray], ...] = ()


@dataclass(frozen=True)
class Skipped:
    """A picture or label that is left out, and why.

    Args:
        name: The record's name, or the label's where there is no picture.
        file: The picture, or the label where there is no picture.
        reason: What is wrong and how to mend it.
    """

    name: str
    file: Path
    reason: str


@dataclass(frozen=True)
class Repaired:
    """A label that was repaired because the caller wished so.

    Args:
        name: The record's name.
        file: The picture.
        reason: What was wrong and what it is now.
    """

    name: str
    file: Path
    reason: str


@dataclass(frozen=True)
class Unmatched:
    """A label file without a picture.

    Args:
        name: The file's name without suffix; folders as "a/b".
        file: The label file.
        form: Its form of label.
        split: The split that its folder says; None where the folder says none.
    """

    name: str
    file: Path
    form: Form
    split: str | None


Unused = Literal[
    "in no file of labels", "in no list", "without a mask", "of a type that is not read"
]
"""Why a picture is not used, as a message says it."""


@dataclass(frozen=True)
class Dataset:
    """All records of a data set.

    Args:
        root: The folder.
        classes: Names and colours.
        splits: The records of each split, sorted by name.
        skipped: What was left out because it was bad and the caller wished so.
        unmatched: Label files without a picture. Whether they are a fault depends on which forms
            the caller needs; see `agmm.datasets.check.checked`.
        unlabelled: For each checked split the names of pictures whose labels say nothing, as no
            pixel is labelled. That is no fault, but they teach nothing by themselves.
        repaired: What was repaired because the caller wished so.
        unused: Pictures beside those of the records that are not used. That is no fault.
        unused_as: Why they are not. Lists choose pictures on purpose; what no file of labels
            names, or has no mask where there are no lists, may have been forgotten.
        format: The name of the layout that it was read from; empty if it was not read by name.
    """

    root: Path
    classes: Classes
    splits: Mapping[str, tuple[Record, ...]]
    skipped: tuple[Skipped, ...] = ()
    unmatched: tuple[Unmatched, ...] = ()
    unlabelled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    repaired: tuple[Repaired, ...] = ()
    unused: tuple[Path, ...] = ()
    unused_as: Unused = "in no file of labels"
    format: str = ""

    def split(self, name: str) -> tuple[Record, ...]:
        """Give the records of one split.

        Args:
            name: The split, such as "train" or "val".

        Returns:
            Its records, at least one.

        Raises:
            DataError: There is no such split, or nothing is left in it.
        """
        records = self.splits.get(name, ())
        if not records:
            found = ", ".join(f"{split} ({len(self.splits[split])})" for split in self.splits)
            raise DataError(
                f"{self.root}: there are no pictures for the split {name!r}; found: {found}."
                f" Add pictures of this split, or name another one."
            )
        return records
