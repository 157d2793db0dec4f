"""Decoding everything once, so that a training does not end at its ten-thousandth picture."""

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from agmm.datasets.inspection import Finding, inspect
from agmm.datasets.orphans import orphans
from agmm.datasets.records import Dataset, Record, Repaired, Skipped
from agmm.datasets.text import counted
from agmm.errors import DataError
from agmm.labels.forms import Form

Required = Mapping[str, Sequence[Form]]
"""Split to the forms that count there: a picture needs at least one of them."""

Progress = Callable[[int, int], None]
"""Called with how many pictures are done and how many there are."""

_LISTED = 10
"""Faults that a message lists; it counts the others."""


@dataclass(frozen=True)
class FormCounts:
    """What one form of label amounts to in one split.

    Args:
        pictures: How many pictures have the form and can be counted, faulty ones among them.
        per_class: For each class how often it is labelled: pixels, clicks, boxes, or for tags the
            pictures that are tagged with it.
        unlabelled: Names of the pictures whose label is empty: no labelled pixel, box or tag.
        pictures_per_class: For each class in how many of these pictures it is labelled.
        pixels: Pixels of these pictures, labelled or not.
        left_out: How many more have the form, but cannot be counted, as the picture or this label
            cannot be read.
    """

    pictures: int
    per_class: tuple[int, ...]
    unlabelled: tuple[str, ...]
    pictures_per_class: tuple[int, ...] = field(default=(), compare=False)
    pixels: int = field(default=0, compare=False)
    left_out: int = 0


@dataclass(frozen=True)
class Report:
    """What `check` found.

    Args:
        faults: For each split what is wrong, in the order of the records; then the labels without
            a picture.
        counts: For each split and form what is there.
        unlabelled: For each split the names of pictures whose labels say nothing in any form. No
            box and no tag say that there is only background, if the data set has one.
        unboxed: For each split the names of pictures with a tag whose class has no box: there,
            what is outside of the boxes is not all background.
        repaired: The boxes that were repaired, one by one, if they were to be.
        sizes: For each split (H, W) of the smallest and the largest picture, by area, of those
            that can be read; none if there are none.
        duplicates: Pictures of the same pixels in several splits, whose scores would be those of
            training pictures. That is no fault, as a training would not fail. None if they were
            not looked for.
    """

    faults: Mapping[str, tuple[Skipped, ...]]
    counts: Mapping[str, Mapping[Form, FormCounts]]
    unlabelled: Mapping[str, tuple[str, ...]]
    unboxed: Mapping[str, tuple[str, ...]]
    repaired: tuple[Repaired, ...] = ()
    sizes: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    duplicates: tuple[tuple[Path, ...], ...] = ()


def check(
    dataset: Dataset,
    required: Required,
    *,
    clip_boxes: bool = False,
    duplicates: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Decode all pictures and labels of some splits and tell everything that is wrong.

    A picture is bad if it cannot be read, has none of the required forms, or if one of those that
    it has cannot be read, has another size, an unknown class, a faulty box, or contradicts another
    one. A dense mask without any labelled pixel is bad too; in the other forms such a label is
    counted only. Clicks or strokes on more than half of the pixels are bad: that is a mask whose 0
    means "not drawn".

    Args:
        dataset: What `agmm.datasets.reader.read_dataset` listed.
        required: Split to the forms of label that count there, e.g.
            ``{"train": ("points", "blocks"), "val": ("dense",)}``; with no form the pictures need
            no label.
        clip_boxes: Repair boxes that reach out of their picture, have their corners in the wrong
            order or no pixel, and list them in ``repaired``, instead of calling them faults. One
            that lies wholly outside stays a fault.
        duplicates: Also hash all pictures, to find those that are in several splits.
        progress: Called after each picture with (done, total), in the caller's thread.

    Returns:
        Faults, repairs and counts.

    Raises:
        DataError: A split that the data set does not have.
    """
    found = _inspect_all(dataset, required, clip_boxes, progress, digest=duplicates)
    return _report(dataset, required, found)


def checked(
    dataset: Dataset,
    required: Required,
    *,
    skip_bad: bool = False,
    clip_boxes: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Make sure that some splits can be used to the last picture; see `check`.

    Args:
        dataset: What `agmm.datasets.reader.read_dataset` listed.
        required: Split to the forms of label that count there.
        skip_bad: Leave bad pictures out, and list them in ``skipped``, instead of raising.
        clip_boxes: Repair faulty boxes, and list them in ``repaired``, instead of calling their
            pictures bad.
        progress: Called after each picture with (done, total).

    Returns:
        The data set without its bad pictures and with repaired boxes; ``skipped``, ``repaired``
        and ``unlabelled`` are filled in.

    Raises:
        DataError: Something is wrong and ``skip_bad`` is off, or nothing usable is left in a
            split. It lists the first ten faults and says how many there are.
    """
    found = _inspect_all(dataset, required, clip_boxes, progress)
    report = _report(dataset, required, found)
    faults = tuple(fault for split in required for fault in report.faults[split])
    if faults and not skip_bad:
        raise DataError(
            f"{dataset.root}: {_listed(faults)}\nMend these files, or leave them out with"
            " --skip-bad."
        )
    bad = {fault.file for fault in faults}
    inspected = {split: tuple(f.record for f in findings) for split, findings in found.items()}
    splits = {
        split: tuple(record for record in records if record.image not in bad)
        for split, records in {**dataset.splits, **inspected}.items()
    }
    for split in required:
        if not splits[split]:
            raise DataError(
                f"{dataset.root}: no usable picture is left in the split {split!r};"
                f" {_listed(report.faults[split])}\nMend these files."
            )
    return replace(
        dataset,
        splits=splits,
        skipped=(*dataset.skipped, *faults),
        repaired=(*dataset.repaired, *report.repaired),
        unlabelled={**dataset.unlabelled, **report.unlabelled},
    )


def faults_told(faults: Sequence[Skipped]) -> str:
    """Say how many faults there are, and in how many files.

    Args:
        faults: The faults.

    Returns:
        Such as "1 fault in 1 file".
    """
    files = {fault.file for fault in faults}
    return f"{counted(len(faults), 'fault')} in {counted(len(files), 'file')}"


def _inspect_all(
    dataset: Dataset,
    required: Required,
    clip: bool,
    progress: Progress | None,
    *,
    digest: bool = False,
) -> dict[str, list[Finding]]:
    """Inspect in threads, as Pillow decodes without the interpreter's lock; keeps the order."""
    work = [
        (split, record, tuple(forms))
        for split, forms in required.items()
        for record in dataset.split(split)
    ]

    def finding(item: tuple[str, Record, tuple[Form, ...]]) -> Finding:
        _, record, forms = item
        return inspect(record, forms, dataset.classes, clip=clip, digest=digest)

    found: dict[str, list[Finding]] = {split: [] for split in required}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done, result in enumerate(pool.map(finding, work), start=1):
            found[work[done - 1][0]].append(result)
            if progress is not None:
                progress(done, len(work))
    return found


def _report(dataset: Dataset, required: Required, found: Mapping[str, Sequence[Finding]]) -> Report:
    alone = orphans(dataset, required)
    return Report(
        {split: (*_faults(found[split]), *alone[split]) for split in required},
        {
            split: {form: _count(found[split], form, len(dataset.classes)) for form in forms}
            for split, forms in required.items()
        },
        {split: tuple(f.record.name for f in found[split] if f.unlabelled) for split in required},
        {split: tuple(f.record.name for f in found[split] if f.unboxed) for split in required},
        tuple(
            Repaired(f.record.name, f.record.image, f"boxes: {repair}")
            for findings in found.values()
            for f in findings
            for repair in f.repairs
        ),
        {split: _sizes(found[split]) for split in required},
        _duplicates(found),
    )


def _sizes(findings: Sequence[Finding]) -> tuple[tuple[int, int], ...]:
    by_area = sorted((f.size for f in findings if f.size), key=lambda size: size[0] * size[1])
    return (by_area[0], by_area[-1]) if by_area else ()


def _duplicates(found: Mapping[str, Sequence[Finding]]) -> tuple[tuple[Path, ...], ...]:
    """Group the pictures of the same pixels, where they are in more than one split."""
    places: dict[bytes, dict[Path, str]] = defaultdict(dict)
    for split, findings in found.items():
        for finding in findings:
            if finding.digest:
                places[finding.digest][finding.record.image] = split
    return tuple(tuple(files) for files in places.values() if len(set(files.values())) > 1)


def _faults(findings: Sequence[Finding]) -> list[Skipped]:
    return [
        Skipped(finding.record.name, finding.record.image, reason)
        for finding in findings
        for reason in finding.reasons
    ]


def _count(findings: Sequence[Finding], form: Form, num_classes: int) -> FormCounts:
    having = [f for f in findings if form in f.record.labels]
    read = [f for f in having if form in f.counts and f.size]
    total = np.zeros(num_classes, dtype=np.int64)
    for finding in read:
        total += finding.counts[form]
    unlabelled = tuple(f.record.name for f in read if not f.counts[form].any())
    pictures = np.zeros(num_classes, dtype=np.int64)
    for finding in read:
        pictures += finding.counts[form] > 0
    return FormCounts(
        len(read),
        tuple(total.tolist()),
        unlabelled,
        tuple(pictures.tolist()),
        pixels=sum(f.size[0] * f.size[1] for f in read if f.size),
        left_out=len(having) - len(read),
    )


def _listed(faults: Sequence[Skipped]) -> str:
    lines = [f"  {fault.reason}" for fault in faults[:_LISTED]]
    if len(faults) > _LISTED:
        lines.append(f"  and {len(faults) - _LISTED} more")
    return "\n".join([f"{faults_told(faults)}:", *lines])
