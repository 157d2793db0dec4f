"""Damaged data sets of every format: whatever is in them, the errors are ours.

The short version of ``benchmarks/fuzz_readers.py``.
"""

import runpy
import warnings
from pathlib import Path

HARNESS = Path(__file__).parents[2] / "benchmarks" / "fuzz_readers.py"


def test_damage_raises_nothing_but_our_errors() -> None:
    harness = runpy.run_path(str(HARNESS), run_name="fuzz_readers")
    samples = harness["tiny_samples"]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on damaged TIFF
        tally = harness["fuzz"](samples, seed=0, go_on=lambda count: count < 50 * len(samples))

    assert tally.defects == {}
    assert len(tally.inputs) == len(samples) == 13
    assert all(refused > 15 for refused in tally.refused.values())
