"""Decoding everything once, so that a training does not end at its ten-thousandth picture."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from agmm.datasets.images import read_image
from agmm.datasets.records import Dataset, Record, Skipped
from agmm.errors import DataError
from agmm.labels.annotations import Annotation, Points
from agmm.labels.forms import Form
from agmm.labels.rasterize import rasterize
from agmm.shapes import IGNORE_INDEX

Required = Mapping[str, Sequence[Form]]
"""Split to the forms that count there: a picture needs at least one of them."""

Progress = Callable[[int, int], None]
"""Called with how many pictures are done and how many there are."""

_SPARSE = 0.5
"""Share of the pixels above which clicks or strokes must be a mask whose 0 means 'not drawn'."""

_LISTED = 10
"""Faults that a message lists; it counts the others."""


@dataclass(frozen=True)
class FormCounts:
    """What one form of label amounts to in one split.

    Args:
        pictures: How many pictures have the form, without fault.
        pixels: For each class how many pixels are labelled.
        unlabelled: Names of the pictures whose label has no labelled pixel.
    """

    pictures: int
    pixels: tuple[int, ...]
    unlabelled: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What `check` found.

    Args:
        faults: For each split what is wrong, in the order of the records; then the labels without
            a picture.
        counts: For each split and form what is there, bad pictures left out.
        unlabelled: For each split the names of pictures without any labelled pixel in any form.
    """

    faults: Mapping[str, tuple[Skipped, ...]]
    counts: Mapping[str, Mapping[Form, FormCounts]]
    unlabelled: Mapping[str, tuple[str, ...]]


def check(dataset: Dataset, required: Required, *, progress: Progress | None = None) -> Report:
    """Decode all pictures and labels of some splits and tell everything that is wrong.

    A picture is bad if it cannot be read, has none of the required forms, or if one of those that
    it has cannot be read, has another size, an unknown class, or contradicts another one. A dense
    mask without any labelled pixel is bad too; in the other forms such a label is counted only.
    Clicks or strokes on more than half of the pixels are bad: that is a mask whose 0 means
    "not drawn".

    Args:
        dataset: What `agmm.datasets.reader.read_dataset` listed.
        required: Split to the forms of label that count there, e.g.
            ``{"train": ("points", "blocks"), "val": ("dense",)}``.
        progress: Called after each picture with (done, total), in the caller's thread.

    Returns:
        Faults and counts.

    Raises:
        DataError: A split that the data set does not have.
    """
    work = [
        (split, record, tuple(forms))
        for split, forms in required.items()
        for record in dataset.split(split)
    ]
    found: dict[str, list[_Finding]] = {split: [] for split in required}
    findings = _inspect_all(work, len(dataset.classes))
    for done, (split, finding) in enumerate(findings, start=1):
        found[split].append(finding)
        if progress is not None:
            progress(done, len(work))
    orphans = _orphans(dataset, required)
    return Report(
        {split: (*_faults(found[split]), *orphans[split]) for split in required},
        {
            split: {form: _count(found[split], form, len(dataset.classes)) for form in forms}
            for split, forms in required.items()
        },
        {split: tuple(f.record.name for f in found[split] if f.unlabelled) for split in required},
    )


def checked(
    dataset: Dataset,
    required: Required,
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Make sure that some splits can be used to the last picture; see `check`.

    Args:
        dataset: What `agmm.datasets.reader.read_dataset` listed.
        required: Split to the forms of label that count there.
        skip_bad: Leave bad pictures out, and list them in ``skipped``, instead of raising.
        progress: Called after each picture with (done, total).

    Returns:
        The data set without its bad pictures, with ``skipped`` and ``unlabelled`` filled in.

    Raises:
        DataError: Something is wrong and ``skip_bad`` is off, or nothing usable is left in a
            split. It lists the first ten faults and says how many there are.
    """
    report = check(dataset, required, progress=progress)
    faults = tuple(fault for split in required for fault in report.faults[split])
    if faults and not skip_bad:
        raise DataError(
            f"{dataset.root}: {_listed(faults)}\nMend these files, or leave them out with skip_bad."
        )
    bad = {fault.file for fault in faults}
    splits = {
        split: tuple(record for record in records if record.image not in bad)
        for split, records in dataset.splits.items()
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
        unlabelled={**dataset.unlabelled, **report.unlabelled},
    )


@dataclass(frozen=True)
class _Finding:
    """What is wrong with a record, and for each form the labelled pixels of each class (K,)."""

    record: Record
    reasons: tuple[str, ...]
    pixels: Mapping[Form, Int64[np.ndarray, " k"]]

    @property
    def unlabelled(self) -> bool:
        return not self.reasons and not any(counts.any() for counts in self.pixels.values())


def _inspect_all(
    work: Sequence[tuple[str, Record, tuple[Form, ...]]], num_classes: int
) -> Iterator[tuple[str, _Finding]]:
    """Inspect in threads, as Pillow decodes without the interpreter's lock; keeps the order."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        findings = pool.map(lambda item: _inspect(item[1], item[2], num_classes), work)
        for (split, _, _), finding in zip(work, findings, strict=True):
            yield split, finding


def _inspect(record: Record, forms: tuple[Form, ...], num_classes: int) -> _Finding:
    reasons: list[str] = []
    annotations: list[Annotation] = []
    present = [form for form in forms if form in record.labels]
    if not present:
        reasons.append(
            f"{record.image}: has no label of the form {' or '.join(forms)}. Add one, or remove"
            " the picture."
        )
    size = (0, 0)
    try:
        size = read_image(record.image).shape[:2]
    except DataError as error:
        reasons.append(str(error))
    for form in present:
        try:
            annotations.append(record.labels[form]())
        except DataError as error:
            reasons.append(str(error))
    pixels = {a.form: _pixels_per_class(a, num_classes) for a in annotations}
    if "dense" in pixels and not pixels["dense"].any():
        reasons.append(
            f"{record.image}: the dense mask has no labelled pixel, all are {IGNORE_INDEX}. Export"
            " it again, or remove the picture."
        )
    reasons.extend(
        f"{record.image}: {form} label {pixels[form].sum() / math.prod(size):.0%} of the pixels."
        f" Where 0 means 'not drawn', export {IGNORE_INDEX}; else put the file into blocks/."
        for form in ("points", "scribbles")
        if form in pixels and pixels[form].sum() > _SPARSE * math.prod(size) > 0
    )
    if not reasons:
        try:
            rasterize(annotations, size, num_classes, complete=False)
        except DataError as error:
            reasons.append(f"{record.image}: {error}")
    # A picture that cannot be read is told by its labels too: once is enough.
    return _Finding(record, tuple(dict.fromkeys(reasons)), pixels)


def _pixels_per_class(annotation: Annotation, num_classes: int) -> Int64[np.ndarray, " k"]:
    classes = annotation.classes if isinstance(annotation, Points) else annotation.mask.ravel()
    return np.bincount(classes, minlength=256)[:num_classes]


def _faults(findings: Sequence[_Finding]) -> list[Skipped]:
    return [
        Skipped(finding.record.name, finding.record.image, reason)
        for finding in findings
        for reason in finding.reasons
    ]


def _orphans(dataset: Dataset, required: Required) -> dict[str, list[Skipped]]:
    """Find the labels without a picture among the forms that count in their split.

    One whose folder says no split is told once, in the first split that its form counts in.
    """
    result: dict[str, list[Skipped]] = {split: [] for split in required}
    for label in dataset.unmatched:
        for split, forms in required.items():
            if label.form in forms and label.split in {split, None}:
                reason = (
                    f"{label.file}: there is no picture {label.name!r} for this label. Add the"
                    " picture to images/, or remove the label."
                )
                result[split].append(Skipped(label.name, label.file, reason))
                break
    return result


def _count(findings: Sequence[_Finding], form: Form, num_classes: int) -> FormCounts:
    good = [f for f in findings if form in f.pixels and not f.reasons]
    total = np.zeros(num_classes, dtype=np.int64)
    for finding in good:
        total += finding.pixels[form]
    unlabelled = tuple(f.record.name for f in good if not f.pixels[form].any())
    return FormCounts(len(good), tuple(total.tolist()), unlabelled)


def _listed(faults: Sequence[Skipped]) -> str:
    lines = [f"  {fault.reason}" for fault in faults[:_LISTED]]
    if len(faults) > _LISTED:
        lines.append(f"  and {len(faults) - _LISTED} more")
    files = len({fault.file for fault in faults})
    return "\n".join([f"{len(faults)} faults in {files} files:", *lines])
