"""What the commands need that load a run."""

from collections.abc import Sequence
from pathlib import Path

import torch

from agmm.datasets.mapping import mapped, read_mapping
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Dataset
from agmm.errors import ConfigError
from agmm.training.run import MAPPING, Run


def pick_device(name: str) -> torch.device:
    """``auto`` is the first GPU where there is one, else the CPU.

    Raises:
        ConfigError: If torch knows no such device, or cannot use it here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"--device: cannot use {name!r} here ({error}); give auto or cpu"
        ) from error


def dataset_for(run: Run, data: Path | str, *, format: str, mapping: Path | None) -> Dataset:  # noqa: A002
    """List a data set with the classes of a run: mapped as its training data were.

    Args:
        run: The run. Its mapping is left out where the data set has the classes of the run already.
        data: Folder of the data set.
        format: Layout of the data set.
        mapping: A mapping file to take instead of the run's.

    Raises:
        DataError: If the data set or the mapping cannot be read, or do not fit each other.
    """
    listed = read_dataset(data, format=format, mapping=mapping)
    stored = run.path / MAPPING
    if mapping is None and stored.is_file() and listed.classes.names != run.classes.names:
        return mapped(listed, read_mapping(stored))
    return listed


def same_classes(run: Run, names: Sequence[str], data: Path | str) -> None:
    """Make sure that a data set has the classes of a run, in their order.

    Raises:
        ConfigError: If it does not.
    """
    if tuple(names) != run.classes.names:
        raise ConfigError(
            f"{data}: has the classes {', '.join(names)}, but {run.path} was trained with "
            f"{', '.join(run.classes.names)}; give a data set with the same classes.txt"
        )
