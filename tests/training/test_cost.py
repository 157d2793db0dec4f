"""What a training is said to cost."""

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from agmm.commands.train import train
from agmm.config import TrainConfig
from agmm.training import cost
from agmm.training.cost import REMEMBERED, TrainingCost, cost_of, peak_memory, reset_peak_memory
from agmm.training.run import checkpoint_path

MakeConfig = Callable[..., TrainConfig]
CPU = torch.device("cpu")
BATCH: Any = None


def play(measured: TrainingCost, rounds: list[list[int]], first: int = 0) -> None:
    """A training without Lightning: for each batch of each round the step that it completes."""
    trainer: Any = SimpleNamespace(global_step=first)
    model: Any = SimpleNamespace(device=CPU)
    measured.on_train_start(trainer, model)
    for steps in rounds:
        measured.on_train_epoch_start(trainer, model)
        for index, step in enumerate(steps):
            measured.on_train_batch_start(trainer, model, BATCH, index)
            trainer.global_step = step
            measured.on_train_batch_end(trainer, model, BATCH, BATCH, index)
        measured.on_validation_end(trainer, model)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, without_type_checks: None) -> None:
    """Every look at the clock is a second later than the one before."""
    del without_type_checks  # stand-ins for trainer and model
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))


@pytest.mark.usefixtures("clock")
def test_every_step_is_timed_once_and_rounds_do_not_run_into_one_another() -> None:
    """The clock is looked at once per round to start it, and once per step."""
    measured = TrainingCost()

    play(measured, [[1, 2, 3], [4], [5, 6]])

    assert list(measured.seconds) == [1.0] * 6


@pytest.mark.usefixtures("clock")
def test_a_step_of_several_batches_is_one_step() -> None:
    measured = TrainingCost()

    play(measured, [[0, 1, 1, 2]])

    assert list(measured.seconds) == [1.0, 1.0]


@pytest.mark.usefixtures("clock")
def test_a_continued_training_adds_to_what_the_checkpoint_has() -> None:
    before, after = TrainingCost(), TrainingCost()
    play(before, [[1, 2]])
    before.peak = 10**15

    after.load_state_dict(before.state_dict())
    play(after, [[3]], first=2)

    assert list(after.seconds) == [1.0] * 3
    assert after.peak == 10**15


def test_only_the_last_steps_are_kept() -> None:
    measured = TrainingCost()
    measured.load_state_dict({"seconds": [float(i) for i in range(2 * REMEMBERED)], "peak": 1})

    assert len(measured.state_dict()["seconds"]) == REMEMBERED
    assert measured.seconds[0] == REMEMBERED


def test_nothing_measured_is_null() -> None:
    expected = {"step_seconds": None, "peak_memory_bytes": None}
    assert cost_of({}) == expected
    assert cost_of({"TrainingCost": TrainingCost().state_dict()}) == expected


def test_the_peak_is_that_since_the_reset() -> None:
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    if not before:
        pytest.skip("the system does not tell")
    block = torch.ones(50 * 2**20)  # 200 MiB, touched

    with_block = peak_memory(CPU)
    del block
    reset_peak_memory(CPU)

    assert with_block >= before + 150 * 2**20
    assert peak_memory(CPU) <= with_block - 150 * 2**20


def test_a_system_that_does_not_tell_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cost, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(cost, "_CLEAR", tmp_path / "none" / "none")

    reset_peak_memory(CPU)

    assert peak_memory(CPU) == 0


def test_a_training_tells_its_cost(tiny_run: Path) -> None:
    metrics = json.loads((tiny_run / "metrics.json").read_text())
    saved = torch.load(checkpoint_path(tiny_run, "last"), weights_only=True)
    state = saved["callbacks"]["TrainingCost"]

    assert len(state["seconds"]) == 2
    assert metrics["step_seconds"] == pytest.approx(sum(state["seconds"]) / 2)
    assert 0 < metrics["step_seconds"] < metrics["train_seconds"]
    assert metrics["peak_memory_bytes"] == state["peak"] > 2**20


def test_a_continued_run_has_all_its_steps(tiny_config: MakeConfig, tmp_path: Path) -> None:
    """Two steps, then the rest of four: as if the first half had been stopped."""
    options: dict[str, Any] = {"overlays": 0, "method": "partial-ce"}
    train(tiny_config(tmp_path / "run", **options))
    stored = tmp_path / "run" / "config.yaml"
    stored.write_text(stored.read_text().replace("max_steps: 2", "max_steps: 4"))
    last = checkpoint_path(tmp_path / "run", "last")
    stopped = torch.load(last, weights_only=True)
    stopped["lr_schedulers"][0]["total_iters"] = 4
    torch.save(stopped, last)
    train(tiny_config(tmp_path / "run", **options, max_steps=4, resume=True))

    saved = torch.load(last, weights_only=True)
    assert len(saved["callbacks"]["TrainingCost"]["seconds"]) == 4
