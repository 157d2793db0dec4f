"""Pictures and their labels, found in different places, to records."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from agmm.datasets.beside import Label
from agmm.datasets.classes import Classes
from agmm.datasets.records import Dataset, Record, Unmatched
from agmm.errors import DataError
from agmm.labels.forms import Form

Labels = Mapping[Form, Mapping[str, Label]]
"""For each form, path to label: "NAME", or "SPLIT/NAME" where its place says the split."""

Key = tuple[str, str]
"""Split and name of a picture."""


def assembled(
    root: Path,
    classes: Classes,
    images: Mapping[Key, Path],
    labels: Labels,
    *,
    splits_known: bool,
) -> Dataset:
    """Give every picture its labels.

    Args:
        root: The data set's folder.
        classes: Its classes.
        images: Split and name of each picture to its file.
        labels: The labels that were found.
        splits_known: Whether the first folder in a label's path is a split only if there are
            pictures of this split; else it always is one.

    Returns:
        The records of all splits, sorted by name, and the labels without a picture.

    Raises:
        DataError: A picture with two labels of one form, or a label for two pictures.

    Example:
        >>> classes = Classes(("cat",), ((0, 0, 0),))
        >>> dataset = assembled(
        ...     Path("data"), classes, {("train", "a"): Path("data/a.jpg")}, {}, splits_known=True
        ... )
        >>> [record.name for record in dataset.split("train")]
        ['a']
    """
    splits: dict[str, list[Record]] = {split: [] for split in sorted({key[0] for key in images})}
    used: dict[tuple[Form, str], Path] = {}
    for split, name in sorted(images):
        image = images[split, name]
        paths = _labels_of(split, name, image, labels)
        for form, path in paths.items():
            if (form, path) in used:
                raise DataError(
                    f"{labels[form][path].file}: is the label of both {used[form, path]} and"
                    f" {image}. Say its split, as in '{split}/{path}'."
                )
            used[form, path] = image
        readers = {form: partial(labels[form][path].read, image) for form, path in paths.items()}
        splits[split].append(Record(name, image, readers))
    unmatched = tuple(
        _unmatched(path, found[path].file, form, set(splits) if splits_known else None)
        for form, found in labels.items()
        for path in sorted(found)
        if (form, path) not in used
    )
    records = {split: tuple(listed) for split, listed in splits.items()}
    return Dataset(root, classes, records, unmatched=unmatched)


def _labels_of(split: str, name: str, image: Path, labels: Labels) -> dict[Form, str]:
    """Find the labels of a picture, by its split and name or its name alone; give their paths."""
    result: dict[Form, str] = {}
    for form, of in labels.items():
        found = [path for path in (f"{split}/{name}", name) if path in of]
        if len(found) > 1:
            first, second = (of[path].file for path in found)
            raise DataError(
                f"{image}: has two labels of the form {form}, {first} and {second}. Remove one of"
                " them."
            )
        result |= dict.fromkeys([form], found[0]) if found else {}
    return result


def _unmatched(path: str, file: Path, form: Form, splits: set[str] | None) -> Unmatched:
    """Describe a label without a picture; with ``splits`` None every folder is a split."""
    split, _, name = path.partition("/")
    if name and (splits is None or split in splits):
        return Unmatched(name, file, form, split)
    return Unmatched(path, file, form, None)
