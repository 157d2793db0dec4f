"""The number format of `auto`."""

import pytest
import torch

from agmm.config import Accelerator
from agmm.training.hardware import resolved_precision, runs_on_gpu


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
