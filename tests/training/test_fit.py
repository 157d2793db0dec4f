"""Whole small trainings: run folder, determinism, continuing, failing."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from agmm.commands.train import train
from agmm.config import METHODS, TrainConfig, from_plain
from agmm.errors import ConfigError, NonFiniteLossError
from agmm.evaluation.confusion import Scores, scores
from agmm.models.segmenter import Segmenter, SegmenterOutput
from agmm.training import task
from agmm.training.checkpoints import WholeCheckpoints
from agmm.training.fit import number_of_steps
from agmm.training.run import checkpoint_path, load_run

MakeConfig = Callable[..., TrainConfig]


def saved_state(run: Path, name: str = "last") -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(checkpoint_path(run, name), weights_only=True)[
        "state_dict"
    ]
    return state


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = saved_state(a), saved_state(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_run_folder_is_complete_in_itself(tiny_run: Path) -> None:
    config = from_plain(yaml.safe_load((tiny_run / "config.yaml").read_text()))
    assert config.out == tiny_run
    environment = json.loads((tiny_run / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert {"git_revision", "python", "platform", "cpu", "cpu_threads"} <= environment.keys()
    metrics = json.loads((tiny_run / "metrics.json").read_text())
    assert 0 <= metrics["best"]["miou"] <= 1
    assert metrics["best"]["iou"].keys() == {"sky", "wall", "road"}
    assert len(list((tiny_run / "overlays").glob("*.png"))) == 1
    assert (tiny_run / "classes.txt").read_text().startswith("sky #145af0\n")
    assert list((tiny_run / "logs" / "tensorboard").rglob("events.*"))
    (log,) = (tiny_run / "logs" / "csv").rglob("metrics.csv")
    columns = log.read_text().splitlines()[0].split(",")
    assert {"train/loss", "train/mutual", "val/miou"} <= set(columns)


def test_no_temporary_file_is_left(tiny_run: Path) -> None:
    assert [p for p in tiny_run.rglob("*") if p.name.startswith(".")] == [tiny_run / ".lock"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_can_be_loaded(
    method: str, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    labels = ("dense",) if method == "dense" else ("points", "scribbles")
    config = tiny_config(tmp_path / "run", method=method, labels=labels, overlays=0)
    run = train(config)
    assert run.step in (1, 2)
    assert all(torch.isfinite(p).all() for p in run.model.parameters())


def test_the_same_seed_gives_the_same_weights(
    tiny_run: Path, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    torch.manual_seed(123)  # whatever was drawn before must not matter
    train(tiny_config(tmp_path / "again", workers=1))
    assert_same_weights(tiny_run, tmp_path / "again")


def test_another_seed_gives_other_weights(
    tiny_run: Path, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    train(tiny_config(tmp_path / "other", seed=1, overlays=0))
    first, second = saved_state(tiny_run), saved_state(tmp_path / "other")
    assert any(not torch.equal(first[name], second[name]) for name in first)


def command(config: TrainConfig, *more: str) -> list[str]:
    options = [
        "--labels", ",".join(config.labels), "--complete-labels", "--encoder", config.encoder,
        "--encoder-weights", "none", "--decoder", "fpn", "--scale", "0.75", "1.25",
        "--crop", "32", "32", "--batch-size", "2", "--max-steps", str(config.max_steps),
        "--val-every", str(config.val_every), "--workers", "0", "--overlays", "0",
        "--accelerator", "cpu", "--method", config.method,
    ]  # fmt: skip
    head = [sys.executable, "-m", "agmm.cli", "train", str(config.data), "--out", str(config.out)]
    return [*head, *options, *more]


@pytest.mark.parametrize("method", ["agmm", "ema-teacher"])
def test_a_killed_run_ends_like_one_that_was_not(
    method: str, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"method": method, "max_steps": 20, "val_every": 3, "overlays": 0}
    whole, killed = (tiny_config(tmp_path / name, **options) for name in ("whole", "killed"))
    train(whole)
    process = subprocess.Popen(command(killed), stderr=subprocess.DEVNULL)
    last = checkpoint_path(killed.out, "last")
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    stopped_at = torch.load(last, weights_only=True)["global_step"]
    assert 3 <= stopped_at < 20
    train(tiny_config(killed.out, **options, resume=True))
    assert_same_weights(whole.out, killed.out)
    assert torch.load(last, weights_only=True)["global_step"] == 20


@pytest.mark.parametrize(
    ("number", "code", "told"), [(signal.SIGINT, 130, "stopped"), (signal.SIGTERM, 143, "")]
)
def test_a_signal_ends_a_training_with_its_exit_code(
    number: signal.Signals, code: int, told: str, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    """A job script must not take a training that was stopped for one that is done."""
    config = tiny_config(tmp_path / "run", method="partial-ce", max_steps=10_000, val_every=3)
    # A shell that starts the tests in the background lets them ignore Ctrl-C, and their children.
    listening = (
        "import signal, sys; from agmm.cli import main;"
        " signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", listening, *command(config)[3:]]
    last = checkpoint_path(config.out, "last")
    deadline = time.monotonic() + 600
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        while not last.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        try:
            errors = process.communicate(timeout=120)[1]
        finally:
            process.kill()
    assert process.returncode == code, errors
    assert f"agmm train: {told}\n" in errors or not told
    assert "Traceback" not in errors


@pytest.mark.parametrize("moved", [False, True])
def test_the_best_checkpoint_outlives_a_kill_and_a_move(
    moved: bool, tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A continued run knows the score of its best checkpoint, so that no worse one replaces it."""
    ahead = iter((0.5, 0.9, None, 0.7))

    def scripted(counts: Tensor) -> Scores:
        if (miou := next(ahead)) is None:
            raise MemoryError
        return replace(scores(counts), miou=miou)

    monkeypatch.setattr(task, "scores", scripted)
    options = {"method": "partial-ce", "max_steps": 3, "overlays": 0}
    out = tmp_path / "run"
    with pytest.raises(MemoryError):
        train(tiny_config(out, **options))
    if moved:
        out = out.rename(tmp_path / "moved")

    train(tiny_config(out, **options, resume=True))

    assert load_run(out, checkpoint="best").step == 2
    assert load_run(out, checkpoint="last").step == 3


def test_a_checkpoint_is_written_beside_the_one_that_it_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the folder of temporary files: moving from there to another disk is a copy."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    file = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"global_step": 1}, file)

    def write_a_part(path: Path, data: bytes) -> None:
        with path.open("wb") as opened:
            opened.write(data[:9])
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_bytes", write_a_part)
    with pytest.raises(OSError, match="full"):
        WholeCheckpoints().save_checkpoint({"global_step": 2}, file)

    assert torch.load(file, weights_only=True) == {"global_step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_finished_run_is_left_as_it_is_by_resume(tiny_config: MakeConfig, tmp_path: Path) -> None:
    train(tiny_config(tmp_path / "run", overlays=0))
    before = saved_state(tmp_path / "run")
    run = train(tiny_config(tmp_path / "run", overlays=0, resume=True))
    after = saved_state(run.path)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_resume_starts_where_there_is_no_checkpoint_yet(
    tiny_run: Path, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    train(tiny_config(tmp_path / "fresh", resume=True))
    assert_same_weights(tiny_run, tmp_path / "fresh")


def test_a_run_is_not_overwritten(tiny_run: Path, tiny_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="holds a run already"):
        train(tiny_config(tiny_run))


def test_other_files_are_not_mixed_with_a_run(tiny_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty and no run"):
        train(tiny_config(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_resume_refuses_other_options(tiny_run: Path, tiny_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"started with lr: 0\.001, got 0\.5"):
        train(tiny_config(tiny_run, resume=True, lr=0.5))


@pytest.mark.parametrize(
    "lines", ["sky\nroad\nwall\n", "sky\nwall\nroad\nsea\n"], ids=["order", "number"]
)
def test_resume_refuses_other_classes(
    lines: str, tiny_run: Path, tiny_data: Path, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "run/metrics.json").unlink()  # stopped before its scores
    shutil.copytree(tiny_data, tmp_path / "data")
    (tmp_path / "data/classes.txt").write_text(lines)

    with pytest.raises(ConfigError, match=r"but .*run/classes\.txt sky, wall, road; continue"):
        train(tiny_config(tmp_path / "run", data=tmp_path / "data", resume=True))


def test_resume_refuses_another_number_of_pictures_where_it_decides_the_steps(
    tiny_data: Path, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    """The learning rate would be 0 in the steps that were not planned."""
    shutil.copytree(tiny_data, tmp_path / "data")
    options: dict[str, Any] = {
        "data": tmp_path / "data", "epochs": 1, "max_steps": None, "overlays": 0,
        "method": "partial-ce",
    }  # fmt: skip
    train(tiny_config(tmp_path / "run", **options))
    for folder in ("images/train", "masks/train", "scribbles"):
        for name in "ab":
            source = tmp_path / f"data/{folder}/{name}.png"
            shutil.copy(source, source.with_stem(f"more_{name}"))

    told = "started for 2 steps, but options and pictures that are there now make 3; continue"
    with pytest.raises(ConfigError, match=told):
        train(tiny_config(tmp_path / "run", **options, resume=True))


def test_a_loss_that_is_not_finite_stops_and_names_term_and_step(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that breaks after one step: the first checkpoint stays as it was."""
    forward = Segmenter.forward
    steps = iter(range(1000))

    def breaking(self: Segmenter, images: Tensor) -> SegmenterOutput:
        output = forward(self, images)
        broken = self.training and next(steps) >= 1
        return output._replace(logits=output.logits * float("nan")) if broken else output

    monkeypatch.setattr(Segmenter, "forward", breaking)
    with pytest.raises(NonFiniteLossError, match=r"step 1: .*partial_cross_entropy = nan"):
        train(tiny_config(tmp_path / "run", method="partial-ce"))
    state = saved_state(tmp_path / "run")
    assert all(torch.isfinite(v).all() for v in state.values())


def test_without_a_validation_split_the_last_weights_are_taken(
    tiny_data: Path, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    shutil.rmtree(data / "images" / "val")
    shutil.rmtree(data / "masks" / "val")
    run = train(tiny_config(tmp_path / "run", data=data))
    assert run.step == 2
    assert not (run.path / "metrics.json").exists()


def test_epochs_become_steps(tiny_config: MakeConfig, tmp_path: Path) -> None:
    config = tiny_config(tmp_path, max_steps=None, epochs=3, batch_size=4, accumulate=2, devices=2)
    assert number_of_steps(config, num_pictures=100) == 19  # 300 pictures, 16 per step
    assert number_of_steps(tiny_config(tmp_path, max_steps=7, epochs=3), num_pictures=100) == 7


def test_two_processes_are_one_run(tiny_config: MakeConfig, tmp_path: Path) -> None:
    """Data-parallel on the CPU: one folder, every rank at the same step, validation over all."""
    config = tiny_config(tmp_path / "run", overlays=0)
    done = subprocess.run(
        command(config, "--devices", "2"), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    run = load_run(config.out, checkpoint="last")
    assert run.config.devices == 2
    assert run.step == config.max_steps
    with next((config.out / "logs" / "csv").glob("*/metrics.csv")).open() as file:
        rows = list(csv.DictReader(file))
    # What the processes counted together is what one counts over all pictures afterwards.
    counted = [float(row["val/miou"]) for row in rows if row["val/miou"]]
    alone = json.loads((config.out / "metrics.json").read_text())["last"]["miou"]
    assert counted[-1] == pytest.approx(alone, abs=1e-6)
