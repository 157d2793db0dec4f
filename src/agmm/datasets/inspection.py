"""Decoding one picture with its labels, and telling what is wrong with it."""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Int64

from agmm.datasets.classes import Classes
from agmm.datasets.images import read_image
from agmm.datasets.records import Record
from agmm.errors import DataError
from agmm.labels.annotations import Annotation, Boxes, Points, Tags
from agmm.labels.boxes import box_faults, clip_boxes, stray_boxes, unboxed_classes
from agmm.labels.contradictions import contradictions
from agmm.labels.forms import Form
from agmm.shapes import IGNORE_INDEX

_SPARSE = 0.5
"""Share of the pixels above which clicks or strokes must be a mask whose 0 means 'not drawn'."""


@dataclass(frozen=True)
class Finding:
    """What `inspect` found.

    Args:
        record: The record; with repaired boxes if they were to be repaired.
        reasons: What is wrong, each with file and remedy; none if the picture can be used.
        repairs: What was repaired.
        counts: For each form that could be read how often each class is labelled (K,): pixels,
            clicks, boxes, or 1 for a tag.
        unlabelled: Whether nothing is wrong, but the labels say nothing.
        unboxed: Whether a tag names a class that has no box, among boxes that tell the background.
        size: (H, W) of the picture; None if it cannot be read.
        digest: The same for pictures of the same pixels, in whichever file; empty if it cannot be
            read or was not asked for.
    """

    record: Record
    reasons: tuple[str, ...]
    repairs: tuple[str, ...]
    counts: Mapping[Form, Int64[np.ndarray, " k"]]
    unlabelled: bool
    unboxed: bool
    size: tuple[int, int] | None = None
    digest: bytes = b""


def inspect(
    record: Record,
    forms: Sequence[Form],
    classes: Classes,
    *,
    clip: bool,
    digest: bool = False,
) -> Finding:
    """Decode a picture and its labels and tell everything that is wrong with them.

    Args:
        record: The picture and its labels.
        forms: The forms that count; the picture needs one of them. With none it needs no label.
        classes: The data set's classes.
        clip: Repair faulty boxes, where they can be, instead of refusing them.
        digest: Also hash the picture's pixels.

    Returns:
        What is wrong, what was repaired, and what is there.
    """
    reasons: list[str] = []
    present = [form for form in forms if form in record.labels]
    if forms and not present:
        reasons.append(
            f"{record.image}: has no label of the form {' or '.join(forms)}. Add one, or remove"
            " the picture."
        )
    size, hashed, annotations = _read(record, present, reasons, digest=digest)
    repairs: tuple[str, ...] = ()
    boxes = annotations.get("boxes")
    if isinstance(boxes, Boxes) and size is not None:
        reasons.extend(_box_reasons(record, boxes, size, classes, clip=clip))
        if clip:
            boxes, repairs = clip_boxes(boxes, size)
            annotations["boxes"] = boxes
            repairs = tuple(_with_names(repair, classes) for repair in repairs)
            reader = partial(Boxes, boxes.xyxy, boxes.classes)
            if repairs:
                record = replace(record, labels={**record.labels, "boxes": reader})
    counts = {form: _count(annotation, len(classes)) for form, annotation in annotations.items()}
    reasons.extend(_implausible(record, counts, size))
    if size is not None and not reasons:
        reasons.extend(_contradictions(record, annotations, size, classes))
    background = classes.background
    # Where there is a background, no tag and no box say that there is nothing else.
    says = any(c.any() for c in counts.values()) or (
        background is not None and bool({"tags", "boxes"} & annotations.keys())
    )
    # A picture that cannot be read is told by its labels too: once is enough.
    told = tuple(dict.fromkeys(reasons))
    silent = not (told or says or not forms)
    unboxed = background is not None and bool(
        unboxed_classes(list(annotations.values()), background)
    )
    return Finding(record, told, repairs, counts, silent, unboxed, size, hashed)


def _read(
    record: Record, forms: Sequence[Form], reasons: list[str], *, digest: bool
) -> tuple[tuple[int, int] | None, bytes, dict[Form, Annotation]]:
    """The picture's size and the labels, as far as they can be read; else ``reasons`` grows."""
    size, hashed, annotations = None, b"", {}
    try:
        image = read_image(record.image)
        size = (image.shape[0], image.shape[1])
        if digest:
            hashed = hashlib.blake2b(
                np.ascontiguousarray(image).data, digest_size=16, salt=f"{image.shape[1]}".encode()
            ).digest()
    except DataError as error:
        reasons.append(str(error))
    for form in forms:
        try:
            annotations[form] = record.labels[form]()
        except DataError as error:
            reasons.append(str(error))
    return size, hashed, annotations


def _box_reasons(
    record: Record, boxes: Boxes, size: tuple[int, int], classes: Classes, *, clip: bool
) -> Iterator[str]:
    """What is wrong with boxes; with ``clip`` only what is no repair's."""
    stray = stray_boxes(boxes, size)
    for fault in stray if clip else box_faults(boxes, size):
        remedy = "Correct it, or have it repaired with --clip-boxes."
        if fault in stray:
            remedy = "It is most likely of another picture or scale: correct it, or leave the"
            remedy += " picture out with --skip-bad."
        yield f"{record.image}: boxes: {_with_names(fault, classes)}. {remedy}"


def _count(annotation: Annotation, num_classes: int) -> Int64[np.ndarray, " k"]:
    if isinstance(annotation, Tags):
        classes = np.unique(annotation.classes)
    elif isinstance(annotation, Points | Boxes):
        classes = annotation.classes
    else:
        classes = annotation.mask.ravel()
    return np.bincount(classes, minlength=256)[:num_classes]


def _implausible(
    record: Record, counts: Mapping[Form, np.ndarray], size: tuple[int, int] | None
) -> list[str]:
    """Labels that can be read, but cannot be what they should be."""
    reasons = []
    if "dense" in counts and not counts["dense"].any():
        reasons.append(
            f"{record.image}: the dense mask has no labelled pixel, all are {IGNORE_INDEX}. Export"
            " it again, or remove the picture."
        )
    pixels = math.inf if size is None else math.prod(size)
    reasons.extend(
        f"{record.image}: {form} label {counts[form].sum() / pixels:.0%} of the pixels."
        f" Where 0 means 'not drawn', export {IGNORE_INDEX}; else put the file into blocks/."
        for form in ("points", "scribbles")
        if form in counts and counts[form].sum() > _SPARSE * pixels
    )
    return reasons


def _contradictions(
    record: Record,
    annotations: Mapping[Form, Annotation],
    size: tuple[int, int],
    classes: Classes,
) -> list[str]:
    given = list(annotations.values())
    try:
        found = contradictions(given, size, len(classes), background=classes.background)
    except DataError as error:
        return [f"{record.image}: {_with_names(str(error), classes)}"]
    return [f"{record.image}: {_with_names(each.message, classes)}" for each in found]


def _with_names(text: str, classes: Classes) -> str:
    """Write the name behind the number of each class in a message about labels."""

    def named(match: re.Match[str]) -> str:
        number = int(match[1])
        return f"{match[0]} ({classes.names[number]})" if number < len(classes) else match[0]

    return re.sub(r"\bclass (\d+)\b", named, text)
