"""What the training runs on, and the number format that is fast there."""

import platform
import re
from pathlib import Path
from typing import Literal

import torch

from agmm.config import Accelerator, Precision
from agmm.errors import ConfigError


def runs_on_gpu(accelerator: Accelerator) -> bool:
    """Whether a training with this setting uses a GPU of this machine.

    Example:
        >>> runs_on_gpu("cpu")
        False
    """
    return accelerator != "cpu" and torch.cuda.is_available()


def number_of_gpus() -> int:
    """GPUs of this machine that torch can use.

    Example:
        >>> number_of_gpus() >= 0
        True
    """
    return torch.cuda.device_count() or int(torch.backends.mps.is_available())


def check_devices(accelerator: Accelerator, devices: int) -> None:
    """Make sure that this machine has the devices that a training asks for.

    A CPU serves as any number of them.

    Raises:
        ConfigError: If it has no GPU, or fewer than asked for.
    """
    there = 0 if accelerator == "cpu" else number_of_gpus()
    if accelerator == "gpu" and not there:
        raise ConfigError(
            "--accelerator gpu: torch finds no GPU here; give auto or cpu, or install a torch that"
            " fits the GPU's driver"
        )
    if 0 < there < devices:
        raise ConfigError(
            f"--devices {devices}: expected at most the {there} that torch finds here; give fewer,"
            " or --accelerator cpu"
        )


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
