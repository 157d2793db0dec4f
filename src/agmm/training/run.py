"""The run folder: everything about one training, complete in itself."""

import contextlib
import pickle
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from torch import nn

from agmm.config import TrainConfig, as_plain, read_config
from agmm.datasets.classes import Classes, read_classes
from agmm.datasets.mapping import read_mapping
from agmm.datasets.text import read_json, read_text
from agmm.errors import ConfigError, DataError, InputError, WeightsError
from agmm.evaluation.calibration import CalibrationMap
from agmm.files import write_json, write_text
from agmm.models.segmenter import Segmenter, build_segmenter
from agmm.training.cost import cost_of
from agmm.training.hardware import cpu_name
from agmm.training.objectives import build_objective

PACKAGES = (
    "agmm", "torch", "torchvision", "lightning", "timm", "segmentation-models-pytorch",
    "torchmetrics", "numpy", "pillow",
)  # fmt: skip
# What may differ when a run is continued: it decides where and how fast, not what.
FREE_TO_CHANGE = {
    "resume",
    "out",
    "data",
    "workers",
    "accelerator",
    "overlays",
    "skip_bad",
    "mapping",
}
LOCK_SECONDS = 15.0
"""How long to wait for a folder: loading processes look every 5 s whether their training lives."""
MAPPING = "mapping.yaml"
"""The run's copy of its mapping of classes, so that no other file has to stay where it is."""
CALIBRATION = "calibration.json"
"""How sure the pseudo labels of a run are, for each of its checkpoints."""


@dataclass(frozen=True)
class Run:
    """A trained run, ready to predict.

    Args:
        path: The run folder.
        config: What it was trained with.
        classes: Names and colours of the classes.
        model: The network with the averaged weights of the checkpoint, in eval mode.
        objective: The objective with its statistics, in eval mode.
        step: Optimiser steps that the checkpoint has seen.
        seconds: Time that they took, validations included, over all parts of a continued run.
        cost: Time and memory of a step, as :func:`agmm.training.cost.cost_of` gives them.
        calibration: How sure the pseudo labels of pictures with guesses are, by their confidence;
            None if that was not measured.
    """

    path: Path
    config: TrainConfig
    classes: Classes
    model: Segmenter
    objective: nn.Module
    step: int
    seconds: float
    cost: dict[str, Any]
    calibration: CalibrationMap | None


def load_run(path: Path | str, *, checkpoint: str = "best", device: str = "cpu") -> Run:
    """Load a run folder; nothing but tensors and plain values is ever unpickled.

    Args:
        path: A folder that ``agmm train`` has written.
        checkpoint: ``best`` (highest validation mIoU; the last one of a training without
            validation) or ``last``.
        device: Where to put network and objective.

    Returns:
        The run with its network and objective.

    Raises:
        WeightsError: If the folder holds no such checkpoint, or one that does not fit its config.
        DataError: If its calibration cannot be read.
    """
    path = Path(path)
    if not (path / "config.yaml").is_file():
        raise WeightsError(f"{path}: no run folder (no config.yaml in it); give the --out of train")
    file = checkpoint_path(path, checkpoint)
    if checkpoint == "best" and not file.is_file():
        file = checkpoint_path(path, "last")
    if not file.is_file():
        raise WeightsError(f"{file}: no such checkpoint; the training has not reached one yet")
    config = read_config(path / "config.yaml")
    classes = read_classes(path / "classes.txt")
    saved = _read_checkpoint(file)
    state = saved["state_dict"]
    model = build_segmenter(config.decoder, config.encoder, "none", len(classes.names))
    objective = build_objective(
        config.method, len(classes.names), model.feature_channels, config.objective
    )
    try:
        model.load_state_dict(_below(state, "averaged.module."))
        objective.load_state_dict(_below(state, "objective."))
    except RuntimeError as error:
        raise WeightsError(f"{file}: does not fit {path / 'config.yaml'}: {error}") from error
    return Run(
        path,
        config,
        classes,
        model.to(device).eval(),
        objective.to(device).eval(),
        step=saved["global_step"],
        seconds=saved["callbacks"]["Timer"]["time_elapsed"]["train"],
        cost=cost_of(saved["callbacks"]),
        calibration=_read_calibration(path / CALIBRATION, file.stem),
    )


def _read_calibration(file: Path, checkpoint: str) -> CalibrationMap | None:
    if not file.is_file():
        return None
    content: Any = read_json(file)
    try:
        points = content[checkpoint]
        return CalibrationMap(tuple(points["confidence"]), tuple(points["accuracy"]))
    except (LookupError, TypeError, ValueError, InputError) as error:
        raise DataError(
            f"{file}: no calibration of the checkpoint {checkpoint} ({error}). Copy the run folder"
            " again, or remove this file: the confidence then stays as it is."
        ) from error


def checkpoint_path(path: Path, name: str) -> Path:
    """The file of the checkpoint ``best`` or ``last`` of a run folder."""
    return path / "checkpoints" / f"{name}.ckpt"


def reached_step(file: Path) -> int:
    """Optimiser steps that a checkpoint has seen.

    Raises:
        WeightsError: If it is no checkpoint that can be loaded safely.
    """
    return steps_taken_and_planned(file)[0]


def steps_taken_and_planned(file: Path) -> tuple[int, int]:
    """Optimiser steps that a checkpoint has seen, and that its training is to take.

    Raises:
        WeightsError: If it is no checkpoint that can be loaded safely.
    """
    saved = _read_checkpoint(file)
    return saved["global_step"], saved["lr_schedulers"][0]["total_iters"]


def _read_checkpoint(file: Path) -> dict[str, Any]:
    try:
        saved: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for a file that is no checkpoint
        # To that one torch adds how to load it all the same, which would run what is in it.
        refused = isinstance(error, pickle.UnpicklingError)
        reason = "more is in it than tensors and plain values" if refused else error
        raise WeightsError(
            f"{file}: not a checkpoint that can be loaded safely ({reason}); "
            "copy the run folder again, or take the other of best and last"
        ) from error
    found = set(saved) if isinstance(saved, dict) else set()
    if missing := {"state_dict", "global_step", "callbacks", "lr_schedulers"} - found:
        raise WeightsError(
            f"{file}: no {', '.join(sorted(missing))} in it; not written by agmm train"
        )
    state: dict[str, Any] = saved
    return state


def _below(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def check_run_folder(config: TrainConfig) -> None:
    """Make sure that ``config.out`` is new, or the run to continue is the same.

    Raises:
        ConfigError: If the folder holds a run and ``resume`` is off, the run to continue was
            started with other options, or there is something else.
    """
    stored = config.out / "config.yaml"
    if stored.is_file():
        if not config.resume:
            raise ConfigError(
                f"--out {config.out}: holds a run already; "
                "give --resume to continue it, or another folder"
            )
        _check_same(config, read_config(stored))
    elif config.out.exists() and not (config.out.is_dir() and not any(config.out.iterdir())):
        raise ConfigError(f"--out {config.out}: not empty and no run; give a new or empty folder")


def prepare_run_folder(config: TrainConfig, classes: Classes) -> None:
    """Write config, classes and versions, or make sure that a run to continue is the same.

    Raises:
        ConfigError: As `check_run_folder`, or the run to continue has other classes.
    """
    check_run_folder(config)
    stored = config.out / "config.yaml"
    if stored.is_file():
        _check_classes(config, classes)
        return
    lines = (
        f"{name} #{r:02x}{g:02x}{b:02x}\n"
        for name, (r, g, b) in zip(classes.names, classes.colors, strict=True)
    )
    write_text(config.out / "classes.txt", "".join(lines))
    write_json(config.out / "environment.json", environment())
    if config.mapping is not None:
        write_text(config.out / MAPPING, read_text(config.mapping))
    write_text(stored, yaml.safe_dump(as_plain(config), sort_keys=False))


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a run folder, as they would write into the same files.

    Where a training was killed, its loading processes hold the folder for some seconds more. On a
    file system without locks nothing is held.

    Args:
        folder: The run folder, which is there.

    Yields:
        Once the folder is ours.

    Raises:
        ConfigError: If another training holds it.
    """
    lock = FileLock(folder / ".lock", timeout=LOCK_SECONDS)
    try:
        with contextlib.suppress(NotImplementedError):
            lock.acquire()
    except Timeout as error:
        raise ConfigError(
            f"--out {folder}: another training is writing to it; wait until it has ended, or give"
            " another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _check_same(config: TrainConfig, stored: TrainConfig) -> None:
    now, then = as_plain(config), as_plain(stored)
    changed = [k for k in now if k not in FREE_TO_CHANGE and now[k] != then[k]]
    if changed:
        name = changed[0]
        raise ConfigError(
            f"--resume: {config.out} was started with {name}: {then[name]}, got {now[name]}; "
            "continue with the same options, or start a new run in another --out"
        )
    kept = config.out / MAPPING
    if _mapping(config.mapping) != _mapping(kept if kept.is_file() else None):
        raise ConfigError(
            f"--mapping {config.mapping}: says something else than {kept}, which the run was"
            " started with; continue with the same mapping, or start a new run in another --out"
        )


def _check_classes(config: TrainConfig, classes: Classes) -> None:
    kept = config.out / "classes.txt"
    names = read_classes(kept).names
    if names != classes.names:
        raise ConfigError(
            f"--resume: {config.data} has the classes {', '.join(classes.names)}, but {kept}"
            f" {', '.join(names)}; continue with the same classes, or start a new run in another"
            " --out"
        )


def _mapping(path: Path | None) -> dict[str, str | None] | None:
    return None if path is None else read_mapping(path)


def environment() -> dict[str, Any]:
    """Versions, platform and the source's git revision (null outside a checkout)."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in PACKAGES}
        | {"torch": torch.__version__},  # with the CUDA build
        "git_revision": _git_revision(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cpu": cpu_name(),
        "cpu_threads": torch.get_num_threads(),
    }


def _git_revision() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],  # noqa: S607 - whichever git there is
            cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
