"""What a training costs: the time of a step and the peak of the memory."""

import re
import statistics
import time
from collections import deque
from pathlib import Path
from typing import Any

import lightning as L
import torch

REMEMBERED = 1000
"""Steps over which the median is taken: the last ones, so that a checkpoint stays small."""

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class TrainingCost(L.Callback):
    """Measure the steps of a training, validations left out.

    The time of a step is that from the end of the step before to its own end, waiting for data
    included. In the first step of a round, which follows a validation or the start of the loaders,
    it is that of its batches alone. The state is part of the checkpoints, so that a continued
    training goes on with it.

    Attributes:
        seconds: Times of the last steps.
        peak: Most memory in a step, in bytes; 0 before the first.
    """

    def __init__(self) -> None:
        self.seconds: deque[float] = deque(maxlen=REMEMBERED)
        self.peak = 0
        self._mark: float | None = None
        self._steps = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget what came before the training, such as finding seeds."""
        self._steps = trainer.global_step
        reset_peak_memory(pl_module.device)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin a round."""
        del trainer, pl_module
        self._mark = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock in the first batch of a round."""
        del trainer, pl_module, batch, batch_idx
        if self._mark is None:
            self._mark = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the time of an optimiser step, which may have had several batches."""
        del outputs, batch, batch_idx
        if trainer.global_step == self._steps:
            return
        now = time.perf_counter()
        if self._mark is not None:
            self.seconds.append(now - self._mark)
        self._mark, self._steps = now, trainer.global_step
        self.peak = max(self.peak, peak_memory(pl_module.device))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the memory of the validation."""
        del trainer
        reset_peak_memory(pl_module.device)

    def state_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {"seconds": list(self.seconds), "peak": self.peak}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what a checkpoint has."""
        self.seconds = deque(state_dict["seconds"], maxlen=REMEMBERED)
        self.peak = state_dict["peak"]


def cost_of(callbacks: dict[str, Any]) -> dict[str, Any]:
    """The figures of a checkpoint's callbacks.

    Args:
        callbacks: States by the names of the callbacks.

    Returns:
        ``step_seconds`` (median) and ``peak_memory_bytes``; None where nothing was measured.

    Example:
        >>> cost_of({"TrainingCost": {"seconds": [1.0, 3.0, 2.0], "peak": 5}})
        {'step_seconds': 2.0, 'peak_memory_bytes': 5}
    """
    state = callbacks.get(TrainingCost.__qualname__, {"seconds": [], "peak": 0})
    seconds = state["seconds"]
    return {
        "step_seconds": statistics.median(seconds) if seconds else None,
        "peak_memory_bytes": state["peak"] or None,
    }


def peak_memory(device: torch.device) -> int:
    """Most memory since the last reset, in bytes.

    On a GPU that of torch's allocator; else the resident set of this process without those that
    load pictures, where the system tells it (Linux), and 0 where it does not.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0


def reset_peak_memory(device: torch.device) -> None:
    """Let the peak start from what is in use now, where the system allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        _CLEAR.write_text("5")  # of all that can be cleared, the peak alone: see proc(5)
    except OSError:
        return
