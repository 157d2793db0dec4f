"""The pseudo labels of a first run as guesses that a second network is trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from agmm.config import TrainConfig
from agmm.datasets.classes import Classes
from agmm.datasets.images import opened_image
from agmm.datasets.records import Record
from agmm.errors import ConfigError, DataError
from agmm.labels.annotations import Annotation
from agmm.labels.forms import Form
from agmm.progress import progress_bar
from agmm.seeds.reading import read_seeds
from agmm.seeds.store import Make, Seeds, are_of_picture, make_seeds, seed_file
from agmm.shapes import IGNORE_INDEX, ImageArray, MaskArray
from agmm.training.classify import load_classifier
from agmm.training.labelling import ABOUT, label_image
from agmm.training.run import MAPPING, Run, checkpoint_path, load_run, steps_taken_and_planned
from agmm.training.seeding import (
    CLASSIFIER,
    SEEDS,
    Classify,
    guessing,
    weights_digest,
    with_seeds,
)
from agmm.training.source import about_source, is_run

PSEUDO, FIRST = "pseudo", "first"
"""Folders below the seeds of a run: pseudo labels, and the seeds that the first run starts from."""


def with_source(config: TrainConfig) -> TrainConfig:
    """Give a training on pseudo labels the annotator's labels that they were made from.

    Args:
        config: A training's config.

    Returns:
        The same, with the forms of label of ``pseudo.source`` where it names none itself, and with
        ``complete_labels`` where they were complete there; as it is without such a source.

    Raises:
        ConfigError: The source is neither a run nor a folder of pseudo labels, or the folder does
            not say which labels it was made from and neither does the config.
    """
    source = config.pseudo.source
    if source is None:
        return config
    about = about_source(source)
    labels = config.labels or about.labels
    if not labels:
        raise ConfigError(
            f"--labels pseudo:{source}: does not say which labels it was made from (no {ABOUT});"
            f" name them too, as in --labels scribbles,pseudo:{source}"
        )
    return replace(config, labels=labels, complete_labels=config.complete_labels or about.complete)


def check_source(
    config: TrainConfig, records: Sequence[Record], classes: Classes, console: Console
) -> None:
    """Make sure that the pseudo labels can be made or read, before anything is written.

    Args:
        config: The training's config.
        records: The training records.
        classes: The data set's classes.
        console: Where progress is shown.

    Raises:
        ConfigError: The source has other classes.
        DataError: A picture without a pseudo label, or one that cannot be read or has another size.
        WeightsError: A run that cannot be loaded.
    """
    source = config.pseudo.source
    if source is None:
        return
    names = about_source(source).classes
    if names is not None and names != classes.names:
        mapping = source / MAPPING
        told = f", or --mapping {mapping}" if mapping.is_file() else ""
        raise ConfigError(
            f"--labels pseudo:{source}: has the classes {', '.join(names)}, but the data set"
            f" {', '.join(classes.names)}; give a data set with the same classes{told}"
        )
    if is_run(source):
        load_run(source, checkpoint=config.pseudo.checkpoint)
        _warn_if_unfinished(source, console)
        return
    ready = _with_given(config, source, records, classes)
    with progress_bar("reading the pseudo labels", console) as progress:
        for done, record in enumerate(ready, start=1):
            for guess in record.guesses:
                guess()
            progress(done, len(ready))


def _warn_if_unfinished(source: Path, console: Console) -> None:
    last = checkpoint_path(source, "last")
    if not last.is_file():
        return
    taken, planned = steps_taken_and_planned(last)
    if taken < planned:
        console.print(
            f"warning: {source} has taken {taken} of its {planned} steps; its pseudo labels are"
            " those of an unfinished training",
            markup=False,
            soft_wrap=True,
        )


def with_seeds_of(
    run: Run,
    records: Sequence[Record],
    classes: Classes,
    console: Console,
    *,
    folder: Path,
    device: torch.device | str,
) -> tuple[Record, ...]:
    """Give records the guesses that a run was trained from: its own, or made as it made them.

    Args:
        run: The run.
        records: Records with labels of its forms.
        classes: The data set's classes.
        console: Where progress is shown.
        folder: Where the guesses are copied to, or made.
        device: Where networks run.

    Returns:
        The same records, with ``guesses`` where their labels leave something open.

    Raises:
        AgmmError: Pseudo labels or seeds that cannot be read or made.
    """
    return with_found_seeds(
        run.config,
        records,
        classes,
        console,
        folder=folder,
        device=device,
        classify=lambda _: load_classifier(run.path / CLASSIFIER),
        earlier=run.path / SEEDS,
    )


def with_found_seeds(
    config: TrainConfig,
    records: Sequence[Record],
    classes: Classes,
    console: Console,
    *,
    folder: Path,
    device: torch.device | str,
    classify: Classify | None = None,
    earlier: Path | None = None,
) -> tuple[Record, ...]:
    """Give records the guesses that the config asks for: pseudo labels, else seeds.

    With ``config.pseudo.source`` the guesses are pseudo labels. Those of a run are made with the
    labels, and the seeds, that it was trained from: ``folder/pseudo/NAME.png``, unless they are
    there already; its own seeds are copied to ``folder/first``. A stage that was stopped goes on
    where it was. Where the source is gone, those of ``earlier`` are taken, if they are of the same
    pictures. Pictures whose dense mask is trained from need none. Without a source, see
    `agmm.training.seeding.with_seeds`, which also explains the arguments.

    Returns:
        The same records, with ``guesses`` where their labels leave something open.

    Raises:
        AgmmError: Pseudo labels or seeds that cannot be read or made.
    """
    source = config.pseudo.source
    if source is None:
        return with_seeds(
            config,
            records,
            classes,
            console,
            folder=folder,
            device=device,
            classify=classify,
            earlier=earlier,
        )
    if earlier is not None and not (is_run(source) or (source / "masks").is_dir()):
        _check_kept(config, source, earlier / PSEUDO, records)
        return _guessing_all(config, earlier / PSEUDO, records, classes)
    if not is_run(source):
        return _with_given(config, source, records, classes)
    open_ones = [record for record in records if _needs_guess(record, config.labels)]
    run = load_run(source, checkpoint=config.pseudo.checkpoint, device=str(device))
    seeded = with_seeds_of(run, open_ones, classes, console, folder=folder / FIRST, device=device)
    make, fingerprint = _stage(run, config.pseudo.threshold)
    with progress_bar("pseudo labels", console) as progress:
        tally = make_seeds(
            seeded,
            folder / PSEUDO,
            make,
            forms=run.config.labels,
            fingerprint=fingerprint,
            classes=classes,
            earlier=earlier and earlier / PSEUDO,
            workers=1,  # a network has threads of its own
            progress=progress,
        )
    console.print(
        f"pseudo labels of {source}: {tally.made} made, {tally.copied} copied, {tally.kept} were"
        f" there, in {folder / PSEUDO}",
        markup=False,
        soft_wrap=True,
    )
    return _guessing_all(config, folder / PSEUDO, records, classes)


def _guessing_all(
    config: TrainConfig, folder: Path, records: Sequence[Record], classes: Classes
) -> tuple[Record, ...]:
    """Let the records guess what the pseudo labels in a folder say."""
    result = []
    for record in records:
        needed = _needs_guess(record, config.labels)
        files = [seed_file(folder, record.name)] if needed else []
        result.append(guessing(record, files, classes, config.cam))
    return tuple(result)


def _check_kept(config: TrainConfig, source: Path, folder: Path, records: Sequence[Record]) -> None:
    """Make sure that a run has pseudo labels of its own, where what they were made by is gone."""
    for record in records:
        if _needs_guess(record, config.labels):
            file = seed_file(folder, record.name)
            fault = None
            if not file.is_file():
                fault = "no such pseudo label"
            elif not are_of_picture(folder, record):
                fault = f"the pseudo label of another picture than {record.image}"
            if fault is not None:
                raise DataError(
                    f"{file}: {fault}, and {source}, from which it could be made, is no run and no"
                    " folder of pseudo labels any more. Put that back."
                )


def _stage(run: Run, threshold: float) -> tuple[Make, str]:
    """A run's pseudo labels as a stage of `make_seeds`, and what decides them beside the labels."""

    def make(
        image: ImageArray, labels: Mapping[Form, Annotation], guesses: Sequence[MaskArray]
    ) -> Seeds:
        result = label_image(run, image, list(labels.values()), guesses, threshold=threshold)
        return Seeds(result.mask.numpy())

    config = run.config
    options: dict[str, object] = {
        "threshold": threshold,
        "image_scale": config.image_scale,
        "complete_labels": config.complete_labels,
        "decoder": config.decoder,
        "encoder": config.encoder,
        "method": config.method,
        "objective": dict(sorted(config.objective.items())),
    }
    if threshold and run.calibration is not None:
        options["calibration"] = run.calibration
    weights = f"{weights_digest(run.model)} {weights_digest(run.objective)}"
    return make, f"pseudo {options} {weights}"


def _needs_guess(record: Record, forms: Sequence[Form]) -> bool:
    """Whether the labels leave anything open: a dense mask says all."""
    return not ("dense" in forms and "dense" in record.labels)


def _with_given(
    config: TrainConfig, source: Path, records: Sequence[Record], classes: Classes
) -> tuple[Record, ...]:
    """Take the pseudo labels of a folder that ``agmm label`` has written."""
    result, missing = [], []
    for record in records:
        guesses: tuple[partial[MaskArray], ...] = ()
        if _needs_guess(record, config.labels):
            if not seed_file(source / "masks", record.name).is_file():
                missing.append(record.name)
            guesses = (partial(_read_given, source, record, classes, config),)
        result.append(replace(record, guesses=guesses))
    if missing:
        raise DataError(
            f"{source}: {len(missing)} of {len(records)} pictures have no pseudo label; looked for"
            f" {seed_file(source / 'masks', missing[0])}. Label them with agmm label, or remove the"
            " pictures."
        )
    return tuple(result)


def _read_given(source: Path, record: Record, classes: Classes, config: TrainConfig) -> MaskArray:
    mask = read_seeds(seed_file(source / "masks", record.name), record.image, classes, config.cam)
    if config.pseudo.threshold == 0:
        return mask
    path = seed_file(source / "confidence", record.name)
    with opened_image(path) as image:
        confidence = np.asarray(image)
    if confidence.shape != mask.shape or confidence.dtype != np.uint8:
        raise DataError(
            f"{path}: expected a confidence of {mask.shape} pixels (rows, columns) in grey of 8"
            f" bits, got {confidence.dtype} of {confidence.shape}. Write it again with agmm label."
        )
    # Rounded as the file's values are, so that no label of at least the threshold is lost.
    sure = confidence >= round(255 * config.pseudo.threshold)
    return np.where(sure, mask, np.uint8(IGNORE_INDEX))
