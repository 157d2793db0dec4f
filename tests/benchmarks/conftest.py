"""What the harnesses of the benchmarks change is given back."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def same_threads() -> Iterator[None]:
    """Give back the number of threads that the harness changes."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
