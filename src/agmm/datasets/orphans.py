"""Labels that no picture is trained with, and why that is a fault."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from agmm.datasets.places import split_name
from agmm.datasets.records import Dataset, Skipped, Unmatched
from agmm.labels.forms import Form


def orphans(dataset: Dataset, required: Mapping[str, Sequence[Form]]) -> dict[str, list[Skipped]]:
    """Find the labels without a picture among the forms that count in their split.

    Labels of pictures that lists leave out on purpose are left out with them.

    Args:
        dataset: The data set.
        required: Split to the forms of label that count there.

    Returns:
        For each split its faults. A label whose folder says no split is told once, in the first
        split that its form counts in.

    Example:
        >>> from agmm.datasets.classes import Classes
        >>> label = Unmatched("a", Path("points/a.png"), "points", None)
        >>> found = Dataset(Path(), Classes(("cat",), ((0, 0, 0),)), {}, unmatched=(label,))
        >>> [fault.reason for fault in orphans(found, {"train": ("points",)})["train"]]
        ["points/a.png: there is no picture 'a' for this label. Add the picture, or remove ..."]
    """
    by_name: dict[str, list[Path]] = {}
    for file in dataset.unused:
        by_name.setdefault(file.stem, []).append(file)
    result: dict[str, list[Skipped]] = {split: [] for split in required}
    for label in dataset.unmatched:
        files = by_name.get(label.name.rpartition("/")[2], ())
        picture = next((file for file in files if _fits(label, file, dataset.root)), None)
        if picture is not None and dataset.unused_as == "in no list":
            continue
        for split, forms in required.items():
            if label.form in forms and label.split in {split, None}:
                reason = _reason(dataset, label, picture)
                result[split].append(Skipped(label.name, label.file, reason))
                break
    return result


def _fits(label: Unmatched, picture: Path, root: Path) -> bool:
    """Whether a picture has the label's folders, and is in its split."""
    path = picture.relative_to(root).with_suffix("")
    splits = {split_name(part) for part in path.parts}
    named = f"/{path.as_posix()}".endswith(f"/{label.name}")
    return named and (label.split is None or label.split in splits)


def _reason(dataset: Dataset, label: Unmatched, picture: Path | None) -> str:
    if picture is None:
        return (
            f"{label.file}: there is no picture {label.name!r} for this label. Add the picture,"
            " or remove the label."
        )
    unread = dataset.unused_as == "of a type that is not read"
    return (
        f"{label.file}: its picture {picture} is {dataset.unused_as} and not used."
        f" {'Save it as JPEG or PNG' if unread else 'Name it there'}, or remove the label."
    )
