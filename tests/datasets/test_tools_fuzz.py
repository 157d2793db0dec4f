"""Damaged data sets of every format: whatever is in them, the errors are ours.

The short version of ``python -m tests.datasets.fuzzing``.
"""

import warnings

from agmm.datasets.reader import FORMATS
from tests.datasets.fuzzing import fuzz
from tests.datasets.samples import tiny_samples


def test_every_format_has_a_sample() -> None:
    """The choices among COCO's kinds share a reader."""
    named = {sample.format for sample in tiny_samples()}
    assert {name for name in FORMATS if not name.startswith("coco-")} - named == {"auto"}


def test_damage_raises_nothing_but_our_errors() -> None:
    samples = tiny_samples()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on damaged TIFF
        tally = fuzz(samples, seed=0, go_on=lambda count: count < 50 * len(samples))

    assert tally.defects == {}
    assert len(tally.inputs) == len(samples)
    assert all(tally.refused[sample.name] > 10 for sample in samples)
