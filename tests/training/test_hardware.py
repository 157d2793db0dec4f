"""The number format of `auto`, and devices that are not there."""

import pytest
import torch

from agmm.config import Accelerator
from agmm.errors import ConfigError
from agmm.training.hardware import check_devices, resolved_precision, runs_on_gpu


@pytest.mark.parametrize(
    ("gpu", "native", "accelerator", "expected"),
    [
        (True, True, "auto", "bf16-mixed"),
        (True, True, "gpu", "bf16-mixed"),
        (True, False, "auto", "32-true"),
        (True, True, "cpu", "32-true"),
        (False, False, "auto", "32-true"),
    ],
)
def test_auto_takes_bf16_on_a_gpu_that_has_it_only(
    monkeypatch: pytest.MonkeyPatch,
    gpu: bool,
    native: bool,
    accelerator: Accelerator,
    expected: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: native)

    assert resolved_precision("auto", accelerator) == expected
    assert resolved_precision("16-mixed", accelerator) == "16-mixed"
    assert runs_on_gpu(accelerator) == (gpu and accelerator != "cpu")


@pytest.mark.parametrize(
    ("gpus", "accelerator", "devices", "told"),
    [
        (0, "gpu", 1, r"^--accelerator gpu: torch finds no GPU here; give auto or cpu"),
        (1, "gpu", 2, r"^--devices 2: expected at most the 1 .* give fewer, or --accelerator cpu"),
        (3, "auto", 4, r"^--devices 4: expected at most the 3 "),
    ],
)
def test_devices_that_are_not_there_are_refused(
    monkeypatch: pytest.MonkeyPatch, gpus: int, accelerator: Accelerator, devices: int, told: str
) -> None:
    monkeypatch.setattr("agmm.training.hardware.number_of_gpus", lambda: gpus)

    with pytest.raises(ConfigError, match=told):
        check_devices(accelerator, devices)


def taken(accelerator: Accelerator, devices: int) -> bool:
    """Whether a training may ask for so many devices."""
    try:
        check_devices(accelerator, devices)
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize(
    ("gpus", "accelerator", "most"),
    [(2, "gpu", 2), (4, "auto", 4), (1, "gpu", 1), (0, "gpu", 0), (0, "auto", 9), (1, "cpu", 9)],
)
def test_devices_are_taken_up_to_those_that_are_there(
    monkeypatch: pytest.MonkeyPatch, gpus: int, accelerator: Accelerator, most: int
) -> None:
    """A CPU serves as any number of them; 9 is the most that is tried."""
    monkeypatch.setattr("agmm.training.hardware.number_of_gpus", lambda: gpus)

    assert [n for n in range(1, 10) if taken(accelerator, n)] == [*range(1, most + 1)]
