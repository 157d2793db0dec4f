"""Where pseudo labels come from: an earlier run, or a folder that ``agmm label`` has written."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agmm.config import read_config
from agmm.datasets.classes import read_classes
from agmm.errors import ConfigError, DataError
from agmm.labels.forms import FORMS, Form
from agmm.training.labelling import ABOUT


def is_run(source: Path) -> bool:
    """Whether a source is a run, and not a folder of pseudo labels."""
    return (source / "config.yaml").is_file()


@dataclass(frozen=True)
class About:
    """What a source says of itself; nothing of a folder that another tool has written.

    Args:
        labels: Forms of label that the pseudo labels were made from.
        classes: Names of its classes; None if it does not say.
        complete: Whether the labels named all classes of their pictures.
    """

    labels: tuple[Form, ...] = ()
    classes: tuple[str, ...] | None = None
    complete: bool = False


def about_source(source: Path) -> About:
    """Read what a source says of itself.

    Raises:
        ConfigError: It is neither a run nor a folder of pseudo labels.
        DataError: What ``agmm label`` has noted there is damaged.
    """
    if is_run(source):
        config = read_config(source / "config.yaml")
        names = read_classes(source / "classes.txt").names
        return About(config.labels, names, config.complete_labels)
    if not (source / "masks").is_dir():
        raise ConfigError(
            f"--labels pseudo:{source}: neither a run (no config.yaml in it) nor a folder of pseudo"
            " labels (no masks/); give the --out of agmm train or of agmm label"
        )
    path = source / ABOUT
    if not path.is_file():
        return About()
    try:
        told: Any = json.loads(path.read_text(encoding="utf-8"))
        labels, classes, complete = told["labels"], told["classes"], told["complete_labels"]
        known = all(form in FORMS for form in labels) and all(isinstance(n, str) for n in classes)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not as agmm label writes it ({error!r}). Label again.") from error
    if not known or not isinstance(complete, bool):
        raise DataError(f"{path}: names unknown labels or no classes. Label again.")
    return About(tuple(labels), tuple(classes), complete)
