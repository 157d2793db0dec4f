"""``agmm train``: from labels to a run folder."""

import argparse
import contextlib
import copy
import math
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from rich.console import Console
from torch import nn

from agmm.commands.common import training_needs, usable_dataset
from agmm.commands.evaluate import score
from agmm.commands.parsing import build_parser, parse, recipe_words
from agmm.commands.runs import pick_device
from agmm.config import Checkpoint, TrainConfig, from_plain, with_full_paths
from agmm.data.dataset import dense_mask, read_supervision
from agmm.datasets.classes import Classes
from agmm.datasets.images import image_size, read_image
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Dataset, Record
from agmm.errors import ConfigError
from agmm.evaluation.calibration import Calibration
from agmm.files import write_json
from agmm.models.segmenter import Segmenter, build_segmenter
from agmm.report.figures import colorize, draw_seeds, legend, overlay, panel, sheet, write_png
from agmm.shapes import ImageArray
from agmm.training.calibrating import measured_calibration
from agmm.training.fit import fit, is_main_process, number_of_steps
from agmm.training.hardware import check_devices
from agmm.training.labelling import label_record
from agmm.training.objectives import build_objective
from agmm.training.pseudo import check_source, with_found_seeds, with_source
from agmm.training.run import (
    CALIBRATION,
    Run,
    check_run_folder,
    checkpoint_path,
    held,
    load_run,
    prepare_run_folder,
    reached_step,
)
from agmm.training.seeding import SEEDS, check_given

EXAMPLES = """
agmm train photos --labels scribbles --out runs/first
agmm train photos --labels points,blocks --complete-labels --crop 256 256 --out runs/second
agmm train photos --labels tags,boxes --encoder mobilenetv2_100 --out runs/third
agmm train photos --labels scribbles --recipe camvid --method partial-ce --out runs/baseline
agmm train photos --labels pseudo:runs/first --pseudo.threshold 0.8 --out runs/second
agmm train photos --labels scribbles --out runs/first --resume
"""

OVERLAYS = "overlays"
"""Folder of a run with its drawings."""
MOST_VALUES = 100_000_000
"""Pixels times classes of the largest picture that is drawn, for which 2.7 GB are needed."""


def train(config: TrainConfig, console: Console | None = None) -> Run:
    """Train as the config says and write the run folder.

    The folder holds the resolved config, versions, the seeds of tags and boxes or the pseudo
    labels, logs, checkpoints, and at the end the scores on the split ``val`` (where the data has
    one) and overlays of some training pictures.

    Args:
        config: Everything that decides what the training does.
        console: Where progress is shown; standard error if not given.

    Returns:
        The run with the best checkpoint's network; without validation it is the last one's.

    Raises:
        AgmmError: If config, data or weights cannot be used, or the loss is not finite.
    """
    console = console or Console(stderr=True, quiet=not is_main_process())
    check_devices(config.accelerator, config.devices)
    config = with_source(with_full_paths(config))
    check_given(config)
    if is_main_process():
        check_run_folder(config)
    dataset = _open(config, console)
    check_source(config, dataset.split("train"), dataset.classes, console)
    val_records = dataset.splits.get("val", ())
    _check_shares(config, len(val_records))
    max_steps = number_of_steps(config, len(dataset.split("train")))
    if config.resume and _is_finished(config, max_steps, validates=bool(val_records)):
        console.print(f"{config.out}: finished already", markup=False, soft_wrap=True)
        return load_run(config.out)
    k = len(dataset.classes.names)
    model = build_segmenter(
        config.decoder, config.encoder, config.encoder_weights, k, seed=config.seed
    )
    if config.batch_size == 1:
        _check_batch(model, config.crop)
    objective = build_objective(
        config.method,
        k,
        model.feature_channels,
        config.objective,
        # The objective counts batches, of which a step may have several.
        warmup_steps=round(config.warmup * max_steps * config.accumulate),
    )
    if is_main_process():
        prepare_run_folder(config, dataset.classes)
    with held(config.out) if is_main_process() else contextlib.nullcontext():
        _train(config, dataset, model, objective, console, max_steps=max_steps)
    return load_run(config.out)


def _train(
    config: TrainConfig,
    dataset: Dataset,
    model: Segmenter,
    objective: nn.Module,
    console: Console,
    *,
    max_steps: int,
) -> None:
    """Seeds, training and what comes after it, in a folder that is prepared and ours."""
    val_records, k = dataset.splits.get("val", ()), len(dataset.classes)
    train_records = with_found_seeds(
        config,
        dataset.split("train"),
        dataset.classes,
        console,
        folder=config.out / SEEDS,
        device=_device(config),
    )
    dataset = replace(dataset, splits={**dataset.splits, "train": train_records})
    console.print(
        f"{len(train_records)} training and {len(val_records)} validation pictures, {k} classes; "
        f"{config.method} on {_trained_from(config)}, {max_steps} steps; {model.weights_report}",
        markup=False,
        soft_wrap=True,
    )
    fit(config, train_records, val_records, model, objective, dataset.classes.background, console)
    if is_main_process():
        _finish(config, dataset, console)


def _check_shares(config: TrainConfig, num_val: int) -> None:
    """Make sure that no process would have nothing to validate, for which Lightning has no way."""
    processes = config.devices * config.num_nodes
    if 0 < num_val < processes:
        raise ConfigError(
            f"--devices {config.devices}: expected at most one process for each picture of val, of"
            f" which there are {num_val}, got {processes}; give fewer, or add pictures to val"
        )


@torch.no_grad()
def _check_batch(model: Segmenter, crop: tuple[int, int]) -> None:
    """Make sure that a network can train on one picture, before a run folder is made for it."""
    copy.deepcopy(model).train()(torch.zeros(1, 3, *crop))


def _device(config: TrainConfig) -> torch.device:
    """Where networks run before and after the training."""
    return pick_device("cpu" if config.accelerator == "cpu" else "auto")


def _is_finished(config: TrainConfig, max_steps: int, *, validates: bool) -> bool:
    """Whether a run has taken all its steps, and was scored and drawn after the last."""
    last = checkpoint_path(config.out, "last")
    written = last.is_file() and (not validates or (config.out / "metrics.json").is_file())
    drawn = not config.overlays or (config.out / OVERLAYS).is_dir()
    return written and drawn and reached_step(last) >= max_steps


def _trained_from(config: TrainConfig) -> str:
    source = config.pseudo.source
    return ", ".join((*config.labels, *([f"pseudo labels of {source}"] if source else [])))


def _open(config: TrainConfig, console: Console) -> Dataset:
    dataset = read_dataset(config.data, format=config.format, mapping=config.mapping)
    required = training_needs(dataset, config.labels)
    if "val" in dataset.splits and "val" not in required:
        console.print("val has no dense masks: nothing is scored", highlight=False)
        splits = {name: records for name, records in dataset.splits.items() if name != "val"}
        dataset = replace(dataset, splits=splits)
    return usable_dataset(
        dataset,
        required,
        skip_bad=config.skip_bad,
        clip_boxes=config.clip_boxes,
        console=console,
    )


def _finish(config: TrainConfig, dataset: Dataset, console: Console) -> None:
    """Scores and calibration of both checkpoints, and overlays; what a person looks at first."""
    device = str(_device(config))
    run = load_run(config.out, device=device)
    last_run = load_run(config.out, checkpoint="last", device=device)
    val = dataset.splits.get("val", ())
    if val:
        _calibrate(config, dataset, console)
        names = dataset.classes.names
        best = last = score(run, val, console)
        if last_run.step != run.step:
            last = score(last_run, val, console)
        write_json(
            config.out / "metrics.json",
            {
                "best": best.as_dict(names),
                "last": last.as_dict(names),
                "steps": last_run.step,
                "train_seconds": last_run.seconds,
                **last_run.cost,
            },
        )
        console.print(
            f"val mIoU: best checkpoint {100 * best.miou:.1f}, last {100 * last.miou:.1f}"
        )
    _draw(config, dataset, run, console)


def _draw(config: TrainConfig, dataset: Dataset, run: Run, console: Console) -> None:
    """Write the overlays, all or none: a run that has the folder counts as drawn."""
    records = dataset.split("train")
    chosen = records[:: max(1, len(records) // max(1, config.overlays))]
    folder = config.out / OVERLAYS
    unfinished = folder.with_name(f".{OVERLAYS}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for record in chosen[: config.overlays]:
        if not _fits(record, dataset.classes):
            console.print(
                f"no overlay of {record.image}: pixels times classes are more than {MOST_VALUES:,},"
                " and it would need much memory",
                markup=False,
                soft_wrap=True,
            )
            continue
        file = record.name.replace("/", "_") + ".png"
        write_png(unfinished / file, draw_overlay(run, record))
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _fits(record: Record, classes: Classes) -> bool:
    """Whether a picture is small enough to be labelled as a whole without being asked for."""
    return math.prod(image_size(record.image)) * len(classes) <= MOST_VALUES


def _calibrate(config: TrainConfig, dataset: Dataset, console: Console) -> None:
    """Write how sure the pseudo labels are of each checkpoint, if guesses helped to make them."""
    val = [record for record in dataset.split("val") if _fits(record, dataset.classes)]
    device = _device(config)
    found: dict[int, Calibration | None] = {}
    written: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for checkpoint in get_args(Checkpoint):
            run = load_run(config.out, checkpoint=checkpoint, device=str(device))
            if run.step not in found:
                found[run.step] = measured_calibration(
                    run,
                    dataset.split("train"),
                    val,
                    dataset.classes,
                    console,
                    folder=Path(folder),
                    device=device,
                )
            counts = found[run.step]
            if counts is None:
                return
            error = counts.expected_calibration_error()
            points = asdict(counts.isotonic_map())
            written[checkpoint] = {**points, "expected_calibration_error": error}
    write_json(config.out / CALIBRATION, written)
    console.print(
        f"pseudo labels: confidence calibrated on validation pictures; error before {error:.3f}"
    )


def draw_overlay(run: Run, record: Record) -> ImageArray:
    """Picture, labels, posterior, prediction and (where there is one) truth, side by side."""
    result = label_record(run, record, threshold=0.0)
    image, colors = read_image(record.image), run.classes.colors
    height, width = image.shape[:2]
    given = read_supervision(
        record,
        run.config.labels,
        (height, width),
        len(colors),
        complete=False,
        background=run.classes.background,
    )
    best, component = result.posterior.max(0)
    columns = [
        ("picture", image),
        ("labels", draw_seeds(image, given.seeds, colors)),
        ("posterior", overlay(image, component.numpy().astype(np.uint8), colors, best.numpy())),
        ("prediction", overlay(image, result.probs.argmax(0).numpy().astype(np.uint8), colors)),
        ("pseudo labels", colorize(result.mask.numpy(), colors)),
    ]
    if "dense" in record.labels:
        columns.append(("truth", colorize(dense_mask(record), colors)))
    row = panel(columns)
    return sheet([row, legend(run.classes.names, colors, width=row.shape[1])])


def main(name: str, arguments: Sequence[str]) -> None:
    """Run the command with the words of its command line."""
    parser = build_parser(name, TrainConfig, EXAMPLES)
    parser.add_argument("--recipe", help="name of a recipe, or a YAML file: defaults for the rest")
    words = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    words.add_argument("--recipe")
    recipe = None
    with contextlib.suppress(argparse.ArgumentError):  # the parser itself will tell
        recipe = words.parse_known_args(list(arguments))[0].recipe
    first = recipe_words(recipe) if recipe else []
    values: dict[str, Any] = parse(parser, [*first, *arguments])
    if values.pop("recipe") != recipe:
        raise ConfigError("recipe: a config file cannot name one; give --recipe to the command")
    console = Console(stderr=True, quiet=not is_main_process())
    run = train(from_plain(values), console)
    folder, data = shlex.quote(str(run.path)), shlex.quote(str(run.config.data))
    if (run.path / "metrics.json").is_file():  # else there is nothing to score on
        console.print(f"agmm evaluate {folder} {data}", markup=False, soft_wrap=True)
    console.print(f"agmm predict {folder} PICTURES --out masks", markup=False, soft_wrap=True)
