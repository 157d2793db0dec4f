"""The progress bar of a whole training, with its step, loss terms and time left."""

from collections.abc import Iterator
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class BarWithTerms(Progress):
    """A progress bar with a line below it, which may be longer than the terminal is wide."""

    terms = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bar, then the terms of the loss."""
        yield self.make_tasks_table(self.tasks)
        yield Text(self.terms)


class TrainingProgress(ProgressBar):
    """One rich bar over all optimiser steps, with every term of the loss and the time left.

    On a console that is no terminal it prints one line per validation instead, or per round of a
    training without any.

    Args:
        console: Where to draw.
        max_steps: Optimiser steps of the whole training.
    """

    def __init__(self, console: Console, max_steps: int) -> None:
        super().__init__()
        self.console, self.max_steps = console, max_steps
        self.bar = BarWithTerms(
            TextColumn("[bold]training"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self.task = self.bar.add_task("training", total=max_steps)
        self.enabled = True

    def disable(self) -> None:
        """Show nothing: Lightning calls this on every process but the first."""
        self.enabled = False

    def enable(self) -> None:
        """Show the bar again."""
        self.enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start at the step that the training has reached."""
        del pl_module
        self.bar.reset(self.task, completed=trainer.global_step)
        if self.enabled and self.console.is_terminal:
            self.bar.start()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move the bar and show the terms of the last step."""
        del pl_module, outputs, batch, batch_idx
        self.bar.terms = "  ".join(
            f"{name.removeprefix('train/')} {value:.3f}"
            for name, value in trainer.progress_bar_metrics.items()
            if name.startswith("train/")
        )
        self.bar.update(self.task, completed=trainer.global_step)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the validation's result above the bar, so that the course stays readable."""
        del pl_module
        score = float(trainer.callback_metrics["val/miou"])
        self._print_step(trainer, f"  val mIoU {100 * score:.1f}")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the loss after a round, where no validation tells it."""
        del pl_module
        if not trainer.enable_validation:
            self._print_step(trainer)

    def _print_step(self, trainer: L.Trainer, score: str = "") -> None:
        if self.enabled:
            loss = trainer.callback_metrics.get("train/loss")
            self.bar.console.print(
                f"step {trainer.global_step}/{self.max_steps}{score}"
                + (f"  loss {float(loss):.3f}" if loss is not None else "")
            )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove the bar."""
        del trainer, pl_module
        self.bar.stop()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Remove the bar, so that the error is readable."""
        del trainer, pl_module, exception
        self.bar.stop()
