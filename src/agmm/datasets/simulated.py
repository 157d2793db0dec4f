"""A copy of a data set with dense masks, some of whose splits have weak labels instead."""

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agmm.datasets.check import Progress
from agmm.datasets.classes import Classes
from agmm.datasets.records import Dataset, Record
from agmm.datasets.writing import (
    picture_suffix,
    write_boxes,
    write_classes,
    write_label,
    write_picture,
    write_tags,
)
from agmm.errors import DataError
from agmm.labels.annotations import Annotation, Boxes, DenseMask, Points, Tags
from agmm.labels.forms import Form
from agmm.labels.protocol import Protocol, annotate
from agmm.shapes import IGNORE_INDEX


@dataclass(frozen=True)
class Tally:
    """What was written for one split.

    Args:
        pictures: How many pictures.
        pixels: How many pixels they have.
        labels: For each form how many clicks, boxes, tags or labelled pixels there are.
    """

    pictures: int
    pixels: int
    labels: Mapping[Form, int]


class _Picture(NamedTuple):
    split: str
    record: Record
    forms: tuple[Form, ...]


class _Written(NamedTuple):
    """What a picture adds to the tables and the tally; its files are written."""

    boxes: Boxes | None
    tags: Tags | None
    pixels: int
    labels: Counter[Form]


def write_simulated_dataset(
    dataset: Dataset,
    root: Path,
    forms: Mapping[str, Sequence[Form]],
    protocol: Protocol,
    *,
    link: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Tally]:
    """Write a data set in the ``folder`` layout, its labels simulated from the dense masks.

    What is written follows from the data, the forms and the protocol alone, whatever the number of
    workers; see `agmm.labels.protocol.annotate`. ``classes.txt`` comes last: a folder without it
    is not finished, and is not read.

    Args:
        dataset: The data set. Every picture of the splits to write has a dense mask.
        root: Where to write. Files of the same name are replaced.
        forms: The splits to write, and for each what its pictures get; ("dense",) copies their
            masks.
        protocol: How the labels are simulated.
        link: Link the pictures instead of copying them; see `agmm.datasets.writing.write_picture`.
        workers: Pictures at the same time, in processes; 1 = in the caller's; None = one per core.
        progress: Called after each picture with (done, total), in the caller's process.

    Returns:
        For each split what was written.

    Raises:
        DataError: A split whose name has a "/", or a mask that cannot be read.
    """
    pictures = [
        _Picture(split, record, tuple(given))
        for split, given in forms.items()
        for record in dataset.split(split)
    ]
    for split in forms:
        if "/" in split:
            raise DataError(
                f"{dataset.root}: the split {split!r} cannot be a folder in {root / 'images'}, as"
                " its name has a '/'. Rename it."
            )
    job = partial(_write, root=root, classes=dataset.classes, protocol=protocol, link=link)
    boxes: dict[str, Boxes] = {}
    tags: dict[str, Tags] = {}
    pixels: Counter[str] = Counter()
    labels: dict[str, Counter[Form]] = {split: Counter() for split in forms}
    results = zip(pictures, _spread(job, pictures, workers or os.cpu_count() or 1), strict=True)
    for done, (picture, written) in enumerate(results, start=1):
        row = f"{_key(picture)}{picture_suffix(picture.record.image)}"
        if written.boxes is not None:
            boxes[row] = written.boxes
        if written.tags is not None:
            tags[row] = written.tags
        pixels[picture.split] += written.pixels
        labels[picture.split].update(written.labels)
        if progress is not None:
            progress(done, len(pictures))
    if boxes:
        write_boxes(root / "boxes.csv", boxes, dataset.classes)
    if tags:
        write_tags(root / "tags.csv", tags, dataset.classes)
    write_classes(root / "classes.txt", dataset.classes)
    return {
        split: Tally(len(dataset.split(split)), pixels[split], labels[split]) for split in forms
    }


def _key(picture: _Picture) -> str:
    return f"{picture.split}/{picture.record.name}"


def _spread(
    job: partial[_Written], pictures: Sequence[_Picture], workers: int
) -> Iterator[_Written]:
    """Work in processes, as finding pieces and ways holds the interpreter's lock; in order."""
    workers = min(workers, len(pictures))
    if workers == 1:
        yield from map(job, pictures)
        return
    # Not forked: a library that is loaded here may have threads, whose locks would stay locked.
    # Ctrl-C is for this process, which then ends the others.
    pool = ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        yield from pool.map(job, pictures)
    finally:
        # After an error or Ctrl-C only the pictures in work are finished.
        pool.shutdown(cancel_futures=True)


def _write(
    picture: _Picture, *, root: Path, classes: Classes, protocol: Protocol, link: bool
) -> _Written:
    key, record = _key(picture), picture.record
    dense = record.labels["dense"]()
    assert isinstance(dense, DenseMask), f"{key}: 'dense' reads {dense}"
    size: tuple[int, int] = dense.mask.shape
    given = annotate(dense.mask, picture.forms, protocol, key=key, background=classes.background)
    write_picture(root, key, record.image, link=link)
    for annotation in given.values():
        if not isinstance(annotation, Boxes | Tags):
            write_label(root, key, annotation, size, classes)
    boxes, tags = given.get("boxes"), given.get("tags")
    return _Written(
        boxes if isinstance(boxes, Boxes) else None,
        tags if isinstance(tags, Tags) else None,
        dense.mask.size,
        Counter({form: _count(annotation) for form, annotation in given.items()}),
    )


def _count(annotation: Annotation) -> int:
    if isinstance(annotation, Points | Boxes | Tags):
        return len(annotation.classes)
    return int(np.count_nonzero(annotation.mask != IGNORE_INDEX))
