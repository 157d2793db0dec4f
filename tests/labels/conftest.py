"""Fixtures for the tests of labels."""

from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture
def as_users_call() -> Iterator[None]:
    """Switch the test-time check of array shapes off, so that our own messages are met."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
