"""Pictures and their labels, found in different places, to records."""

from collections.abc import Container, Iterable, Mapping, Set
from functools import partial
from pathlib import Path

from agmm.datasets.beside import Label, add_label
from agmm.datasets.classes import Classes
from agmm.datasets.places import split_name
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
            pictures of this split, and may be another spelling of it; else it always is one.

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
    if splits_known:
        labels = in_known_splits(labels, {name for _, name in images}, {*splits})
    used: dict[tuple[Form, str], Path] = {}
    for split, name in sorted(images):
        image = images[split, name]
        paths = labels_of((f"{split}/{name}", name), image, labels)
        for form, path in paths.items():
            if (form, path) in used:
                raise DataError(
                    f"{labels[form][path].file}: is the label of both {used[form, path]} and"
                    f" {image}. Say its split, as in '{split}/{path}'."
                )
            used[form, path] = image
        splits[split].append(labelled(name, image, paths, labels))
    unmatched = tuple(
        without_picture(path, found[path].file, form, set(splits) if splits_known else None)
        for form, found in labels.items()
        for path in sorted(found)
        if (form, path) not in used
    )
    records = {split: tuple(listed) for split, listed in splits.items()}
    return Dataset(root, classes, records, unmatched=unmatched)


def in_known_splits(
    labels: Labels, names: Container[str], splits: Set[str]
) -> dict[Form, dict[str, Label]]:
    """Give labels the split of their pictures where a path has another spelling of it.

    Args:
        labels: The labels that were found.
        names: The names of all pictures, which may have folders of their own.
        splits: Those that there are.

    Returns:
        The same with "train/a" for "training/a", if there is a split "train" but neither a split
        "training" nor a picture "training/a".

    Raises:
        DataError: Two labels of one form for one picture, such as "train/a" and "training/a".

    Example:
        >>> label = Label(Path("points/training/a.png"), lambda image: ...)
        >>> [*in_known_splits({"points": {"training/a": label}}, {"a"}, {"train"})["points"]]
        ['train/a']
    """
    result: dict[Form, dict[str, Label]] = {form: {} for form in labels}
    for form, of in labels.items():
        for path, label in of.items():
            first, _, name = path.partition("/")
            split = split_name(first)
            moved = name and split in splits and first not in splits and path not in names
            add_label(result[form], f"{split}/{name}" if moved else path, label)
    return result


def labels_of(places: Iterable[str], image: Path, labels: Labels) -> dict[Form, str]:
    """Find the labels of a picture.

    Args:
        places: The paths that they may have: "SPLIT/NAME" and "NAME".
        image: The picture, for the message.
        labels: The labels that were found.

    Returns:
        For each form that the picture has, the path of its label.

    Raises:
        DataError: It has two labels of one form.

    Example:
        >>> label = Label(Path("points/a.png"), lambda image: ...)
        >>> labels_of(("train/a", "a"), Path("a.jpg"), {"points": {"a": label}})
        {'points': 'a'}
    """
    result: dict[Form, str] = {}
    tried = tuple(places)
    for form, of in labels.items():
        found = [path for path in tried if path in of]
        if len(found) > 1:
            first, second = (of[path].file for path in found)
            raise DataError(
                f"{image}: has two labels of the form {form}, {first} and {second}. Remove one of"
                " them."
            )
        result |= dict.fromkeys([form], found[0]) if found else {}
    return result


def labelled(name: str, image: Path, paths: Mapping[Form, str], labels: Labels) -> Record:
    """Make the record of a picture.

    Args:
        name: Its name.
        image: Its file.
        paths: The paths of its labels, as `labels_of` gives them.
        labels: The labels that were found.

    Returns:
        The record.

    Example:
        >>> labelled("a", Path("a.jpg"), {}, {}).name
        'a'
    """
    readers = {form: partial(labels[form][path].read, image) for form, path in paths.items()}
    return Record(name, image, readers)


def without_picture(path: str, file: Path, form: Form, splits: Set[str] | None) -> Unmatched:
    """Describe a label without a picture.

    Args:
        path: Its path, "NAME" or "SPLIT/NAME".
        file: Where it stands.
        form: Its form.
        splits: Those that there are; None if every folder is one.

    Returns:
        Its description.

    Example:
        >>> without_picture("val/a", Path("points/val/a.png"), "points", {"train", "val"}).split
        'val'
    """
    split, _, name = path.partition("/")
    if name and (splits is None or split in splits):
        return Unmatched(name, file, form, split)
    return Unmatched(path, file, form, None)
