"""What the tests of several readers ask a data set."""

from agmm.datasets.records import Dataset, Record
from agmm.labels.annotations import DenseMask

Rows = list[list[int]]


def names(dataset: Dataset) -> dict[str, list[str]]:
    """The pictures of each split."""
    return {split: [r.name for r in records] for split, records in dataset.splits.items()}


def mask(record: Record) -> Rows:
    """The dense mask of a picture, row by row."""
    label = record.labels["dense"]()
    assert isinstance(label, DenseMask)
    rows: Rows = label.mask.tolist()
    return rows


def masks(dataset: Dataset) -> dict[str, dict[str, Rows]]:
    """All dense masks, by split and name."""
    return {
        split: {record.name: mask(record) for record in records}
        for split, records in dataset.splits.items()
    }
