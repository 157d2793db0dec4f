"""The progress bar as somebody sees it."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from agmm.training.progress import TrainingProgress

pytestmark = pytest.mark.usefixtures("without_type_checks")  # a stand-in for the trainer


def trainer_at(step: int, *, validates: bool = True) -> Any:
    terms = {
        "train/partial_cross_entropy": 1.25,
        "train/mixture_likelihood": 0.5,
        "train/loss": 1.75,
    }
    metrics = {"train/loss": 1.75} | ({"val/miou": 0.5} if validates else {})
    return SimpleNamespace(
        global_step=step,
        progress_bar_metrics=terms,
        callback_metrics=metrics,
        enable_validation=validates,
    )


def test_a_narrow_terminal_shows_the_step_and_every_term() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=60, color_system=None)
    progress = TrainingProgress(console, max_steps=20)
    model: Any = None
    progress.on_train_start(trainer_at(0), model)
    progress.on_train_batch_end(trainer_at(7), model, None, None, 6)
    progress.bar.refresh()
    progress.on_train_end(trainer_at(7), model)
    shown = " ".join(output.getvalue().split())
    assert "7/20" in shown
    for term in ("partial_cross_entropy 1.250", "mixture_likelihood 0.500", "loss 1.750"):
        assert term in shown


def test_what_is_no_terminal_gets_a_line_per_validation_only() -> None:
    output = io.StringIO()
    progress = TrainingProgress(Console(file=output, width=60), max_steps=20)
    model: Any = None
    progress.on_train_start(trainer_at(0), model)
    progress.on_train_batch_end(trainer_at(10), model, None, None, 9)
    progress.on_validation_end(trainer_at(10), model)
    progress.on_train_epoch_end(trainer_at(10), model)
    progress.on_train_end(trainer_at(10), model)
    assert output.getvalue().strip() == "step 10/20  val mIoU 50.0  loss 1.750"


def test_a_training_without_validation_gets_a_line_per_round() -> None:
    output = io.StringIO()
    progress = TrainingProgress(Console(file=output, width=60), max_steps=20)
    model: Any = None
    for step in (10, 20):
        progress.on_train_epoch_end(trainer_at(step, validates=False), model)
    assert output.getvalue() == "step 10/20  loss 1.750\nstep 20/20  loss 1.750\n"


def test_other_processes_are_silent() -> None:
    output = io.StringIO()
    progress = TrainingProgress(
        Console(file=output, force_terminal=True, width=60, color_system=None), max_steps=20
    )
    progress.disable()
    model: Any = None
    progress.on_train_start(trainer_at(0), model)
    progress.on_validation_end(trainer_at(10), model)
    assert output.getvalue() == ""
    progress.enable()
    progress.on_validation_end(trainer_at(10), model)
    assert "val mIoU 50.0" in output.getvalue()
