"""What pseudo labels are worth, on one screen."""

import math

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agmm.datasets.classes import Classes
from agmm.evaluation.calibration import THRESHOLDS
from agmm.evaluation.label_quality import LabelQuality, PseudoLabelQuality

_LISTED, _NAME_WIDTH = 20, 18


def show(quality: PseudoLabelQuality, classes: Classes, console: Console) -> None:
    """Print the tables of classes and of confidences side by side.

    Args:
        quality: The counts.
        classes: Names of the classes, and which of them is the background.
        console: Where to print.
    """
    side_by_side = Table.grid(padding=(0, 3))
    side_by_side.add_row(_classes(quality, classes), _confidences(quality))
    console.print(side_by_side)


def _classes(quality: PseudoLabelQuality, classes: Classes) -> Table:
    names = classes.names
    written, of_labelled = quality.written, quality.written.scores()
    table = Table(
        title=f"written labels, {quality.pictures} pictures, %",
        caption="unlabelled pixels: in no IoU but the last",
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
    )
    table.add_column("class", max_width=_NAME_WIDTH, no_wrap=True)
    for column in ("IoU", "coverage", "precision"):
        table.add_column(column, justify="right", min_width=max(5, len(column)))
    # The worst first where not all fit; classes that are nowhere come last.
    order = sorted(
        range(len(names)), key=lambda k: (math.isnan(of_labelled.iou[k]), of_labelled.iou[k])
    )
    shown = range(len(names)) if len(names) <= _LISTED else order[:_LISTED]
    for k in shown:
        table.add_row(
            escape(names[k]),
            _percent(of_labelled.iou[k]),
            _percent(written.coverage([k])),
            _percent(written.precision([k])),
        )
    if len(names) > _LISTED:
        table.add_row(f"{len(names) - _LISTED} others", "", "", "")
    table.add_section()
    table.add_row("all", *_row(written, of_labelled.miou))
    if classes.background is not None:
        foreground = [k for k in range(len(names)) if k != classes.background]
        table.add_row(
            "foreground",
            "",
            _percent(written.coverage(foreground)),
            _percent(written.precision(foreground)),
        )
    table.add_row("not annotated", *_row(quality.guessed, quality.guessed.scores().miou))
    strict = written.scores(unlabelled_is_wrong=True)
    table.add_row("unlabelled = wrong", _percent(strict.miou), "", "")
    return table


def _confidences(quality: PseudoLabelQuality) -> Table:
    found = quality.calibration
    error = found.expected_calibration_error()
    table = Table(
        title="not annotated pixels, %",
        caption=f"calibration error {'-' if math.isnan(error) else f'{error:.3f}'}",
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
    )
    for column in ("from", "coverage", "precision"):
        table.add_column(column, justify="right", min_width=len(column))
    for threshold in THRESHOLDS:
        table.add_row(
            f"{threshold:.2f}",
            _percent(found.coverage(threshold)),
            _percent(found.precision(threshold)),
        )
    return table


def _row(quality: LabelQuality, miou: float) -> tuple[str, str, str]:
    return _percent(miou), _percent(quality.coverage()), _percent(quality.precision())


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"
