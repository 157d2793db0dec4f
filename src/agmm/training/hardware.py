"""What the training runs on, and the number format that is fast there."""

import platform
import re
from pathlib import Path
from typing import Literal

import torch

from agmm.config import Accelerator, Precision


def runs_on_gpu(accelerator: Accelerator) -> bool:
    """Whether a training with this setting uses a GPU of this machine.

    Example:
        >>> runs_on_gpu("cpu")
        False
    """
    return accelerator != "cpu" and torch.cuda.is_available()


def resolved_precision(
    precision: Precision, accelerator: Accelerator
) -> Literal["32-true", "16-mixed", "bf16-mixed"]:
    """Make a number format of ``auto``.

    A GPU that multiplies bf16 itself takes bf16-mixed. All others take 32-true, CPUs among them:
    one without bf16 instructions was measured to need ten times as long with bf16.

    Example:
        >>> resolved_precision("auto", "cpu"), resolved_precision("bf16-mixed", "cpu")
        ('32-true', 'bf16-mixed')
    """
    if precision != "auto":
        return precision
    native = runs_on_gpu(accelerator) and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if native else "32-true"


def cpu_name() -> str:
    """The processor as the system calls it, e.g. for a table of times.

    Example:
        >>> cpu_name() != ""
        True
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()
