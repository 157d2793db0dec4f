"""Seeds for the forms that have none: class activation maps for tags, GrabCut for boxes."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float16, Float32
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import interpolate

from agmm.config import CamConfig, GrabCutConfig, TrainConfig
from agmm.datasets.classes import Classes
from agmm.datasets.records import Record
from agmm.errors import ConfigError
from agmm.labels.annotations import Annotation, Boxes, Tags
from agmm.labels.forms import Form
from agmm.models.classifier import Classifier
from agmm.progress import progress_bar
from agmm.seeds.cam import GRID_STRIDE, activation_maps, cam_seeds
from agmm.seeds.grabcut import grabcut_seeds
from agmm.seeds.reading import find_seeds, read_seeds
from agmm.seeds.store import Make, Seeds, make_seeds, seed_file
from agmm.shapes import ImageArray, MaskArray
from agmm.training.classify import fit_classifier

SeedForm = Literal["boxes", "tags"]
"""The forms of label whose seeds no annotator gave."""

SEED_FORMS: tuple[SeedForm, ...] = ("boxes", "tags")
"""The same, the one that says more first."""

CLASSIFIER = "classifier"
"""Folder of a run with the classifier of the tags."""

SEEDS = "seeds"
"""Folder of a run with a folder of seeds for each such form."""

Classify = Callable[[Sequence[Record]], Classifier]
"""From the tagged records to the classifier of their tags."""


def check_given(config: TrainConfig) -> None:
    """Make sure that seeds which the user gives are trained from.

    Raises:
        ConfigError: There are neither tags nor boxes that would have seeds, or pseudo labels are
            taken in their place.
    """
    if not config.seeds:
        return
    if config.pseudo.source is not None:
        raise ConfigError(
            f"--seeds: expected none with --labels pseudo:{config.pseudo.source}, which takes the"
            " pseudo labels in place of seeds; leave out one of the two"
        )
    if not set(SEED_FORMS) & set(config.labels):
        raise ConfigError(
            f"--seeds: expected tags or boxes, whose seeds they are, among --labels, got"
            f" {','.join(config.labels)}; add one of them, or leave out --seeds"
        )


def with_seeds(
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
    """Give the records with boxes or tags their seeds; those with a dense mask need none.

    With ``config.seeds`` the seeds are read from there, each once to see that it can be. Else they
    are made, unless they are there already: ``folder/boxes/NAME.png`` by GrabCut,
    ``folder/tags/NAME.png`` from class activation maps, and the maps in ``folder/tags/maps``. A
    stage that was stopped goes on where it was.

    Args:
        config: The training's config.
        records: Checked records.
        classes: The data set's classes.
        console: Where progress and counts are shown.
        folder: Where the seeds are written.
        device: Where the classifier makes its maps.
        classify: Gives the classifier; by default it is trained in ``config.out/classifier``.
        earlier: A folder of the same kind whose seeds are copied where nothing has changed.

    Returns:
        The same records, with ``guesses`` where their labels need them.

    Raises:
        AgmmError: Seeds that cannot be read or made, or a classifier that cannot be trained.
    """
    if config.seeds:
        return _with_given(config, records, classes, console)
    for form in SEED_FORMS:
        mine = [record for record in records if seeded_form(record, config.labels) == form]
        if not mine:
            continue
        if form == "tags":
            train = partial(_train_classifier, config, classes, console)
            make, fingerprint = _tag_stage(config, (classify or train)(mine), classes, device)
        else:
            make, fingerprint = _box_stage(config.grabcut)
        with progress_bar(f"seeds of {form}", console) as progress:
            tally = make_seeds(
                mine,
                folder / form,
                make,
                forms=(form,),
                fingerprint=fingerprint,
                classes=classes,
                earlier=earlier and earlier / form,
                workers=1 if form == "tags" else None,  # a network has threads of its own
                progress=progress,
            )
        console.print(
            f"seeds of {form}: {tally.made} made, {tally.copied} copied, {tally.kept} were there,"
            f" in {folder / form}",
            markup=False,
            soft_wrap=True,
        )
    result = []
    for record in records:
        made = seeded_form(record, config.labels)
        files = [] if made is None else [seed_file(folder / made, record.name)]
        result.append(guessing(record, files, classes, config.cam))
    return tuple(result)


def seeded_form(record: Record, forms: Sequence[Form]) -> SeedForm | None:
    """Which of a record's labels gives it seeds that the annotator did not draw.

    Args:
        record: The picture.
        forms: The forms that are trained from.

    Returns:
        Its boxes, else its tags, which say less; None for a picture that has neither, or a dense
        mask, which says all.
    """
    present = set(forms) & record.labels.keys()
    if "dense" in present:
        return None
    return next((form for form in SEED_FORMS if form in present), None)


def guessing(record: Record, files: Sequence[Path], classes: Classes, cam: CamConfig) -> Record:
    """Let a record guess what some files of seeds say; they are read when it is asked.

    Args:
        record: The picture.
        files: Its seeds, as `agmm.seeds.reading.read_seeds` reads them.
        classes: The data set's classes.
        cam: Thresholds for those that are activation maps.

    Returns:
        The record with these guesses, and no others.
    """
    readers = tuple(partial(read_seeds, file, record.image, classes, cam) for file in files)
    return replace(record, guesses=readers)


def _with_given(
    config: TrainConfig, records: Sequence[Record], classes: Classes, console: Console
) -> tuple[Record, ...]:
    """Take the seeds of the folders that the user gave."""
    result = []
    with progress_bar("reading the seeds", console) as progress:
        for done, record in enumerate(records, start=1):
            files: Sequence[Path] = ()
            if seeded_form(record, config.labels) is not None:
                files = find_seeds(config.seeds, record.name)
            result.append(guessing(record, files, classes, config.cam))
            for guess in result[-1].guesses:
                guess()
            progress(done, len(records))
    return tuple(result)


def _train_classifier(
    config: TrainConfig, classes: Classes, console: Console, tagged: Sequence[Record]
) -> Classifier:
    folder = config.out / CLASSIFIER
    return fit_classifier(config, tagged, len(classes), classes.background, folder, console)


def _box_stage(config: GrabCutConfig) -> tuple[Make, str]:
    """GrabCut as a stage of `make_seeds`, and what decides its seeds beside picture and boxes."""
    options = dataclasses.asdict(config)

    def make(image: ImageArray, labels: Mapping[Form, Annotation], _: Sequence[MaskArray]) -> Seeds:
        boxes = labels["boxes"]
        assert isinstance(boxes, Boxes)
        return Seeds(grabcut_seeds(image, boxes, **options))

    return make, f"grabcut {options}"


def _tag_stage(
    config: TrainConfig, model: Classifier, classes: Classes, device: torch.device | str
) -> tuple[Make, str]:
    """Activation maps as a stage of `make_seeds`, and what decides them beside picture and tags."""
    cam = config.cam
    model = model.to(device)

    def make(image: ImageArray, labels: Mapping[Form, Annotation], _: Sequence[MaskArray]) -> Seeds:
        tags = labels["tags"]
        assert isinstance(tags, Tags)
        named = sorted({int(k) for k in tags.classes} - {classes.background})
        maps = activation_maps(
            model,
            image,
            named,
            scales=[scale * config.image_scale for scale in cam.scales],
            flip=cam.flip,
            refine=cam.refine,
            device=device,
        )
        mask = cam_seeds(
            maps,
            named,
            classes.background,
            foreground=cam.foreground,
            background_below=cam.background,
            margin=cam.margin,
        )
        kept = {"maps": _coarse(maps), "classes": np.array(named, np.uint8)}
        return Seeds(mask, kept)

    return make, f"cam {cam} {config.image_scale} {weights_digest(model)}"


def _coarse(maps: Float32[Tensor, "n H W"]) -> Float16[np.ndarray, "n h w"]:
    """The maps at the stride that they were refined at."""
    size = [-(-side // GRID_STRIDE) for side in maps.shape[1:]]
    if not len(maps):
        return np.zeros((0, *size), np.float16)
    return interpolate(maps[None], size, mode="area")[0].numpy().astype(np.float16)


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a network's weights."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
