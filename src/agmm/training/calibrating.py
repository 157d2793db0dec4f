"""How sure pseudo labels are where guesses helped to make them, measured on validation pictures."""

import functools
import operator
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from agmm.config import TrainConfig
from agmm.data.dataset import dense_mask
from agmm.datasets.classes import Classes
from agmm.datasets.records import Record
from agmm.datasets.text import counted
from agmm.evaluation.calibration import Calibration, calibration
from agmm.labels.annotations import Annotation
from agmm.labels.forms import Form
from agmm.labels.protocol import Protocol, annotate
from agmm.progress import progress_bar
from agmm.shapes import IGNORE_INDEX, MaskArray
from agmm.training.labelling import label_record
from agmm.training.pseudo import with_seeds_of
from agmm.training.run import Run
from agmm.training.source import is_run

MOST_PICTURES = 200
"""... that are labelled for it."""


def measured_calibration(
    run: Run,
    train: Sequence[Record],
    val: Sequence[Record],
    classes: Classes,
    console: Console,
    *,
    folder: Path,
    device: torch.device | str,
) -> Calibration | None:
    """Label validation pictures as the training pictures with guesses are, and count who is right.

    Their labels are drawn from their dense masks, in the forms of the training pictures that have
    guesses, and the guesses are made as those were. Ours: the annotator's own pixels say little of
    how often guesses are right.

    Args:
        run: The run; network and objective lie on ``device``.
        train: Its training records, with their guesses.
        val: Records with dense masks; at most `MOST_PICTURES` are taken, evenly.
        classes: The data set's classes.
        console: Where progress and counts are shown.
        folder: Where the guesses are written, or kept from another checkpoint.
        device: Where networks run.

    Returns:
        Counts of the pixels that the drawn labels leave open, by the confidence before any
        calibration. None without guesses or validation pictures, where nothing got a label, or
        where the guesses were given as files, which there are none of for other pictures.

    Raises:
        AgmmError: Masks that cannot be read, or guesses that cannot be made.
    """
    guessed = [record for record in train if record.guesses]
    number = min(len(val), MOST_PICTURES)
    if not guessed or not number or not _can_guess(run.config):
        return None
    forms = [
        tuple(form for form in run.config.labels if form in record.labels) for record in guessed
    ]
    chosen = [val[i * len(val) // number] for i in range(number)]
    drawn = [
        _drawn(record, forms[i * len(forms) // number], classes) for i, record in enumerate(chosen)
    ]
    uncalibrated = replace(run, calibration=None)
    console.print(
        f"calibrating on {counted(number, 'validation picture')}: labels are drawn from the masks"
    )
    records = with_seeds_of(uncalibrated, drawn, classes, console, folder=folder, device=device)
    counts = []
    with progress_bar("calibrating the confidence", console) as progress:
        for done, (record, masked) in enumerate(zip(records, chosen, strict=True), start=1):
            counts.append(_count(uncalibrated, record, dense_mask(masked)))
            progress(done, number)
    total = functools.reduce(operator.add, counts)
    return total if total.pixels.any() else None


def _can_guess(config: TrainConfig) -> bool:
    """Whether the guesses for any picture can be made, and not only read."""
    return not config.seeds and (config.pseudo.source is None or is_run(config.pseudo.source))


def _drawn(record: Record, forms: Sequence[Form], classes: Classes) -> Record:
    """A picture with labels that are drawn from its dense mask when they are read, and no other.

    A training that takes dense masks too would take the mask itself for a label.
    """
    readers = {form: partial(_draw, record, form, classes.background) for form in forms}
    return replace(record, labels=readers, guesses=())


def _draw(record: Record, form: Form, background: int | None) -> Annotation:
    labels = annotate(
        dense_mask(record), (form,), Protocol(), key=record.name, background=background
    )
    return labels[form]


def _count(run: Run, record: Record, truth: MaskArray) -> Calibration:
    result = label_record(run, record, threshold=0.0)
    labels, free = result.mask.numpy(), (result.annotated == IGNORE_INDEX).numpy()
    return calibration(labels, result.confidence.numpy(), truth, where=free)
